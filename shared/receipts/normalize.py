"""Normalization: from the body of a receipt to the rows of its events."""

from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import msgspec

from shared import ids
from shared.events import bots
from shared.events import event as event_ids
from shared.events.event import Event
from shared.messages.state import RANKS, STATUS_EFFECTS, WITHOUT_MESSAGE
from shared.messages.store import NewEvent, SharedObject
from shared.providers.webhooks import payload
from shared.sources.source import Source
from shared.vocabulary import CHANGE_TYPES

_encode = msgspec.json.Encoder().encode

_MAX_CLOCK_AHEAD: Final = timedelta(days=1)
"""A provider's clock with a wrong time zone is at most this far ahead."""

_EFFECTS = {
    event_type: (int(weight), RANKS[status] if status else -1, None if status is None else str(status))
    for event_type, (weight, status) in STATUS_EFFECTS.items()
}
_DATA_FIELDS = (
    "sender",
    "subject",
    "request_id",
    "smtp_id",
    "provider_message_id",
    "tenant",
    "tag",
    "campaign",
    "remote_host",
    "url",
    "ip",
    "user_agent",
    "metadata",
    "problem",
)
"""The fields of an event that are stored as JSON if they have a value, beside `details` and `automated`."""

_READ_BY_STATEMENTS: Final = ("smtp_id", "tenant", "problem", "automated")
"""The short fields of `_DATA_FIELDS` that every event keeps beside it, whatever it shares."""

_LONGEST_TEXT: Final = 8192
"""Characters of a reason. The provider's object keeps what is longer."""
_LONGEST_SUBJECT: Final = 998
"""Characters of a line in mail, by RFC 5322. The subject of a message is repeated in the row of each event."""
_MAX_DATA_BYTES: Final = 64 * 1024
_MAX_DATA_BYTES_OF_OBJECT: Final = 4 * 1024 * 1024
"""Every subscriber receives what events of one object share with each of them, so it is less for many."""
_LEAST_DATA_BYTES: Final = 2048
_MAX_REASON_CHARACTERS_OF_OBJECT: Final = 64 * 1024
"""Each event of an object has the reason in its row and in a state, so it is shorter where there are many."""
_SHORTEST_REASON: Final = 200


def parse_events(source: Source, receipt_id: UUID, received_at: datetime, body: bytes) -> list[NewEvent]:
    """Parse a body and return its events as rows. Raises PayloadError.

    Events of one provider object, one for each recipient, refer to one `SharedObject` instead of repeating it.
    """
    parsed = source.provider.parse(body, source.credentials)
    if len(parsed) > payload.MAX_EVENTS:
        raise payload.too_many(len(parsed))
    found: list[NewEvent] = []
    for _, group in groupby(parsed, key=lambda event: id(event.provider_object)):
        events = list(group)
        count = len(events)
        shared: SharedObject | None = None
        shared_data: dict[str, Any] = {}
        longest_reason = _LONGEST_TEXT
        if count > 1:
            longest_reason = max(_SHORTEST_REASON, min(_LONGEST_TEXT, _MAX_REASON_CHARACTERS_OF_OBJECT // count))
            limit = max(_LEAST_DATA_BYTES, min(_MAX_DATA_BYTES, _MAX_DATA_BYTES_OF_OBJECT // count))
            first = _read_data(events[0], received_at)
            shared_data = {name: value for name, value in first.items() if name not in _READ_BY_STATEMENTS}
            shared = SharedObject(
                ids.event_id(receipt_id, len(found)),
                _encode_data(shared_data, limit),
                events[0].provider_object.decode(),
            )
        for event in events:
            position = len(found)
            # Without an identity from the provider, the position in the receipt identifies the event.
            identity = event.identity if event.identity is not None else f"{receipt_id}:{position}"
            weight, rank, status = _EFFECTS[event.type]
            message_key = None if event.type in WITHOUT_MESSAGE else event.message_key
            occurred_at = event.occurred_at
            if occurred_at is None or occurred_at - received_at > _MAX_CLOCK_AHEAD:
                occurred_at = received_at
            data = _read_data(event, received_at)
            if shared is not None:
                missing = dict.fromkeys(shared_data.keys() - data.keys())
                data = missing | {name: value for name, value in data.items() if shared_data.get(name) != value}
            found.append(
                NewEvent(
                    id=ids.event_id(receipt_id, position),
                    receipt_id=receipt_id,
                    source_id=source.id,
                    key=event_ids.event_key(source.id, identity, event.recipient),
                    type=event.type,
                    message_id=None if message_key is None else event_ids.message_id(source.id, message_key),
                    recipient=event.recipient,
                    occurred_at=occurred_at,
                    received_at=received_at,
                    sender=event.sender,
                    subject=event.subject and event.subject[:_LONGEST_SUBJECT],
                    provider_message_id=event.provider_message_id,
                    request_id=event.request_id,
                    smtp_id=event.smtp_id,
                    tenant=event.tenant,
                    tag=event.tag,
                    campaign=event.campaign,
                    classification=event.classification,
                    smtp_status=event.smtp_status,
                    enhanced_code=event.enhanced_code,
                    reason=event.reason and event.reason[:longest_reason],
                    data=_encode_data(data),
                    provider_object=event.provider_object.decode() if shared is None else None,
                    weight=weight,
                    rank=rank,
                    status=status,
                    change_type=CHANGE_TYPES[event.type],
                    shared=shared,
                )
            )
    return found


def _read_data(event: Event, received_at: datetime) -> dict[str, Any]:
    """Return the fields of an event that are stored as JSON."""
    data: dict[str, Any] = {name: value for name in _DATA_FIELDS if (value := getattr(event, name)) is not None}
    if event.details:
        data["details"] = event.details
    if event.occurred_at is not None and event.occurred_at - received_at > _MAX_CLOCK_AHEAD:
        data["details"] = {**event.details, "unusable_time": event.occurred_at.isoformat()}
    if sign := bots.detect_automation(event.type, event.user_agent, event.ip):
        data["automated"] = sign
    return data


def _encode_data(data: dict[str, Any], limit: int = _MAX_DATA_BYTES) -> str:
    """Return the fields as JSON. Above the limit, in bytes, texts are cut, and parts of structures left out."""
    encoded = _encode(data)
    if len(encoded) <= limit:
        return encoded.decode()
    most, left = limit // 8, limit
    kept: dict[str, Any] = {}
    for name, value in data.items():
        fitting = value[:most] if isinstance(value, str) else value
        if isinstance(value, dict):
            fitting = {key: part for key, part in value.items() if len(_encode(part)) <= most}
        size = len(_encode(fitting))
        if size <= left:
            kept[name] = fitting
            left -= size
    return _encode(kept).decode()
