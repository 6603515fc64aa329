"""UUIDs of version 7 (RFC 9562): ids that sort by the time they were made, so that inserts stay at the right edge."""

import secrets
from datetime import UTC, datetime
from uuid import UUID

EVENTS_PER_RECEIPT_BITS = 20
"""Receipt ids leave this many low bits free; an event's id is its receipt's plus its position."""

_TIME_SHIFT = 80
_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)


def receipt_id(now: datetime) -> UUID:
    """A new id for what arrived at `now`, with room for the ids of its events above it."""
    random = secrets.randbits(74)
    low = (random & ((1 << 62) - 1)) >> EVENTS_PER_RECEIPT_BITS << EVENTS_PER_RECEIPT_BITS
    return UUID(int=first_at(now).int | _VERSION_AND_VARIANT | (random >> 62) << 64 | low)


def event_id(receipt: UUID, position: int) -> UUID:
    """The id of the event at `position` (from 0) of a receipt: the same however often it is processed."""
    return UUID(int=receipt.int + position + 1)


def receipt_of(event: UUID) -> UUID:
    """The id of the receipt that brought an event."""
    return UUID(int=event.int >> EVENTS_PER_RECEIPT_BITS << EVENTS_PER_RECEIPT_BITS)


def first_at(now: datetime) -> UUID:
    """The least UUID that an id made at `now` can have; what partitions and time ranges are cut by."""
    return UUID(int=int(now.timestamp() * 1000) << _TIME_SHIFT)


def made_at(identifier: UUID) -> datetime:
    """When an id of version 7 was made, to the millisecond."""
    return datetime.fromtimestamp((identifier.int >> _TIME_SHIFT) / 1000, tz=UTC)
