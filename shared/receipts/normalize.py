"""Normalization: from the body of a receipt to the rows of its events."""

from collections.abc import Mapping
from datetime import datetime, timedelta
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
    previous: Event | None = None
    shared: SharedObject | None = None
    whole: dict[str, Any] = {}  # the fields of the previous event
    shared_data: dict[str, Any] = {}
    longest_reason = _LONGEST_TEXT
    for position, event in enumerate(parsed):
        # Without an identity from the provider, the position in the receipt identifies the event.
        identity = event.identity if event.identity is not None else f"{receipt_id}:{position}"
        weight, rank, status = _EFFECTS[event.type]
        message_key = None if event.type in WITHOUT_MESSAGE else event.message_key
        # A time far ahead would outrank all later events for years.
        occurred_at = event.occurred_at
        details = event.details
        if occurred_at is not None and occurred_at - received_at > _MAX_CLOCK_AHEAD:
            details = {**details, "unusable_time": occurred_at.isoformat()}
            occurred_at = None
        if occurred_at is None:
            occurred_at = received_at
        data = _read_data(event, details)
        if previous is None or event.provider_object is not previous.provider_object:
            shared, longest_reason = None, _LONGEST_TEXT
        elif shared is None:
            end = position
            while end < len(parsed) and parsed[end].provider_object is event.provider_object:
                end += 1
            count = end - position + 1
            longest_reason = max(_SHORTEST_REASON, min(_LONGEST_TEXT, _MAX_REASON_CHARACTERS_OF_OBJECT // count))
            limit = max(_LEAST_DATA_BYTES, min(_MAX_DATA_BYTES, _MAX_DATA_BYTES_OF_OBJECT // count))
            shared_data = {name: value for name, value in whole.items() if name not in _READ_BY_STATEMENTS}
            shared = SharedObject(found[-1].id, _encode_data(shared_data, limit), event.provider_object.decode())
            found[-1] = found[-1]._replace(
                data=_encode_data(_differing(whole, shared_data)),
                reason=previous.reason and previous.reason[:longest_reason],
                provider_object=None,
                shared=shared,
            )
        previous, whole = event, data
        if shared is not None:
            data = _differing(data, shared_data)
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


def _read_data(event: Event, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an event that are stored as JSON."""
    data: dict[str, Any] = {name: value for name in _DATA_FIELDS if (value := getattr(event, name)) is not None}
    if details:
        data["details"] = details
    if sign := bots.detect_automation(event.type, event.user_agent, event.ip):
        data["automated"] = sign
    return data


def _differing(data: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event that differ from those that it shares."""
    missing = dict.fromkeys(shared.keys() - data.keys())
    return missing | {name: value for name, value in data.items() if shared.get(name) != value}


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
