"""Suppressions: add, lift and list them, and explain why an address is suppressed or is not."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from marshmallow import Schema, fields, validate

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, invalid
from api.core.fields import (
    Instant,
    PageQuery,
    Strict,
    identifier,
    instant,
    page_of,
    query_text,
    text,
    word,
    word_or_null,
)
from api.core.resource import Resource, also_answers, answers, takes
from api.core.source_filter import require_sources
from api.resources import suppression_checks, suppression_files
from api.resources.events import Event
from api.resources.suppression_files import Filters, read_filters, tenant_field
from shared.addresses import AddressError, Target, parse_domain, parse_lookup, parse_target
from shared.errors import ConflictError
from shared.suppression import csv_files, queries, store
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import Classification, MailType, SuppressionAction, SuppressionOrigin, SuppressionReason

_IMPORT_SECONDS = 30


_NOTE = fields.String(
    validate=validate.Length(max=csv_files.MAX_NOTE_LENGTH), metadata={"description": "A remark for people."}
)


class SuppressionQuery(PageQuery, Filters):
    """Which suppressions, and which part of the list."""


class Suppression(Schema):
    """An entry of the list. An address has one for each tenant, reason and origin."""

    address = text("Null if the entry is about a domain, or the address was erased.")
    domain = text("Null if the entry is about an address.")
    reason = fields.String(metadata={"enum": list(map(str, SuppressionReason))})
    classification = word_or_null(Classification, "Classification of the failure that was the reason.")
    types = fields.List(word(MailType), metadata={"description": "Which mail is suppressed."})
    tenant = text("Null: it holds for all tenants.")
    source = text("The source of the event or of the provider's list that the entry comes from.")
    origin = fields.String(
        metadata={"enum": list(map(str, SuppressionOrigin)), "description": "What put it on the list."}
    )
    since = Instant(metadata={"description": "When the reason arose."})
    created_at = Instant()
    expires_at = instant("Null: never.")
    evidence_event_id = identifier("The event that caused it.", allow_none=True)
    level = fields.Integer(
        metadata={
            "description": "How many times in a row the soft-bounce rule has suppressed the address; each level lasts"
            " longer."
        }
    )
    actor = text("The person or the API key that added it.")
    note = text()


class NewSuppression(Strict):
    """An address or a domain to suppress."""

    address = query_text("One address, in any form; or `@` and a domain.")
    domain = query_text("Suppresses all addresses of this domain, but not of its subdomains.")
    types = fields.List(
        fields.Enum(MailType, by_value=True),
        load_default=list(MailType),
        validate=validate.Length(min=1),
        metadata={"description": "Which mail; all mail if not given."},
    )
    tenant = tenant_field("For this tenant only.", load_default="")
    reason = fields.Enum(SuppressionReason, by_value=True, load_default=SuppressionReason.MANUAL)
    classification = fields.Enum(Classification, by_value=True)
    expires_at = instant("When it ends; never if null or not given.")
    note = _NOTE


class LiftQuery(Strict):
    """What to lift; everything if nothing is given."""

    reason = fields.Enum(SuppressionReason, by_value=True, metadata={"description": "Only this reason."})
    tenant = tenant_field("Only this tenant's entries; empty: only those for all tenants.")
    note = _NOTE


class DomainLiftQuery(LiftQuery):
    """What to lift of a domain."""

    domain = query_text("The domain whose own entries are lifted.", required=True)


class Lifted(Schema):
    """The lifted entries, and whether another entry (of its domain, for another reason) still suppresses it."""

    lifted = fields.List(fields.Nested(Suppression))
    suppressed = fields.Boolean()


class Step(Schema):
    """One change of an entry."""

    at = Instant()
    action = fields.String(metadata={"enum": list(map(str, SuppressionAction))})
    address = text()
    domain = text()
    reason = word(SuppressionReason)
    types = fields.List(word(MailType))
    tenant = text()
    classification = word_or_null(Classification)
    origin = word(SuppressionOrigin)
    source = text()
    since = instant()
    expires_at = instant()
    level = fields.Integer()
    event_id = identifier("The event that caused it.", allow_none=True)
    actor = text()
    note = text()


class Lift(Schema):
    """A lift: events that happened or were received before it suppress no more."""

    lifted_at = Instant()
    tenant = text("Null: for every tenant.")
    reason = word_or_null(SuppressionReason, "Null: for every reason.")
    by_event = fields.Boolean(
        metadata={"description": "True if the recipient subscribed again, false if a person lifted it."}
    )


class Why(Schema):
    """Why something is suppressed, or is not."""

    address = text()
    domain = text()
    suppressed = fields.Boolean()
    entries = fields.List(fields.Nested(Suppression), metadata={"description": "Active entries."})
    ended = fields.List(fields.Nested(Suppression), metadata={"description": "Expired entries."})
    history = fields.List(fields.Nested(Step), metadata={"description": "Oldest first."})
    lifts = fields.List(fields.Nested(Lift), metadata={"description": "All remembered lifts."})
    events = fields.List(
        fields.Nested(Event), metadata={"description": "The evidence, in the order in which it happened."}
    )


def read_target(body: dict[str, Any]) -> Target:
    """Return the address or the domain that a body names. Raises ProblemError (422)."""
    address, domain = body.get("address"), body.get("domain")
    if (address is None) == (domain is None):
        raise invalid({"address": ["Give either an address or a domain."]})
    try:
        return parse_target(address) if address is not None else parse_domain(domain or "")
    except AddressError as error:
        raise invalid({"address" if address is not None else "domain": [str(error)]}) from None


def dump(entry: Entry) -> dict[str, Any]:
    """Return an entry as the API shows it."""
    return {**entry._asdict(), "tenant": entry.tenant or None}


class _Lifting(Resource):
    """A resource whose DELETE lifts suppressions."""

    def lift(self, target: Target, query: dict[str, Any]) -> dict[str, Any]:
        """Lift the entries that match. Raises ProblemError: 404 if there are none, 503 while an import writes them."""
        key, reason, tenant = self.deps.hasher.hash_target(target), query.get("reason"), query.get("tenant")
        tenant, note = self.resolve_tenant(tenant), query.get("note")
        try:
            with self.deps.engine.begin() as connection:
                lifted = store.lift(
                    connection, keys=[key], tenant=tenant, reason=reason, actor=self.caller.name, note=note
                )
                if not lifted:
                    queries.require_address(target.name)
                # By its key, not by its address: an erased address must not remain in the audit log.
                self.audit(connection, "suppression.lifted", f"suppression:{key}", reason=reason, of=tenant)
                now = datetime.now(UTC)
                found = queries.explain(connection, target, self.deps.hasher, now, tenant=self.caller.tenant)
        except ConflictError as error:
            raise ProblemError(503, str(error), headers={"Retry-After": str(_IMPORT_SECONDS)}) from None
        if not lifted:
            raise ProblemError(
                404,
                f"No matching entry suppresses {target.name}. The lift is remembered: events that happened until now"
                " will not suppress it when they arrive later.",
            )
        return {"lifted": [dump(entry) for entry in lifted], "suppressed": found.is_suppressed}


class Suppressions(_Lifting):
    """All suppressions."""

    rule = "/v1/suppressions"
    tenancy = TenantAccess.OWN

    @takes(SuppressionQuery, location="query")
    @answers(200, page_of(Suppression, "SuppressionPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List suppressions, the most recently announced first."""
        filters = read_filters({**query, "tenant": self.resolve_tenant(query.get("tenant"))}, self.deps.hasher)
        after = pagination.decode(query.get("cursor"), pagination.BY_ID)
        with self.deps.reading.connect() as connection:
            require_sources(connection, self.caller, query)
            page = queries.list_newest(connection, datetime.now(UTC), filters, after=after, limit=query["limit"])
        return {"items": [dump(entry) for entry in page.items], "next_cursor": pagination.encode(page.next)}

    @takes(NewSuppression)
    @answers(201, Suppression)
    @also_answers(200, schema=Suppression, description="It existed already.")
    def post(self, body: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Suppress an address or a domain. Idempotent: it replaces the earlier request with the same reason."""
        target, now = read_target(body), datetime.now(UTC)
        if body.get("expires_at") is not None and body["expires_at"] <= now:
            raise invalid({"expires_at": ["Must be in the future."]})
        new = NewEntry(
            key=self.deps.hasher.hash_target(target),
            address=target.address,
            domain=target.domain,
            reason=body["reason"],
            types=frozenset(body["types"]),
            origin=SuppressionOrigin.PERSON,
            since=now,
            tenant=self.resolve_tenant(body["tenant"]) or "",
            until=body.get("expires_at"),
            classification=body.get("classification"),
            actor=self.caller.name,
            note=body.get("note"),
        )
        with self.deps.engine.begin() as connection:
            added = store.add(connection, [new], now)
            details = {name: value for name, value in body.items() if name in ("reason", "types", "expires_at")}
            self.audit(connection, "suppression.added", f"suppression:{new.key}", **details, of=new.tenant)
            entries = queries.get_entries(connection, new.key)
        wanted = (new.tenant, new.reason, new.origin)
        (entry,) = (entry for entry in entries if (entry.tenant, entry.reason, entry.origin) == wanted)
        return dump(entry), 201 if added else 200, {"Location": f"/v1/suppressions/{quote(target.name)}"}

    @takes(DomainLiftQuery, location="query")
    @answers(200, Lifted)
    def delete(self, query: dict[str, Any]) -> dict[str, Any]:
        """Lift the suppression of a domain, in the same way as that of an address."""
        return self.lift(read_target({"domain": query["domain"]}), query)


class OneAddress(_Lifting):
    """One address, or `@` and a domain."""

    rule = "/v1/suppressions/<path:address>"
    tenancy = TenantAccess.OWN

    @answers(200, Why)
    def get(self, address: str) -> dict[str, Any]:
        """Show why an address is suppressed, or is not.

        Returns the entries of the address and its domain, their history, all lifts, and the events that are the
        evidence.
        """
        target, now = parse_lookup(address), datetime.now(UTC)
        with self.deps.reading.connect() as connection:
            found = queries.explain(connection, target, self.deps.hasher, now, tenant=self.caller.tenant)
        return {
            "address": target.address,
            "domain": target.domain,
            "suppressed": found.is_suppressed,
            "entries": [dump(entry) for entry in found.entries],
            "ended": [dump(entry) for entry in found.ended],
            "history": [{**step, "tenant": step["tenant"] or None} for step in found.history],
            "lifts": found.lifts,
            "events": found.events,
        }

    @takes(LiftQuery, location="query")
    @answers(200, Lifted)
    def delete(self, query: dict[str, Any], address: str) -> dict[str, Any]:
        """Lift the suppression of an address, or of `@` and a domain.

        Nothing that happened or was received until now will suppress it again, even if it arrives or is processed
        again later. 404 if nothing suppressed it; the lift is remembered anyway.
        """
        return self.lift(parse_lookup(address), query)


RESOURCES = (Suppressions, OneAddress, *suppression_checks.RESOURCES, *suppression_files.RESOURCES)
