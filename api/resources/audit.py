"""The audit log: who changed what."""

from typing import Any, ClassVar

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.fields import Instant, SpanQuery, asked, identifier, page_of, text
from api.core.resource import Resource, answers, takes
from api.resources.receipts import span
from shared.auth import audit
from shared.auth.keys import Scope


class AuditQuery(SpanQuery):
    """Which entries: everything that is given must hold."""

    actor = asked("Who did it; `key` or `command` for all of these, `key:7` for the key with this id.")
    action = asked("What was done, such as `source.created`; `source` for everything done to sources.")
    object = asked("To what, such as `source:main`; `source` for all of these.")


class AuditEntry(Schema):
    """One change."""

    id = identifier()
    at = Instant()
    actor = fields.String(metadata={"examples": ["key:7:billing", "command:ann"]})
    tenant = text("The tenant of the key; null for a key of every tenant, and for a command.")
    action = fields.String(metadata={"examples": ["source.created"]})
    object = fields.String(metadata={"examples": ["source:main"]})
    details = fields.Dict(keys=fields.String(), metadata={"description": "What was asked for; no secrets."})


class AuditLog(Resource):
    """The whole log."""

    rule = "/v1/audit"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"GET": Scope.ADMIN, "HEAD": Scope.ADMIN}

    @takes(AuditQuery, location="query")
    @answers(200, page_of(AuditEntry, "AuditPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List what was changed by keys and commands, the newest first."""
        with self.deps.engine.begin() as connection:
            page = audit.listed(
                connection,
                actor=query.get("actor"),
                action=query.get("action"),
                object=query.get("object"),
                span=span(query),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


RESOURCES = (AuditLog,)
