"""Changes: the log that other applications follow."""

import re
from typing import Any

from marshmallow import Schema, fields

from api import cursors
from api.events import Event
from api.fields import Instant, PageQuery, asked, identifier, number, text
from api.resources import Resource, answers, takes
from shared import feed
from shared.db import changes

_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class ChangeQuery(PageQuery):
    """Which changes."""

    types = asked("Only these types, separated by commas; `message.*` stands for all of its kind.")


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
    """What changed."""

    source = fields.String()
    message = fields.Nested(ChangedMessage, allow_none=True)
    recipient = text()
    status = text()
    previous_status = text()
    version = number("Of the recipient's state: a lesser one is older news.")
    event = fields.Nested(ChangedEvent, allow_none=True)


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

    @takes(ChangeQuery, location="query")
    @answers(200, ChangePage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Read the changes behind `cursor`, in order; without one from the beginning. None is ever skipped."""
        types = [name for name in query.get("types", "").split(",") if name.strip()]
        with self.deps.engine.begin() as connection:
            reading = changes.read(
                connection,
                after=_position(query.get("cursor")),
                types=[name.strip() for name in types],
                limit=query["limit"],
            )
            items = feed.payloads(connection, reading.changes)
        return {"items": items, "next_cursor": feed.identifier(reading.next)}


def _position(cursor: str | None) -> changes.Cursor:
    if cursor is None:
        return changes.START
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise cursors.unreadable()
    return int(match[1]), int(match[2])


RESOURCES = (Changes,)
