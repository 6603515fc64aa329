"""Changes: the log that other applications follow."""

from typing import Any

import msgspec
from flask import Response, request
from marshmallow import Schema, fields, validate

from api.core import errors
from api.core.auth import TenantAccess
from api.core.fields import Instant, PageQuery, identifier, integer, text
from api.core.resource import Resource, also_answers, answers, takes
from api.resources import change_queries
from api.resources.change_queries import FilterQuery, Gone
from api.resources.events import Event
from api.resources.stream import Stream
from api.streaming import deferred
from api.streaming.deferred import Wait
from shared.changes import log as change_log
from shared.changes import payload as change_payload

_MOST_SECONDS = 60


class ChangeQuery(FilterQuery, PageQuery):
    """Which changes, and how long to wait for them."""

    wait = fields.Float(
        load_default=0.0,
        validate=validate.Range(0, _MOST_SECONDS),
        metadata={"description": "If there is nothing yet, answer as soon as there is; after so many seconds anyway."},
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
    """The event that made a change."""

    class Meta(Event.Meta):
        """Without what may be large."""

        exclude = ("provider_object",)


class ChangeData(Schema):
    """What changed. Of `message`, `suppression` and `alert` that is not null which it is about."""

    source = text()
    message = fields.Nested(ChangedMessage, allow_none=True)
    recipient = text()
    status = text()
    previous_status = text()
    version = integer("Of the recipient's state: a lesser one is older news.")
    event = fields.Nested(ChangedEvent, allow_none=True, metadata={"description": "What made the change."})
    suppression = fields.Dict(allow_none=True, metadata={"description": "The entry, as the suppression list shows it."})
    alert = fields.Dict(allow_none=True, metadata={"description": "The alert, as the list of alerts shows it."})


class Change(Schema):
    """A change, as subscribers get it."""

    id = fields.String(metadata={"description": "Its place in the log: as `cursor` it continues behind this change."})
    type = fields.String(metadata={"examples": ["message.bounced"]})
    timestamp = Instant()
    data = fields.Nested(ChangeData)


class ChangePage(Schema):
    """A part of the log."""

    items = fields.List(fields.Nested(Change))
    next_cursor = fields.String(metadata={"description": "Where to go on: always there, also on an empty page."})


class Changes(Resource):
    """The log of changes."""

    rule = "/v1/changes"
    tenancy = TenantAccess.OWN

    @takes(ChangeQuery, location="query")
    @answers(200, ChangePage)
    @also_answers(410, schema=Gone, content_type=errors.CONTENT_TYPE, description=change_queries.GONE)
    def get(self, query: dict[str, Any]) -> Response:
        """Read the changes behind `cursor`, in order; without one from the oldest that is kept. None is ever skipped.

        A page that reads much and finds little may be empty although more follows: its `next_cursor` has moved on.
        """
        wanted = change_queries.wanted(query, self.resolve_tenant(query.get("tenant")))
        loop = deferred.of(request)
        try:
            with self.deps.engine.begin() as connection:
                reading = change_log.read(
                    connection, after=loop.again_after or _after(query), wanted=wanted, limit=query["limit"]
                )
                items = change_payload.payloads(connection, reading.changes, tenant=self.caller.tenant)
        except change_log.GoneError as error:
            raise change_queries.gone(error) from None
        if not items and query["wait"]:
            if loop.is_full:  # an empty page at once would be asked for again at once
                raise change_queries.full()
            loop.action = Wait(wanted=wanted, after=reading.next, seconds=query["wait"])
        page = {"items": items, "next_cursor": change_payload.identifier(reading.next)}
        return Response(msgspec.json.encode(page), mimetype="application/json")


def _after(query: dict[str, Any]) -> change_log.Cursor:
    return change_queries.position(query["cursor"]) if "cursor" in query else change_log.START


RESOURCES = (Changes, Stream)
