"""Normalization: from the body of a receipt to the rows of its events."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from shared import ids
from shared.events import bots
from shared.events import event as event_ids
from shared.events.event import Event
from shared.messages.state import RANKS, STATUS_EFFECTS, WITHOUT_MESSAGE
from shared.messages.store import NewEvent, SharedObject
from shared.messages.tables import MESSAGE_FIELDS, bit_of
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


_message_values = attrgetter(*MESSAGE_FIELDS)
_BITS: Final = tuple(map(bit_of, MESSAGE_FIELDS))


class Fields(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields of an event that are stored as JSON, if they have a value."""

    sender: str | None = None
    subject: str | None = None
    request_id: str | None = None
    smtp_id: str | None = None
    provider_message_id: str | None = None
    tenant: str | None = None
    tag: str | None = None
    campaign: str | None = None
    remote_host: str | None = None
    url: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    metadata: Mapping[str, Any] | None = None
    problem: str | None = None
    details: Mapping[str, Any] | None = None
    automated: str | None = None

    def present(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


_NEVER_SHARED: Final = ("smtp_id", "tenant", "problem", "automated")
"""Short fields that SQL statements read, so they are never in the shared object: in the event's row, or its message."""

_MAX_REASON_LENGTH: Final = 8192
"""Characters. The provider's object has the whole text."""
_MAX_SUBJECT_LENGTH: Final = 998
"""Characters of a line in mail (RFC 5322): of a message's subject, and of what events may have from their message."""
_MAX_DATA_BYTES: Final = 64 * 1024
_MAX_DATA_BYTES_OF_OBJECT: Final = 4 * 1024 * 1024
"""The limit for the events of one object together: subscribers receive the shared data with each of them."""
_MIN_DATA_BYTES: Final = 2048
_MAX_REASON_LENGTH_OF_OBJECT: Final = 64 * 1024
"""The limit for the events of one object together: each has the reason in its row and in a state."""
_MIN_REASON_LENGTH: Final = 200
_SHARED_ROW_BYTES: Final = 100
"""What a row of `event_objects` takes, with its index, beside the data."""
_MAX_REPEATING: Final = 4
_MAX_REPEATED_OBJECT: Final = 4 * 1024
"""Bytes. A list of events reads the object in the body once for each event that does not share it."""


def parse_events(source: Source, receipt_id: UUID, received_at: datetime, body: bytes) -> list[NewEvent]:
    """Parse a body and return its events as rows. Raises PayloadError.

    Events of one provider object, one for each recipient, refer to one `SharedObject` if that takes less than to repeat
    what they share.
    """
    parsed = source.provider.parse(body, source.credentials)
    if len(parsed) > payload.MAX_EVENTS:
        raise payload.too_many(len(parsed))
    found: list[NewEvent] = []
    end = 0
    for _, group in groupby(parsed, key=_object_of):
        events = list(group)
        provider_object = events[0].provider_object
        # The objects of a body are in order. If one is not found, the body is not searched for those that follow.
        object_at = None
        if end >= 0:
            # Nearly always one character separates it from the last one. A search takes several times as long.
            at = end + 1 if body.startswith(provider_object, end + 1) else body.find(provider_object, end)
            object_at, end = (at, at + len(provider_object)) if at >= 0 else (None, at)
        named = [read_message_fields(event) for event in events]
        if whole := None in named:
            named = [None] * len(events)
        fields = [read_fields(event, received_at, whole=whole) for event in events]
        first_id = ids.event_id(receipt_id, len(found))
        shared = share(events, fields[0], first_id, object_at) if len(events) > 1 else None
        first_data = write_data(fields[0], shared)
        for event, own, bits in zip(events, fields, named, strict=True):
            # Of most objects, all events have the same fields.
            data = first_data if own == fields[0] else write_data(own, shared)
            found.append(make_row(source.id, receipt_id, len(found), received_at, event, data, object_at, shared, bits))
    return found


def _object_of(event: Event) -> int:
    return id(event.provider_object)


def read_message_fields(event: Event) -> int | None:
    """Return those of MESSAGE_FIELDS that have a value (`bit_of`), if the event can have them from its message.

    None if it belongs to no message, or one is longer than a message keeps.
    """
    if event.message_key is None or event.type in WITHOUT_MESSAGE:
        return None
    found = 0
    for bit, value in zip(_BITS, _message_values(event), strict=True):
        if value is not None:
            if len(value) > _MAX_SUBJECT_LENGTH:
                return None
            found |= bit
    return found


class Shared(NamedTuple):
    """What the events of one provider object share: the object, the fields that are stored as JSON, and a limit."""

    object: SharedObject
    data: Mapping[str, Any]
    max_reason_length: int


def share(events: Sequence[Event], fields: Fields, first_id: UUID, object_at: int | None) -> Shared | None:
    """Return what several events of one provider object share; None if it takes less to repeat it.

    The more events, the lower the limits.
    `fields` are those of the first event. The object is at `object_at` in the body, in bytes; None if it was not found
    there.
    """
    provider_object = events[0].provider_object
    data = {name: value for name, value in fields.present().items() if name not in _NEVER_SHARED}
    limit = max(_MIN_DATA_BYTES, min(_MAX_DATA_BYTES, _MAX_DATA_BYTES_OF_OBJECT // len(events)))
    text = _cut(data, limit)
    is_small = object_at is not None and len(provider_object) <= _MAX_REPEATED_OBJECT
    if is_small and len(events) <= _MAX_REPEATING and len(text) * (len(events) - 1) <= _SHARED_ROW_BYTES:
        return None
    return Shared(
        object=SharedObject(
            id=first_id,
            data=text,
            provider_object=provider_object.decode() if object_at is None else None,
            object_at=object_at,
            object_length=None if object_at is None else len(provider_object),
        ),
        data=data,
        max_reason_length=max(_MIN_REASON_LENGTH, min(_MAX_REASON_LENGTH, _MAX_REASON_LENGTH_OF_OBJECT // len(events))),
    )


def make_row(
    source_id: int,
    receipt_id: UUID,
    position: int,
    received_at: datetime,
    event: Event,
    data: str,
    object_at: int | None,
    shared: Shared | None,
    message_fields: int | None = None,
) -> NewEvent:
    """Return the row of the event at this position of a receipt, whose object is at `object_at` in the body.

    With `message_fields`, `data` has none of those of the message (`NewEvent`).
    """
    # Without an identity from the provider, the position in the receipt identifies the event.
    identity = event.identity if event.identity is not None else f"{receipt_id}:{position}"
    weight, rank, status = _EFFECTS[event.type]
    message_key = None if event.type in WITHOUT_MESSAGE else event.message_key
    occurred_at = event.occurred_at
    if occurred_at is None or occurred_at - received_at > _MAX_CLOCK_AHEAD:
        occurred_at = received_at
    return NewEvent(
        id=ids.event_id(receipt_id, position),
        receipt_id=receipt_id,
        source_id=source_id,
        key=event_ids.event_key(source_id, identity, event.recipient),
        key_minute=event_ids.key_minute(received_at if event.identity is None else event.identity_at),
        type=event.type,
        message_key=None if message_key is None else event_ids.message_key(source_id, message_key),
        recipient=event.recipient,
        occurred_at=occurred_at,
        received_at=received_at,
        sender=event.sender,
        subject=event.subject and event.subject[:_MAX_SUBJECT_LENGTH],
        provider_message_id=event.provider_message_id,
        request_id=event.request_id,
        smtp_id=event.smtp_id,
        tenant=event.tenant,
        tag=event.tag,
        campaign=event.campaign,
        classification=event.classification,
        smtp_status=event.smtp_status,
        enhanced_code=event.enhanced_code,
        reason=event.reason and event.reason[: _MAX_REASON_LENGTH if shared is None else shared.max_reason_length],
        data=data,
        provider_object=event.provider_object.decode() if shared is None and object_at is None else None,
        object_at=object_at if shared is None else None,
        object_length=len(event.provider_object) if shared is None and object_at is not None else None,
        weight=weight,
        rank=rank,
        status=status,
        change_type=CHANGE_TYPES[event.type],
        shared=None if shared is None else shared.object,
        message_fields=message_fields,
    )


def read_fields(event: Event, received_at: datetime, *, whole: bool = True) -> Fields:
    """Return the fields of an event that are stored as JSON; without MESSAGE_FIELDS unless `whole`."""
    details = event.details
    if event.occurred_at is not None and event.occurred_at - received_at > _MAX_CLOCK_AHEAD:
        details = {**details, "unusable_time": event.occurred_at.isoformat()}
    fields = Fields(
        remote_host=event.remote_host,
        url=event.url,
        ip=event.ip,
        user_agent=event.user_agent,
        metadata=event.metadata,
        problem=event.problem,
        details=details or None,
        automated=event.automation or bots.detect_automation(event.type, event.user_agent, event.ip),
    )
    if whole:
        for name in MESSAGE_FIELDS:
            setattr(fields, name, getattr(event, name))
    return fields


def write_data(fields: Fields, shared: Shared | None) -> str:
    """Return the fields of an event as JSON; with `shared`, what differs from that."""
    data: Fields | dict[str, Any] = fields
    if shared is not None:
        own = fields.present()
        missing = dict.fromkeys(shared.data.keys() - own.keys())
        data = missing | {name: value for name, value in own.items() if shared.data.get(name) != value}
    encoded = _encode(data)
    if len(encoded) > _MAX_DATA_BYTES:
        return _cut(data if isinstance(data, dict) else fields.present())
    return encoded.decode()


def _cut(data: dict[str, Any], limit: int = _MAX_DATA_BYTES) -> str:
    """Return the fields as JSON of at most `limit` bytes. Longer texts are cut, and parts of structures left out."""
    encoded = _encode(data)
    if len(encoded) <= limit:
        return encoded.decode()
    max_field_bytes, bytes_left = limit // 8, limit
    kept: dict[str, Any] = {}
    for name, value in data.items():
        short = value[:max_field_bytes] if isinstance(value, str) else value
        if isinstance(value, dict):
            short = {key: part for key, part in value.items() if len(_encode(part)) <= max_field_bytes}
        size = len(_encode(short))
        if size <= bytes_left:
            kept[name] = short
            bytes_left -= size
    return _encode(kept).decode()
