"""Checking addresses against the suppression list: what an application asks before it sends."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from flask import Response
from marshmallow import Schema, fields, validate

from api.core.auth import TenantAccess
from api.core.fields import LONGEST_TEXT, Strict, instant, text
from api.core.resource import Resource, answers, takes
from api.resources.suppression_fields import for_tenant
from shared.auth.keys import Scope
from shared.suppression import check
from shared.suppression.store import Entry
from shared.vocabulary import MailType

MOST_ADDRESSES = 10_000
_MOST_BYTES = 8 << 20


class Check(Strict):
    """Addresses to be looked up."""

    addresses = fields.List(
        fields.String(validate=validate.Length(max=LONGEST_TEXT)),
        required=True,
        validate=validate.Length(1, MOST_ADDRESSES),
        metadata={"description": f"In any form, at most {MOST_ADDRESSES:,}."},
    )
    type = fields.Enum(MailType, by_value=True, metadata={"description": "For this mail; for any, if not given."})
    tenant = for_tenant("For mail of this tenant, empty for mail of none; for any, if not given.")


class Checked(Schema):
    """One answer. Where several entries suppress an address, its own comes first, and of these what holds longest."""

    address = fields.String(metadata={"description": "As it was asked."})
    suppressed = fields.Boolean()
    reason = text()
    classification = text()
    types = fields.List(fields.String(), allow_none=True)
    tenant = text("Null where it holds for all.")
    origin = text()
    since = instant()
    expires_at = instant("Null where it is for good.")
    domain = text("The domain, where that is what is suppressed.")


class Results(Schema):
    """The answers, in the order asked."""

    results = fields.List(fields.Nested(Checked))


class Checks(Resource):
    """Whether mail to these addresses is suppressed."""

    rule = "/v1/suppressions/check"
    tenancy = TenantAccess.OWN
    scopes: ClassVar = {"POST": Scope.READ}
    most_bytes: ClassVar = {"POST": _MOST_BYTES}

    @takes(Check)
    @answers(200, Results)
    def post(self, body: dict[str, Any]) -> Response:
        """Check up to 10,000 addresses at once; the answers are in the order asked."""
        asked: Sequence[str] = body["addresses"]
        with self.deps.reading.connect() as connection:
            found = check.check(
                connection,
                asked,
                self.deps.keys,
                datetime.now(UTC),
                type=body.get("type"),
                tenant=self.own_tenant(body.get("tenant")),
            )
        results = [_answer(address, entry) for address, entry in zip(asked, found, strict=True)]
        # Encoded as it is: taking 10,000 answers through the schema would take longer than all the rest.
        return Response(msgspec.json.encode({"results": results}), mimetype="application/json")


_NOT_SUPPRESSED = dict.fromkeys(
    ("reason", "classification", "types", "tenant", "origin", "since", "expires_at", "domain")
)


def _answer(address: str, entry: Entry | None) -> dict[str, Any]:
    if entry is None:
        return {"address": address, "suppressed": False, **_NOT_SUPPRESSED}
    return {
        "address": address,
        "suppressed": True,
        "reason": entry.reason,
        "classification": entry.classification,
        "types": entry.types,
        "tenant": entry.tenant or None,
        "origin": entry.origin,
        "since": entry.since,
        "expires_at": entry.expires_at,
        "domain": entry.domain,
    }


RESOURCES = (Checks,)
