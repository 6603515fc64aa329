"""Sends that applications announce, so that a message is known before its provider has said anything.

The statement follows that of `shared.messages.store`: whichever comes first, the announcement or an event, the same
message and the same states result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from shared.messages.state import RANKS, Weight
from shared.messages.store import RISES, TAKE_IF_RISES
from shared.vocabulary import Status


class Addressee(NamedTuple):
    """A normalized address, and the key that tells its announcement from every event."""

    recipient: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One send. `message_id` is 32 hex digits, as `shared.events.event.message_id` makes them."""

    message_id: str
    source_id: int
    submitted_at: datetime
    sender: str
    request_id: str | None
    smtp_id: str | None
    provider_message_id: str | None
    addressees: Sequence[Addressee]


_FILLED = ("sender", "request_id", "smtp_id", "provider_message_id")

# No event has happened yet: "infinity" gives way to the time of any.
_MESSAGE = f"""
INSERT INTO messages AS m (id, source_id, created_at, first_event_at, submitted_at, {", ".join(_FILLED)})
VALUES (%(message_id)s, %(source_id)s, now(), 'infinity', %(submitted_at)s, {", ".join(f"%({n})s" for n in _FILLED)})
ON CONFLICT (id) DO UPDATE SET submitted_at = least(m.submitted_at, excluded.submitted_at),
    {", ".join(f"{n} = least(m.{n}, excluded.{n})" for n in _FILLED)}
RETURNING submitted_at, xmax = 0
"""

_STATES = f"""
INSERT INTO recipient_states AS s (message_id, recipient, source_id, smtp_id, weight, status_at, rank, status_key,
    status, updated_at)
SELECT %(message_id)s, recipient, %(source_id)s, %(smtp_id)s, %(weight)s, %(submitted_at)s, %(rank)s, key, %(status)s,
    now()
FROM unnest(%(recipients)s::text[], %(keys)s::uuid[]) AS given (recipient, key) ORDER BY recipient
ON CONFLICT (message_id, recipient) DO UPDATE SET
    previous_status = CASE WHEN {RISES} THEN s.status ELSE s.previous_status END,
    {TAKE_IF_RISES},
    smtp_id = least(s.smtp_id, excluded.smtp_id), version = s.version + 1, updated_at = now()
WHERE {RISES} OR s.smtp_id IS DISTINCT FROM least(s.smtp_id, excluded.smtp_id)
"""


def record(connection: Connection, announcement: Announcement) -> bool:
    """Know this message and its recipients. False if the message was known already; repeating changes nothing."""
    submitted_at, is_new = connection.exec_driver_sql(
        _MESSAGE,
        {
            "message_id": announcement.message_id,
            "source_id": announcement.source_id,
            "submitted_at": announcement.submitted_at,
            **{name: getattr(announcement, name) for name in _FILLED},
        },
    ).one()
    connection.exec_driver_sql(
        _STATES,
        {
            "message_id": announcement.message_id,
            "source_id": announcement.source_id,
            "smtp_id": announcement.smtp_id,
            "weight": int(Weight.IMPLIED),
            "rank": RANKS[Status.SUBMITTED],
            "status": str(Status.SUBMITTED),
            "submitted_at": submitted_at,  # the first one told: a repetition must not look like news
            "recipients": [addressee.recipient for addressee in announcement.addressees],
            "keys": [addressee.key for addressee in announcement.addressees],
        },
    )
    return bool(is_new)
