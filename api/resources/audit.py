"""The audit log: who changed what."""

from typing import Any, ClassVar

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.fields import Instant, SpanQuery, identifier, page_of, query_text, read_span, text
from api.core.resource import Resource, answers, takes
from shared.auth import audit
from shared.auth.keys import Scope


class AuditQuery(SpanQuery):
    """Filters; all that are given must match."""

    actor = query_text("Who made the change: `key` or `command` for all of these, `key:7` for one key.")
    action = query_text("The action, such as `source.created`; `source` for all actions on sources.")
    object = query_text("The object, such as `source:main`; `source` for all sources.")


class AuditEntry(Schema):
    """One change."""

    id = identifier()
    at = Instant()
    actor = fields.String(metadata={"examples": ["key:7:billing", "command:ann"]})
    tenant = text("The tenant of the key; null for a key to all tenants and for a command.")
    action = fields.String(metadata={"examples": ["source.created"]})
    object = fields.String(metadata={"examples": ["source:main"]})
    details = fields.Dict(keys=fields.String(), metadata={"description": "The request, without secrets."})


class AuditLog(Resource):
    """The audit log."""

    rule = "/v1/audit"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"GET": Scope.ADMIN}

    @takes(AuditQuery, location="query")
    @answers(200, page_of(AuditEntry, "AuditPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List changes made by API keys and commands, the newest first."""
        with self.deps.reading.connect() as connection:
            page = audit.list_entries(
                connection,
                actor=query.get("actor"),
                action=query.get("action"),
                object=query.get("object"),
                span=read_span(query),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


RESOURCES = (AuditLog,)
