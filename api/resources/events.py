"""Events, normalized from the providers' webhooks."""

from typing import Any
from uuid import UUID

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import not_found
from api.core.fields import (
    Instant,
    RawJson,
    SpanQuery,
    identifier,
    integer,
    page_of,
    query_text,
    read_span,
    require_domain,
    text,
    word,
    word_or_null,
)
from api.core.resource import Resource, answers, takes
from api.core.source_filter import require_sources
from shared.addresses import normalize, parse_domain, strip_brackets
from shared.events.bots import Automation
from shared.messages import event_queries
from shared.messages.event_queries import StoredEvent
from shared.vocabulary import Classification, EventType


class EventQuery(SpanQuery):
    """Filters; all that are given must match."""

    type = fields.Enum(EventType, by_value=True)
    source = query_text("The source.")
    recipient = query_text("The recipient; events that name none apply to all recipients of their message.")
    request_id = query_text("The provider's id of the API call that sent the mail.")
    smtp_id = query_text("The Message-Id; angle brackets are ignored.")
    message_id = query_text("Our id of the message, or the provider's.")
    domain = query_text(
        "The domain of a recipient; events that name none apply to all recipients of their message.",
        checks=[require_domain],
    )
    set_aside = fields.Boolean(
        metadata={"description": "Only authentic events that changed nothing, or only the others; see `problem`."}
    )


class Event(Schema):
    """One thing that happened to one recipient of one message."""

    id = identifier()
    receipt_id = identifier()
    source = fields.String()
    type = word(EventType)
    message_id = identifier(allow_none=True)
    recipient = text("Null if the event applies to all recipients of the message.")
    occurred_at = Instant(
        metadata={"description": "The provider's time, or when we received it if that cannot be used."}
    )
    received_at = Instant()
    classification = word_or_null(Classification, "The reason of the failure.")
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
    automated = word_or_null(
        Automation,
        "The kind of program that opened or clicked instead of a person: `privacy_proxy` or `scanner`; null if nothing"
        " points to one. The event still counts as an open or a click.",
    )
    metadata = fields.Raw(metadata={"description": "Metadata that the sender attached to the message."})
    details = fields.Raw(
        metadata={"description": "Further fields of the provider's event; `unread` names those of an unexpected type."}
    )
    problem = text("Why the event was set aside: it changed nothing, although it is authentic.")
    provider_object = RawJson(
        metadata={"description": "The provider's own object, as received; empty if it contained an erased address."}
    )
    reconciled = fields.Boolean(
        metadata={"description": "It was missing and arrived after Tidings asked the provider to send it again."}
    )


class Events(Resource):
    """All events."""

    rule = "/v1/events"
    tenancy = TenantAccess.OWN

    @takes(EventQuery, location="query")
    @answers(200, page_of(Event, "EventPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List events, those received last first. `since` and `until` refer to the time of receipt."""
        recipient, smtp_id = query.get("recipient"), query.get("smtp_id")
        with self.deps.reading.connect() as connection:
            require_sources(connection, self.caller, query)
            page = event_queries.list_events(
                connection,
                type=query.get("type"),
                source=query.get("source"),
                tenant=self.caller.tenant,
                recipient=None if recipient is None else normalize(recipient),
                domain=parse_domain(query["domain"]).domain if "domain" in query else None,
                request_id=query.get("request_id"),
                message_id=query.get("message_id"),
                smtp_id=None if smtp_id is None else strip_brackets(smtp_id),
                set_aside=query.get("set_aside"),
                span=read_span(query),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
                max_bytes=event_queries.MAX_PAGE_BYTES,
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class OneEvent(Resource):
    """One event."""

    rule = "/v1/events/<identifier:event_id>"
    tenancy = TenantAccess.OWN

    @answers(200, Event)
    def get(self, event_id: UUID) -> StoredEvent:
        """Show an event."""
        with self.deps.reading.connect() as connection:
            found = event_queries.list_by_ids(connection, [event_id], tenant=self.caller.tenant)
        if not found:
            raise not_found(f"event {event_id}")
        return found[0]


RESOURCES = (Events, OneEvent)
