"""Messages and the state of each of their recipients."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import Row

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import invalid, not_found, too_many
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
    require_domain,
    text,
    word_or_null,
)
from api.core.rate_limit import Shares
from api.core.resource import Resource, also_answers, answers, takes
from api.core.source_filter import require_sources
from api.resources.events import Event
from shared.addresses import parse_domain
from shared.auth.keys import Caller
from shared.errors import InvalidFieldError
from shared.messages import announcements, event_queries
from shared.messages import queries as messages
from shared.messages.announcements import PreparedSend, Send
from shared.messages.queries import MessageFilter
from shared.postgres.pagination import Page
from shared.suppression.csv_files import CsvWriter
from shared.vocabulary import Classification, EventType, Status

_MAX_RECIPIENTS = 1000
_MAX_ID_CHARS = 512
_MAX_ANNOUNCEMENTS = 1000
_MAX_BULK_BYTES = 8 << 20
_EXPORTED_AT_ONCE = 200
_exports = Shares(8, "exports")
"""An export reads without a pause while its client does, and would count as one request."""
_COLUMNS_OF_RECIPIENT = (
    "recipient", "status", "status_at", "classification", "smtp_status", "enhanced_code", "reason", "opened_at",
    "clicked_at", "complained_at", "unsubscribed_at",
)  # fmt: skip
_COLUMNS_OF_MESSAGE = (
    "id", "source", "created_at", "submitted_at", "sender", "subject", "tag", "campaign", "tenant",
    "provider_message_id", "request_id", "smtp_id",
)  # fmt: skip
_COLUMNS = (*_COLUMNS_OF_RECIPIENT, *_COLUMNS_OF_MESSAGE)


class MessageQuery(SpanQuery):
    """Filters; all that are given must match."""

    source = query_text("The source.")
    request_id = query_text("The id that the provider returned when the message was sent.")
    smtp_id = query_text("The Message-Id, with or without angle brackets.")
    message_id = query_text("Our id of the message, or the provider's.")
    recipient = query_text("The address of a recipient.")
    sender = query_text("The address of the sender.")
    status = fields.Enum(
        Status,
        by_value=True,
        metadata={"description": "The status of a recipient: of the one that `recipient` or `domain` names, if any."},
    )
    q = query_text(
        "An id, exactly: ours, the provider's, that of the request, or the Message-Id. If no message has it: words,"
        " each a part of the subject, of the sender or of a recipient's address."
    )
    subject = query_text("Words of the subject, or parts of them; case makes no difference.")
    domain = query_text("The domain of a recipient.", checks=[require_domain])
    tag = query_text("The tag.")
    tenant = query_text("The tenant.")
    type = fields.Enum(EventType, by_value=True, metadata={"description": "With an event of this type."})


class ExportQuery(MessageQuery):
    """Filters of an export; all that are given must match."""

    class Meta(MessageQuery.Meta):
        """An export has no pages."""

        exclude = ("cursor", "limit")


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


class Announcements(Strict):
    """Sends to announce."""

    messages = fields.List(
        fields.Nested(Announcement),
        required=True,
        validate=validate.Length(1, _MAX_ANNOUNCEMENTS),
        metadata={"description": f"At most {_MAX_ANNOUNCEMENTS:,}."},
    )


class Announced(Schema):
    """The message of an announced send."""

    id = identifier()
    is_new = fields.Boolean(metadata={"description": "False: the message was known already."})


class AnnouncedMessages(Schema):
    """The messages of the sends, in the order asked."""

    results = fields.List(fields.Nested(Announced))


class Recipient(Schema):
    """The state of one recipient. Times are the provider's."""

    recipient = text("Null if no event has named a recipient.")
    status = word_or_null(Status, "The delivery status; null if no event has set one.")
    status_at = instant()
    status_event_id = identifier("The event that set the status.", allow_none=True)
    previous_status = word_or_null(Status)
    classification = word_or_null(Classification, "The reason of the failure.")
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


class Cursor(fields.String):
    """The cursor of a position in a list."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002
        return pagination.encode(value)


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
    recipients = fields.List(
        fields.Nested(Recipient),
        metadata={
            "description": f"The first {messages.MAX_RECIPIENTS:,} by address, after the one that was asked for."
        },
    )
    recipients_cursor = Cursor(
        attribute="next_recipients",
        allow_none=True,
        metadata={"description": "Where `/v1/messages/{message_id}/recipients` continues; null if these are all."},
    )


class RecipientQuery(PageQuery):
    """The page of a message's recipients."""

    recipient = query_text("Only this address.")


class _Lists(Resource):
    """What the list of messages and its export share."""

    def read_filter(self, query: Mapping[str, Any]) -> MessageFilter:
        """Return the filters of a request. Raises ProblemError (403) for those of another tenant."""
        given = {**query, "tenant": self.resolve_tenant(query.get("tenant"))}
        if "domain" in given:
            given["domain"] = parse_domain(given["domain"]).domain
        return MessageFilter(**given)


class Messages(_Lists):
    """All messages."""

    rule = "/v1/messages"
    tenancy = TenantAccess.OWN
    # An announcement names a message by the provider's ids, which do not prove that it belongs to the caller's tenant.
    tenancies: ClassVar = {"POST": TenantAccess.CLOSED}

    @takes(MessageQuery, location="query")
    @answers(200, page_of(Message, "MessagePage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List messages, the newest first.

        A page of a search may be short, or empty, although more follow: send `next_cursor`.
        """
        after = pagination.decode(query.pop("cursor", None), pagination.BY_TIME)
        limit = query.pop("limit")
        wanted = self.read_filter(query)
        with self.deps.reading.connect() as connection:
            require_sources(connection, self.caller, query)
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


class Export(_Lists):
    """An export of messages."""

    rule = "/v1/messages/export"
    tenancy = TenantAccess.OWN

    @takes(ExportQuery, location="query")
    @answers(200, {"type": "string"}, content_type="text/csv")
    def get(self, query: dict[str, Any]) -> Response:
        """Export the messages that match as CSV, the newest first: one line for each recipient, streamed.

        A value that a spreadsheet would run as a formula is written with an apostrophe before it. If the export fails
        on the way, the connection ends before the last chunk.
        """
        wanted = self.read_filter(query)
        if (sentence := _exports.exceeded(self.caller)) is not None:
            raise too_many(sentence)
        with self.deps.reading.connect() as connection:
            require_sources(connection, self.caller, query)
            first = messages.list_messages(connection, wanted, limit=_EXPORTED_AT_ONCE)
        headers = {"Content-Disposition": 'attachment; filename="messages.csv"'}
        lines = self.write_lines(wanted, first, self.caller)
        return Response(lines, content_type="text/csv; charset=utf-8", headers=headers)

    def write_lines(self, wanted: MessageFilter, page: Page[messages.Message], caller: Caller) -> Iterator[bytes]:
        """Yield the lines of this page and those that follow. It holds one of the places for exports."""
        writer = CsvWriter(_COLUMNS)
        writer.write_header()
        with _exports.hold(caller):
            while True:
                for message in page.items:
                    for row in message.recipients or (None,):
                        writer.write_row(_describe_line(message, row))
                    yield from self.write_more_recipients(writer, message)
                yield writer.take()
                if page.next is None:
                    return
                with self.deps.reading.connect() as connection:  # one for each page: a slow client must not hold one
                    page = messages.list_messages(connection, wanted, after=page.next, limit=_EXPORTED_AT_ONCE)

    def write_more_recipients(self, writer: CsvWriter, message: messages.Message) -> Iterator[bytes]:
        """Yield the lines of recipients beyond those that a list shows."""
        after = message.next_recipients
        while after is not None:
            yield writer.take()
            with self.deps.reading.connect() as connection:
                page = messages.list_recipients(connection, message.id, after=after, limit=messages.MAX_RECIPIENTS)
            for row in page.items:
                writer.write_row(_describe_line(message, row))
            after = page.next


def _describe_line(message: messages.Message, row: Row[Any] | None) -> dict[str, Any]:
    """Return the values of a line: of a message, and of one of its recipients if there is any."""
    about = {name: getattr(message, name) for name in _COLUMNS_OF_MESSAGE}
    of_recipient = {name: None if row is None else getattr(row, name) for name in _COLUMNS_OF_RECIPIENT}
    return about | of_recipient


class Bulk(Resource):
    """Announcing many sends."""

    rule = "/v1/messages/bulk"
    tenancy = TenantAccess.CLOSED  # as a single announcement
    max_body_bytes: ClassVar = {"POST": _MAX_BULK_BYTES}

    @takes(Announcements)
    @answers(200, AnnouncedMessages)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Announce many sends: all of them, or none if one is wrong. Idempotent, as announcing one is.

        Errors name the position, from 0, and the field, such as `messages.17.recipients`.
        """
        now = datetime.now(UTC)
        times = [one.pop("submitted_at", now) for one in body["messages"]]
        sends = [(Send(**one), at) for one, at in zip(body["messages"], times, strict=True)]
        with self.deps.engine.begin() as connection:
            prepared = announcements.prepare(connection, self.deps.vault, sends)
            wrong = {
                f"messages.{number}.{error.field}": [str(error)]
                for number, error in enumerate(prepared)
                if isinstance(error, InvalidFieldError)
            }
            if wrong:
                raise invalid(wrong)
            found = announcements.store(connection, [send for send in prepared if isinstance(send, PreparedSend)])
        return {"results": [{"id": message_id, "is_new": is_new} for message_id, is_new in found]}


class OneMessage(Resource):
    """One message."""

    rule = "/v1/messages/<identifier:message_id>"
    tenancy = TenantAccess.OWN

    @answers(200, Message)
    def get(self, message_id: UUID) -> messages.Message:
        """Show a message and the state of each recipient, of the first thousand if there are more."""
        with self.deps.reading.connect() as connection:
            found = messages.get_message(connection, message_id, tenant=self.caller.tenant)
        if found is None:
            raise not_found(f"message {message_id}")
        return found


class Recipients(Resource):
    """The recipients of a message."""

    rule = "/v1/messages/<identifier:message_id>/recipients"
    tenancy = TenantAccess.OWN

    @takes(RecipientQuery, location="query")
    @answers(200, page_of(Recipient, "RecipientPage"))
    def get(self, query: dict[str, Any], message_id: UUID) -> dict[str, Any]:
        """List the recipients of a message and their states, by address."""
        after = pagination.decode(query.pop("cursor", None), pagination.BY_NAME)
        with self.deps.reading.connect() as connection:
            if not messages.list_without_recipients(connection, [message_id], tenant=self.caller.tenant):
                raise not_found(f"message {message_id}")
            page = messages.list_recipients(connection, message_id, **query, after=after)
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class Timeline(Resource):
    """The events of a message."""

    rule = "/v1/messages/<identifier:message_id>/events"
    tenancy = TenantAccess.OWN

    @takes(PageQuery, location="query")
    @answers(200, page_of(Event, "TimelinePage"))
    def get(self, query: dict[str, Any], message_id: UUID) -> dict[str, Any]:
        """List the events of a message, in the order in which they happened."""
        after = pagination.decode(query.get("cursor"), pagination.BY_TIME)
        with self.deps.reading.connect() as connection:
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


RESOURCES = (Messages, Export, Bulk, OneMessage, Recipients, Timeline)
