"""Checks addresses against the suppression list, for applications that are about to send mail."""

from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from flask import Response
from marshmallow import Schema, fields, validate

from api.core.auth import TenantAccess
from api.core.fields import MAX_TEXT_LENGTH, Strict, instant, text, word, word_or_null
from api.core.resource import Resource, answers, takes
from api.resources.suppression_files import tenant_field
from shared.auth.keys import Scope
from shared.suppression import queries
from shared.vocabulary import Classification, MailType, SuppressionOrigin, SuppressionReason

MAX_ADDRESSES = 10_000
_MAX_BYTES = 8 << 20
_NOT_SUPPRESSED = dict.fromkeys(
    ("reason", "classification", "types", "tenant", "origin", "since", "expires_at", "domain")
)


class Check(Strict):
    """Addresses to check."""

    addresses = fields.List(
        fields.String(validate=validate.Length(max=MAX_TEXT_LENGTH)),
        required=True,
        validate=validate.Length(1, MAX_ADDRESSES),
        metadata={"description": f"In any form; at most {MAX_ADDRESSES:,}."},
    )
    type = fields.Enum(
        MailType, by_value=True, metadata={"description": "Check for this type of mail; for any type if not given."}
    )
    tenant = tenant_field("Check for mail of this tenant; empty: of no tenant; for mail of any tenant if not given.")


class Checked(Schema):
    """One result. An entry of the address comes before one of its domain, then the one with the latest end."""

    address = fields.String(metadata={"description": "As it was given."})
    suppressed = fields.Boolean()
    reason = word_or_null(SuppressionReason)
    classification = word_or_null(Classification)
    types = fields.List(word(MailType), allow_none=True)
    tenant = text("Null: the entry holds for all tenants.")
    origin = word_or_null(SuppressionOrigin)
    since = instant()
    expires_at = instant("Null: never.")
    domain = text("The domain, if the entry is about the domain.")


class Results(Schema):
    """The results, in the order of the addresses."""

    results = fields.List(fields.Nested(Checked))


class Checks(Resource):
    """Whether mail to these addresses is suppressed."""

    rule = "/v1/suppressions/check"
    tenancy = TenantAccess.OWN
    scopes: ClassVar = {"POST": Scope.READ}
    max_body_bytes: ClassVar = {"POST": _MAX_BYTES}

    @takes(Check)
    @answers(200, Results)
    def post(self, body: dict[str, Any]) -> Response:
        """Check up to 10,000 addresses at once. The results are in the order of the addresses."""
        addresses, now = body["addresses"], datetime.now(UTC)
        type_, tenant = body.get("type"), self.resolve_tenant(body.get("tenant"))
        with self.deps.reading.connect() as connection:
            found = queries.check_addresses(connection, addresses, self.deps.hasher, now, type=type_, tenant=tenant)
        results = []
        for address, entry in zip(addresses, found, strict=True):
            if entry is None:
                results.append({"address": address, "suppressed": False, **_NOT_SUPPRESSED})
                continue
            result = {
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
            results.append(result)
        # Encoded directly: dumping 10,000 results by the schema would take longer than everything else.
        return Response(msgspec.json.encode({"results": results}), mimetype="application/json")


RESOURCES = (Checks,)
