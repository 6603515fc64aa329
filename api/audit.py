"""The audit log: who changed what."""

from typing import Any, ClassVar

from marshmallow import Schema, fields

from api import cursors
from api.fields import Instant, SpanQuery, asked, identifier, page_of, text
from api.gate import Tenancy
from api.receipts import span
from api.resources import Resource, answers, takes
from shared.access import Scope
from shared.db import audit


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
    tenancy = Tenancy.CLOSED
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
                after=cursors.decode(query.get("cursor"), cursors.BY_ID),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": cursors.encode(page.next)}


RESOURCES = (AuditLog,)
