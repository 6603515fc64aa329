"""The change log: page by page, with long polling, and as a stream of server-sent events."""

import re
from typing import Any
from uuid import UUID

import msgspec
from flask import Response, request
from marshmallow import Schema, fields, validate

from api.core import errors, pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError
from api.core.fields import (
    OPTIONAL,
    Instant,
    PageQuery,
    Problem,
    Strict,
    identifier,
    integer,
    query_text,
    require_change_types,
    require_domain,
    text,
    word,
    word_or_null,
)
from api.core.resource import Resource, also_answers, answers, takes
from api.core.source_filter import require_sources
from api.resources.alerts import Alert
from api.resources.events import Event
from api.resources.suppressions import Suppression
from api.streaming import deferred, sse
from api.streaming.deferred import DeferredResponse, Follow, View, Wait
from shared.addresses import parse_domain
from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.changes.filters import EVERYTHING, ChangeFilter
from shared.changes.log import Cursor, CursorGoneError
from shared.messages.event_queries import MAX_BODY_TEXT_BYTES
from shared.subscriptions.validation import TYPES
from shared.vocabulary import Status

_MAX_WAIT_SECONDS = 60
_RETRY_AFTER_SECONDS = 10
_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_GONE = "The changes after the cursor are no longer kept; reading can begin at `oldest_cursor`"


class Gone(Problem):
    """The error if reading cannot continue from a cursor."""

    oldest_cursor = fields.String(metadata={"description": "The oldest cursor that reading can begin at."})


class FilterQuery(Strict):
    """Filters; all that are given must match."""

    types = query_text(
        "Types, separated by commas; `message.*` matches all types of that kind.", checks=[require_change_types]
    )
    sources = query_text("Sources, separated by commas.")
    tags = query_text("Tags of the message, separated by commas; one must match.")
    tenant = query_text("The tenant.")
    recipient_domain = fields.String(validate=require_domain, metadata={"description": "The domain of the recipient."})
    message_id = fields.UUID(metadata={"description": "The message."})


class ChangeQuery(FilterQuery, PageQuery):
    """Filters, the page, and how long to wait for changes."""

    wait = fields.Float(
        load_default=0.0,
        validate=validate.Range(0, _MAX_WAIT_SECONDS),
        metadata={"description": "If no change matches yet, wait for one, but at most this many seconds."},
    )
    include_body_text = fields.Boolean(
        load_default=False,
        metadata={"description": "Include the text of inbound mail, as `data.body_text`. It is personal data."},
    )


class StreamQuery(FilterQuery):
    """Filters, and where the stream begins."""

    cursor = fields.String(
        metadata={
            "description": "Begin after this change; `0-0` begins with the oldest one. Default: the end of the log."
        }
    )


class StreamHeaders(Schema):
    """The header that a client sends when it reconnects."""

    last_event_id = fields.String(
        data_key="Last-Event-ID",
        metadata={"description": "Continue after this change; takes precedence over `cursor`."},
    )


class ChangedMessage(Schema):
    """The message that a change is about."""

    id = identifier()
    source = fields.String()
    provider_message_id = text()
    request_id = text()
    smtp_id = text()
    sender = text()
    subject = text()
    tag = text()
    campaign = text()
    tenant = text()


class ChangedEvent(Event):
    """The event that caused a change."""

    class Meta(Event.Meta):
        """Leaves out the provider's object, which may be large."""

        exclude = ("provider_object",)


class BodyText(Schema):
    """The text of an inbound mail."""

    text = fields.String(metadata={"description": f"The first {MAX_BODY_TEXT_BYTES} bytes of UTF-8 of the text."})
    truncated = fields.Boolean(metadata={"description": "Whether the text is longer."})
    original_bytes = fields.Integer(metadata={"description": "The size of the whole text in UTF-8."})


class ChangeData(Schema):
    """The content of a change. It is about the one of `message`, `suppression` and `alert` that is not null."""

    source = text()
    message = fields.Nested(ChangedMessage, allow_none=True)
    recipient = text()
    status = word_or_null(Status)
    previous_status = word_or_null(Status)
    version = integer("The version of the recipient's state; ignore a change with a lower version than the last one.")
    event = fields.Nested(ChangedEvent, allow_none=True, metadata={"description": "The event that caused the change."})
    suppression = fields.Nested(
        Suppression, allow_none=True, metadata={"description": "The suppression, as the suppression list shows it."}
    )
    alert = fields.Nested(
        Alert, allow_none=True, metadata={"description": "The alert, as the list of alerts shows it."}
    )
    body_text = fields.Nested(
        BodyText,
        allow_none=True,
        metadata={
            "description": "The text of an inbound mail, present only if it was asked for (`include_body_text`)."
            " Null: the provider posted none, or it is no longer stored.",
            **OPTIONAL,
        },
    )


class Change(Schema):
    """A change, as subscribers receive it."""

    id = fields.String(
        metadata={"description": "The position in the log. Pass it as `cursor` to continue after this change."}
    )
    type = word(TYPES)
    timestamp = Instant()
    data = fields.Nested(ChangeData)


class ChangePage(Schema):
    """A page of the log."""

    items = fields.List(fields.Nested(Change))
    next_cursor = fields.String(metadata={"description": "The cursor to continue from; present on an empty page too."})


class _Resource(Resource):
    """What the page and the stream share."""

    def require_place(self, response: DeferredResponse) -> None:
        """Raise ProblemError if the caller may not wait: 503 if nobody may, 429 if it uses up its share."""
        if response.again_after is not None:  # it waits already
            return
        if response.is_full:
            headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
            raise ProblemError(
                503, "Too many clients are waiting for changes in this process; retry later.", headers=headers
            )
        if (sentence := response.exceeded(self.caller)) is not None:
            raise errors.too_many(sentence, _RETRY_AFTER_SECONDS)


class Changes(_Resource):
    """The change log."""

    rule = "/v1/changes"
    tenancy = TenantAccess.OWN

    @takes(ChangeQuery, location="query")
    @answers(200, ChangePage)
    @also_answers(410, schema=Gone, content_type=errors.CONTENT_TYPE, description=_GONE)
    def get(self, query: dict[str, Any]) -> Response:
        """Read the changes after `cursor`, in order; without a cursor from the oldest one. No change is ever skipped.

        The number of changes that a page reads is limited. A filtered page may therefore be empty although more
        changes follow; its `next_cursor` has advanced.
        """
        wanted = _change_filter(query, self.resolve_tenant(query.get("tenant")))
        response = deferred.of(request)
        after = response.again_after or (_parse_cursor(query["cursor"]) if "cursor" in query else change_log.START)
        try:
            with self.deps.engine.begin() as connection:
                require_sources(connection, self.caller, query)
                page = change_log.read(connection, after=after, wanted=wanted, limit=query["limit"])
                items = change_payload.build_payloads(
                    connection,
                    page.changes,
                    tenant=self.caller.tenant,
                    include_body_text=query["include_body_text"],
                )
        except CursorGoneError as error:
            raise _gone(error) from None
        if not items and query["wait"]:
            self.require_place(response)  # the client would repeat its request at once if it got an empty page
            response.action = Wait(wanted=wanted, after=page.next, seconds=query["wait"], caller=self.caller)
        body = {"items": items, "next_cursor": change_payload.format_cursor(page.next)}
        return Response(msgspec.json.encode(body), mimetype="application/json")


class Stream(_Resource):
    """The change log as a stream."""

    rule = "/v1/changes/stream"
    tenancy = TenantAccess.OWN

    @takes(StreamHeaders, location="headers")
    @takes(StreamQuery, location="query")
    @answers(200, {"type": "string"}, content_type=sse.CONTENT_TYPE)
    @also_answers(410, schema=Gone, content_type=errors.CONTENT_TYPE, description=_GONE)
    def get(self, headers: dict[str, Any], query: dict[str, Any]) -> Response:
        """Follow the log: one server-sent event for each change.

        `event` is the type, `id` the change's id, `data` the same object as in `GET /v1/changes`.
        The server disconnects clients that are too slow, and all clients when it shuts down. A client then
        reconnects with `Last-Event-ID`.
        """
        cursor = headers.get("last_event_id") or query.get("cursor")
        response = deferred.of(request)
        self.require_place(response)
        try:
            with self.deps.engine.begin() as connection:
                require_sources(connection, self.caller, query)
                if cursor is None:
                    after = change_log.get_end(connection)
                else:
                    after = _parse_cursor(cursor)
                    change_log.require_readable(connection, after)
        except CursorGoneError as error:
            raise _gone(error) from None
        if request.method == "GET":
            wanted = _change_filter(query, self.resolve_tenant(query.get("tenant")))
            response.action = Follow(
                view=View(wanted=wanted, tenant=self.caller.tenant),
                after=after,
                caller=self.caller,
                is_authorized=self.authenticator.authorization_check(self.caller),
            )
        return Response(sse.beginning(after), content_type=sse.CONTENT_TYPE, headers=sse.HEADERS)


def _change_filter(query: dict[str, Any], tenant: str | None) -> ChangeFilter:
    """Return the filter that a query describes; `tenant` is the one that the caller may see."""

    def split(name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in query.get(name, "").split(",") if word.strip())

    domain = query.get("recipient_domain")
    message_id: UUID | None = query.get("message_id")
    return ChangeFilter(
        types=split("types") or EVERYTHING.types,
        sources=split("sources"),
        tenant=tenant,
        recipient_domains=(parse_domain(domain).domain or "",) if domain else (),
        tags=split("tags"),
        message_id=str(message_id) if message_id else None,
    )


def _parse_cursor(cursor: str) -> Cursor:
    """Return the position in the log that a cursor names. Raises ProblemError (400)."""
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise pagination.invalid_cursor()
    return int(match[1]), int(match[2])


def _gone(error: CursorGoneError) -> ProblemError:
    return ProblemError(410, str(error), extra={"oldest_cursor": change_payload.format_cursor(error.oldest)})


RESOURCES = (Changes, Stream)
