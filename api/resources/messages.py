"""Messages: what became of each, for every recipient."""

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from marshmallow import Schema, fields, validate

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import invalid, not_found
from api.core.fields import (
    Instant,
    PageQuery,
    SpanQuery,
    Strict,
    identifier,
    instant,
    integer,
    page_of,
    query_text,
    text,
)
from api.core.resource import Resource, also_answers, answers, takes
from api.resources.events import Event
from shared.messages import announcements, event_queries
from shared.messages import queries as messages
from shared.messages.announcements import AnnouncementError, Send
from shared.messages.queries import MessageFacts, Wanted
from shared.vocabulary import Status

_MOST_RECIPIENTS = 1000
_LONGEST_ID = 512


class MessageQuery(SpanQuery):
    """Which messages: everything that is given must hold."""

    source = query_text("Of this source.")
    request_id = query_text("By what the provider answered when the message was sent.")
    smtp_id = query_text("By the Message-Id, with or without angle brackets.")
    message_id = query_text("By our id, or the provider's.")
    recipient = query_text("By one of its recipients.")
    sender = query_text("By its sender.")
    status = fields.Enum(Status, by_value=True, metadata={"description": "By the status of one of its recipients."})


class Announcement(Strict):
    """A send, told by who sent it, so that its silence can be noticed."""

    source = fields.String(required=True, metadata={"description": "The source that will tell what became of it."})
    request_id = fields.String(validate=validate.Length(1, _LONGEST_ID))
    smtp_id = fields.String(validate=validate.Length(1, _LONGEST_ID))
    provider_message_id = fields.String(validate=validate.Length(1, _LONGEST_ID))
    tenant = fields.String(
        validate=validate.Length(1, _LONGEST_ID),
        metadata={
            "description": "Whose it is, as its events will say. Needed with `smtp_id` where the source brings events"
            " of several: a Message-Id is the sender's choice."
        },
    )
    sender = fields.String(required=True, validate=validate.Length(1, _LONGEST_ID))
    recipients = fields.List(
        fields.String(validate=validate.Length(1, _LONGEST_ID)),
        required=True,
        validate=validate.Length(1, _MOST_RECIPIENTS),
    )
    submitted_at = Instant(metadata={"description": "When it was sent; now, if not given."})


class Recipient(Schema):
    """Where a message stands for one recipient. Times are the provider's."""

    recipient = text("Null where no event has named one.")
    status = text("One of the statuses; null where no event has said.")
    status_at = instant()
    status_event_id = identifier("The event that says so.", allow_none=True)
    previous_status = text()
    classification = text("Why it failed.")
    classification_code = integer()
    smtp_status = text()
    enhanced_code = text()
    reason = text()
    smtp_id = text()
    opened = fields.Boolean()
    opened_at = instant("For the first time.")
    opens = fields.Integer()
    clicked = fields.Boolean()
    clicked_at = instant("For the first time.")
    clicks = fields.Integer()
    read = fields.Boolean()
    read_at = instant("For the first time.")
    reads = fields.Integer()
    complained = fields.Boolean()
    complained_at = instant("For the first time.")
    unsubscribed = fields.Boolean()
    unsubscribed_at = instant("For the last time.")
    subscribed_at = instant("For the last time.")
    version = fields.Integer(metadata={"description": "Grows with every change."})
    updated_at = Instant()


class Message(Schema):
    """A message."""

    id = identifier()
    source = fields.String()
    provider_message_id = text()
    request_id = text()
    smtp_id = text("The Message-Id, without angle brackets; of several the least.")
    sender = text()
    subject = text()
    tag = text()
    campaign = text()
    tenant = text()
    created_at = Instant(metadata={"description": "When it became known here."})
    first_event_at = instant("Null while it has only been announced.")
    submitted_at = instant("When it was sent, as far as that was announced.")
    recipients = fields.List(fields.Nested(Recipient))


class Messages(Resource):
    """All messages."""

    rule = "/v1/messages"
    tenancy = TenantAccess.OWN
    # A send is named by what the provider called it, and nothing proves that it is this tenant's.
    tenancies: ClassVar = {"POST": TenantAccess.CLOSED}

    @takes(MessageQuery, location="query")
    @answers(200, page_of(Message, "MessagePage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Find messages, those that became known last first."""
        after = pagination.decode(query.pop("cursor", None), pagination.BY_TIME)
        limit = query.pop("limit")
        with self.deps.engine.begin() as connection:
            page = messages.listed(connection, Wanted(**query, tenant=self.caller.tenant), after=after, limit=limit)
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}

    @takes(Announcement)
    @answers(201, Message)
    @also_answers(200, schema=Message, description="It was known already")
    def post(self, body: dict[str, Any]) -> tuple[MessageFacts | None, int, dict[str, str]]:
        """Announce a send. Idempotent: of several announcements of a message the earliest time stays."""
        submitted_at = body.pop("submitted_at", None) or datetime.now(UTC)
        try:
            with self.deps.engine.begin() as connection:
                message_id, is_new = announcements.announce(connection, self.deps.vault, Send(**body), submitted_at)
                message = messages.find(connection, message_id)
        except AnnouncementError as error:
            raise invalid({error.field: [str(error)]}) from None
        return message, 201 if is_new else 200, {"Location": f"/v1/messages/{message_id}"}


class OneMessage(Resource):
    """One message."""

    rule = "/v1/messages/<identifier:message_id>"
    tenancy = TenantAccess.OWN

    @answers(200, Message)
    def get(self, message_id: UUID) -> MessageFacts:
        """Show a message and where it stands for each recipient."""
        with self.deps.engine.begin() as connection:
            found = messages.find(connection, message_id, tenant=self.caller.tenant)
        if found is None:
            raise not_found(f"message {message_id}")
        return found


class Timeline(Resource):
    """The events of a message."""

    rule = "/v1/messages/<identifier:message_id>/events"
    tenancy = TenantAccess.OWN

    @takes(PageQuery, location="query")
    @answers(200, page_of(Event, "TimelinePage"))
    def get(self, query: dict[str, Any], message_id: UUID) -> dict[str, Any]:
        """List the events of a message, in the order in which they happened."""
        after = pagination.decode(query.get("cursor"), pagination.BY_TIME)
        with self.deps.engine.begin() as connection:
            if not messages.summaries(connection, [message_id], tenant=self.caller.tenant):
                raise not_found(f"message {message_id}")
            page = event_queries.timeline(
                connection, message_id, tenant=self.caller.tenant, after=after, limit=query["limit"]
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


RESOURCES = (Messages, OneMessage, Timeline)
