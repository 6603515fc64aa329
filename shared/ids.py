"""UUIDs of version 7 (RFC 9562): ids that sort by time, so that inserts stay at the right edge of an index."""

import secrets
from datetime import UTC, datetime
from uuid import UUID, SafeUUID

EVENTS_PER_RECEIPT_BITS = 20
"""Receipt ids leave this many low bits free; an event's id is its receipt's plus its position."""

_TIME_SHIFT = 80
_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)
_UNKNOWN = SafeUUID.unknown  # as a constructor that is given a number says


def receipt_id(now: datetime) -> UUID:
    """Return a new id for a receipt that arrived at `now`; the following ids are reserved for its events."""
    random = secrets.randbits(74)
    low = (random & ((1 << 62) - 1)) >> EVENTS_PER_RECEIPT_BITS << EVENTS_PER_RECEIPT_BITS
    milliseconds = int(now.timestamp() * 1000)
    return UUID(int=milliseconds << _TIME_SHIFT | _VERSION_AND_VARIANT | (random >> 62) << 64 | low)


def event_id(receipt: UUID, position: int) -> UUID:
    """Return the id of the event at `position` (from 0) of a receipt: the same each time it is processed."""
    # Every event gets one. The constructor, which reads other forms too, takes twice as long.
    made = object.__new__(UUID)
    object.__setattr__(made, "int", receipt.int + position + 1)
    object.__setattr__(made, "is_safe", _UNKNOWN)
    return made


def receipt_of(event: UUID) -> UUID:
    """Return the id of the receipt that contained an event."""
    return UUID(int=event.int >> EVENTS_PER_RECEIPT_BITS << EVENTS_PER_RECEIPT_BITS)


def first_at(now: datetime) -> UUID:
    """Return the lowest id of that time: the bound of partitions and time ranges."""
    return UUID(int=int(now.timestamp() * 1000) << _TIME_SHIFT)


def made_at(identifier: UUID) -> datetime:
    """Return the time of a version 7 id, in milliseconds precision."""
    return datetime.fromtimestamp((identifier.int >> _TIME_SHIFT) / 1000, tz=UTC)
