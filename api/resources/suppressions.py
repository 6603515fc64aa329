"""Suppressions: whom not to write to, why, and since when."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, invalid
from api.core.fields import page_of
from api.core.resource import Resource, also_answers, answers, takes
from api.resources import suppression_checks, suppression_files
from api.resources.suppression_fields import (
    DomainLiftQuery,
    Lifted,
    LiftQuery,
    NewSuppression,
    Suppression,
    SuppressionQuery,
    Why,
    given,
    shown,
    told,
    wanted,
)
from shared import targets
from shared.suppression import explain
from shared.suppression import queries as suppression_pages
from shared.suppression import store as suppressions
from shared.suppression.explain import Case
from shared.suppression.store import BeingImportedError, Entry, NewEntry
from shared.targets import Target
from shared.vocabulary import SuppressionOrigin

_IMPORT_TAKES_SECONDS = 30


class _Lifting(Resource):
    """What lifts suppressions."""

    def lift(self, target: Target, query: dict[str, Any]) -> dict[str, Any]:
        """Lift what is asked for. Raises ProblemError: 404 where nothing was lifted, 503 where that must wait."""
        try:
            lifted, case = self._lift(target, self.own_tenant(query.get("tenant")), query)
        except BeingImportedError as error:
            raise ProblemError(503, str(error), headers={"Retry-After": str(_IMPORT_TAKES_SECONDS)}) from None
        if not lifted:
            raise ProblemError(
                404,
                f"Nothing that was asked for suppresses {target.name}. That it was to be lifted is remembered:"
                " nothing that happened until now will suppress it when it is heard of later.",
            )
        return {"lifted": [shown(entry) for entry in lifted], "suppressed": case.is_suppressed}

    def _lift(self, target: Target, tenant: str | None, query: dict[str, Any]) -> tuple[list[Entry], Case]:
        key, reason = self.deps.keys.of(target), query.get("reason")
        with self.deps.engine.begin() as connection:
            lifted = suppressions.lift(
                connection,
                keys=[key],
                tenant=tenant,
                reason=reason,
                actor=self.caller.name,
                note=query.get("note"),
            )
            # By its key, not by its address: what is erased is erased here, too.
            self.audit(connection, "suppression.lifted", f"suppression:{key}", reason=reason, of=tenant)
            now = datetime.now(UTC)
            return lifted, explain.why(connection, target, self.deps.keys, now, tenant=self.caller.tenant)


class Suppressions(_Lifting):
    """All suppressions."""

    rule = "/v1/suppressions"
    tenancy = TenantAccess.OWN

    @takes(SuppressionQuery, location="query")
    @answers(200, page_of(Suppression, "SuppressionPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List suppressions, those announced last first."""
        asked = wanted({**query, "tenant": self.own_tenant(query.get("tenant"))}, self.deps.keys)
        after = pagination.decode(query.get("cursor"), pagination.BY_ID)
        with self.deps.engine.begin() as connection:
            page = suppression_pages.listed(connection, datetime.now(UTC), asked, after=after, limit=query["limit"])
        return {"items": [shown(entry) for entry in page.items], "next_cursor": pagination.encode(page.next)}

    @takes(NewSuppression)
    @answers(201, Suppression)
    @also_answers(200, schema=Suppression, description="It was there already")
    def post(self, body: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Suppress an address or a domain. Idempotent: it replaces what was asked for with this reason before."""
        target, now = given(body), datetime.now(UTC)
        if body.get("expires_at") is not None and body["expires_at"] <= now:
            raise invalid({"expires_at": ["Must be in the future."]})
        new = NewEntry(
            key=self.deps.keys.of(target),
            address=target.address,
            domain=target.domain,
            reason=body["reason"],
            types=frozenset(body["types"]),
            origin=SuppressionOrigin.PERSON,
            since=now,
            tenant=self.own_tenant(body["tenant"]) or "",
            until=body.get("expires_at"),
            classification=body.get("classification"),
            actor=self.caller.name,
            note=body.get("note"),
        )
        with self.deps.engine.begin() as connection:
            added = suppressions.add(connection, [new], now)
            wishes = {name: value for name, value in body.items() if name in ("reason", "types", "expires_at")}
            self.audit(connection, "suppression.added", f"suppression:{new.key}", **wishes, of=new.tenant)
            entries = suppressions.find(connection, new.key)
        place = (new.tenant, new.reason, new.origin)
        (entry,) = (entry for entry in entries if (entry.tenant, entry.reason, entry.origin) == place)
        return shown(entry), 201 if added else 200, {"Location": f"/v1/suppressions/{quote(target.name)}"}

    @takes(DomainLiftQuery, location="query")
    @answers(200, Lifted)
    def delete(self, query: dict[str, Any]) -> dict[str, Any]:
        """Lift the suppression of a domain, as that of an address is lifted."""
        return self.lift(given({"domain": query["domain"]}), query)


class OneAddress(_Lifting):
    """One address, or `@` and a domain."""

    rule = "/v1/suppressions/<path:address>"
    tenancy = TenantAccess.OWN

    @answers(200, Why)
    def get(self, address: str) -> dict[str, Any]:
        """Show why an address is suppressed, or is not.

        What suppresses it and its domain, all that was ever added, lifted and ended, and the events behind it.
        """
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            tenant = self.caller.tenant
            return told(explain.why(connection, targets.named(address), self.deps.keys, now, tenant=tenant))

    @takes(LiftQuery, location="query")
    @answers(200, Lifted)
    def delete(self, query: dict[str, Any], address: str) -> dict[str, Any]:
        """Lift what suppresses an address, or `@` and a domain.

        Nothing that happened or was received until now will suppress it again, whenever it is heard of or processed
        again. 404 where nothing suppressed it, and that is remembered all the same.
        """
        return self.lift(targets.named(address), query)


RESOURCES = (Suppressions, OneAddress, *suppression_checks.RESOURCES, *suppression_files.RESOURCES)
