"""Events: what the providers said, in our words."""

from typing import Any
from uuid import UUID

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import not_found
from api.core.fields import Instant, RawJson, SpanQuery, identifier, integer, page_of, query_text, text
from api.core.resource import Resource, answers, takes
from api.resources.receipts import span
from shared.addresses import normalize
from shared.messages import event_queries
from shared.messages.event_queries import EventFacts
from shared.vocabulary import EventType


class EventQuery(SpanQuery):
    """Which events."""

    type = fields.Enum(EventType, by_value=True)
    source = query_text("Of this source.")
    recipient = query_text("Of this recipient's messages; events that name no recipient apply to all of them.")


class Event(Schema):
    """One thing that happened to one recipient of one message."""

    id = identifier()
    receipt_id = identifier()
    source = fields.String()
    type = fields.String(metadata={"enum": [str(kind) for kind in EventType]})
    message_id = identifier(allow_none=True)
    recipient = text("Null where the event applies to all recipients of the message.")
    occurred_at = Instant(metadata={"description": "The provider's time; ours where it gives none."})
    received_at = Instant()
    classification = text("Why it failed.")
    classification_code = integer("Ark's number of the classification.")
    smtp_status = text()
    enhanced_code = text()
    reason = text()
    sender = text()
    subject = text()
    request_id = text()
    smtp_id = text("The Message-Id, without angle brackets.")
    provider_message_id = text()
    tenant = text()
    tag = text()
    campaign = text()
    remote_host = text()
    url = text()
    ip = text()
    user_agent = text()
    automated = text(
        "What opened or clicked instead of a person: `privacy_proxy` or `scanner`; null where there is no sign of it."
        " It counts as an open or a click all the same."
    )
    metadata = fields.Raw(metadata={"description": "What the sender attached to the message."})
    details = fields.Raw(metadata={"description": "What else the provider said."})
    problem = text("Why the event could not be understood.")
    provider_object = RawJson(
        metadata={
            "description": "The provider's own object, as it was received; empty where it contained an erased address."
        }
    )
    reconciled = fields.Boolean(
        metadata={"description": "It had been missing, and came because the provider was asked to send it again."}
    )


class Events(Resource):
    """All events."""

    rule = "/v1/events"
    tenancy = TenantAccess.OWN

    @takes(EventQuery, location="query")
    @answers(200, page_of(Event, "EventPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List events, those received last first; `since` and `until` are about when they were received."""
        recipient = query.get("recipient")
        with self.deps.engine.begin() as connection:
            page = event_queries.listed(
                connection,
                type=query.get("type"),
                source=query.get("source"),
                tenant=self.caller.tenant,
                recipient=None if recipient is None else normalize(recipient),
                span=span(query),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class OneEvent(Resource):
    """One event."""

    rule = "/v1/events/<identifier:event_id>"
    tenancy = TenantAccess.OWN

    @answers(200, Event)
    def get(self, event_id: UUID) -> EventFacts:
        """Show an event."""
        with self.deps.engine.begin() as connection:
            found = event_queries.by_ids(connection, [event_id], tenant=self.caller.tenant)
        if not found:
            raise not_found(f"event {event_id}")
        return found[0]


RESOURCES = (Events, OneEvent)
