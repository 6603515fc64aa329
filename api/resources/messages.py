"""Messages and the state of each of their recipients."""

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
from shared.errors import InvalidFieldError
from shared.messages import announcements, event_queries
from shared.messages import queries as messages
from shared.messages.announcements import Send
from shared.messages.queries import MessageFilter
from shared.vocabulary import Status

_MAX_RECIPIENTS = 1000
_MAX_ID_CHARS = 512


class MessageQuery(SpanQuery):
    """Filters; all that are given must match."""

    source = query_text("The source.")
    request_id = query_text("The id that the provider returned when the message was sent.")
    smtp_id = query_text("The Message-Id, with or without angle brackets.")
    message_id = query_text("Our id of the message, or the provider's.")
    recipient = query_text("The address of a recipient.")
    sender = query_text("The address of the sender.")
    status = fields.Enum(Status, by_value=True, metadata={"description": "The status of a recipient."})


class Announcement(Strict):
    """A send, announced by the application that sent it, so that missing events are noticed."""

    source = fields.String(required=True, metadata={"description": "The source that will receive its events."})
    request_id = fields.String(validate=validate.Length(1, _MAX_ID_CHARS))
    smtp_id = fields.String(validate=validate.Length(1, _MAX_ID_CHARS))
    provider_message_id = fields.String(validate=validate.Length(1, _MAX_ID_CHARS))
    tenant = fields.String(
        validate=validate.Length(1, _MAX_ID_CHARS),
        metadata={
            "description": "The tenant that its events will name. Required with `smtp_id` if the source has events of"
            " several tenants: a Message-Id alone does not identify the tenant."
        },
    )
    sender = fields.String(required=True, validate=validate.Length(1, _MAX_ID_CHARS))
    recipients = fields.List(
        fields.String(validate=validate.Length(1, _MAX_ID_CHARS)),
        required=True,
        validate=validate.Length(1, _MAX_RECIPIENTS),
    )
    submitted_at = Instant(metadata={"description": "When it was sent; default: now."})


class Recipient(Schema):
    """The state of one recipient. Times are the provider's."""

    recipient = text("Null if no event has named a recipient.")
    status = text("The delivery status; null if no event has set one.")
    status_at = instant()
    status_event_id = identifier("The event that set the status.", allow_none=True)
    previous_status = text()
    classification = text("The reason of the failure.")
    classification_code = integer()
    smtp_status = text()
    enhanced_code = text()
    reason = text()
    smtp_id = text()
    opened = fields.Boolean()
    opened_at = instant("The first time.")
    opens = fields.Integer()
    clicked = fields.Boolean()
    clicked_at = instant("The first time.")
    clicks = fields.Integer()
    read = fields.Boolean()
    read_at = instant("The first time.")
    reads = fields.Integer()
    complained = fields.Boolean()
    complained_at = instant("The first time.")
    unsubscribed = fields.Boolean()
    unsubscribed_at = instant("The last time.")
    subscribed_at = instant("The last time.")
    version = fields.Integer(metadata={"description": "Increases with every change."})
    updated_at = Instant()


class Message(Schema):
    """A message."""

    id = identifier()
    source = fields.String()
    provider_message_id = text()
    request_id = text()
    smtp_id = text("The Message-Id, without angle brackets; the least one if there are several.")
    sender = text()
    subject = text()
    tag = text()
    campaign = text()
    tenant = text()
    created_at = Instant(metadata={"description": "When Tidings first learned of it."})
    first_event_at = instant("Null while the message is only announced.")
    submitted_at = instant("When it was sent, if that was announced.")
    recipients = fields.List(fields.Nested(Recipient))


class Messages(Resource):
    """All messages."""

    rule = "/v1/messages"
    tenancy = TenantAccess.OWN
    # An announcement names a message by the provider's ids, which do not prove that it belongs to the caller's tenant.
    tenancies: ClassVar = {"POST": TenantAccess.CLOSED}

    @takes(MessageQuery, location="query")
    @answers(200, page_of(Message, "MessagePage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List messages, the newest first."""
        after = pagination.decode(query.pop("cursor", None), pagination.BY_TIME)
        limit = query.pop("limit")
        with self.deps.engine.begin() as connection:
            wanted = MessageFilter(**query, tenant=self.caller.tenant)
            page = messages.list_messages(connection, wanted, after=after, limit=limit)
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}

    @takes(Announcement)
    @answers(201, Message)
    @also_answers(200, schema=Message, description="The message was known already")
    def post(self, body: dict[str, Any]) -> tuple[messages.Message | None, int, dict[str, str]]:
        """Announce a send. Idempotent: the earliest announced time of a message is kept."""
        submitted_at = body.pop("submitted_at", None) or datetime.now(UTC)
        try:
            with self.deps.engine.begin() as connection:
                message_id, is_new = announcements.announce(connection, self.deps.vault, Send(**body), submitted_at)
                message = messages.get_message(connection, message_id)
        except InvalidFieldError as error:
            raise invalid({error.field: [str(error)]}) from None
        return message, 201 if is_new else 200, {"Location": f"/v1/messages/{message_id}"}


class OneMessage(Resource):
    """One message."""

    rule = "/v1/messages/<identifier:message_id>"
    tenancy = TenantAccess.OWN

    @answers(200, Message)
    def get(self, message_id: UUID) -> messages.Message:
        """Show a message and the state of each recipient."""
        with self.deps.engine.begin() as connection:
            found = messages.get_message(connection, message_id, tenant=self.caller.tenant)
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
            if not messages.list_without_recipients(connection, [message_id], tenant=self.caller.tenant):
                raise not_found(f"message {message_id}")
            page = event_queries.list_timeline(
                connection,
                message_id,
                tenant=self.caller.tenant,
                after=after,
                limit=query["limit"],
                max_bytes=event_queries.MAX_PAGE_BYTES,
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


RESOURCES = (Messages, OneMessage, Timeline)
