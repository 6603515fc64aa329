"""What providers could not deliver to us, and what came of having it sent again."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.postgres.pagination import Page, Position, Walk
from shared.providers.api.base import FailedDelivery, Span

_MOST_SETTLED = 1000
_MOST_CANDIDATES = 2000
_BODIES_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure(FailedDelivery):
    """A failed delivery, and where it stands: `listed`, `resent`, `recovered` or `given_up`.

    `new_events` is how many of its events had been missing; None while that is not known.
    """

    state: str
    attempts: int
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    last_error: str | None
    receipt_id: UUID | None
    new_events: int | None
    listed_at: datetime


_COLUMNS = ", ".join(entry.name for entry in fields(KnownFailure))
_OPEN = "state IN ('listed', 'resent')"
_IN_SPAN = (
    "(%(since)s::timestamptz IS NULL OR failed_at >= %(since)s)"
    " AND (%(until)s::timestamptz IS NULL OR failed_at < %(until)s)"
)

_ADD = """
INSERT INTO failed_deliveries (source_id, reference, failed_at, outcome, status_code, events, url, state, listed_at)
SELECT %(source_id)s, reference, failed_at, outcome, status_code, events, url, 'listed', now() FROM (
    SELECT unnest(%(reference)b::text[]) AS reference, unnest(%(failed_at)b::timestamptz[]) AS failed_at,
        unnest(%(outcome)b::text[]) AS outcome, unnest(%(status_code)b::smallint[]) AS status_code,
        unnest(%(events)b::integer[]) AS events, unnest(%(url)b::text[]) AS url
) AS found
WHERE NOT EXISTS (
    SELECT FROM resend_records AS r WHERE r.source_id = %(source_id)s AND r.reference = found.reference
)
ORDER BY reference ON CONFLICT DO NOTHING
"""

# How many of a receipt's events were new is known when it has been processed: neither pending, nor set aside.
_SETTLE = """
WITH asked AS (SELECT unnest(%(ids)b::uuid[]) AS receipt_id, unnest(%(ends)b::uuid[]) AS last_id),
told AS (
    SELECT asked.receipt_id, k.state, k.detail,
        (SELECT count(*) FROM events WHERE id > asked.receipt_id AND id < asked.last_id) AS new_events
    FROM asked LEFT JOIN parked_receipts AS k ON k.receipt_id = asked.receipt_id
    WHERE NOT EXISTS (SELECT FROM pending_receipts AS p WHERE p.receipt_id = asked.receipt_id)
        AND k.state IS DISTINCT FROM 'unverified'
)
UPDATE failed_deliveries AS f SET
    new_events = CASE WHEN told.state IS NULL THEN told.new_events END,
    state = CASE WHEN told.state IS NULL THEN 'recovered' ELSE 'given_up' END,
    given_up_at = CASE WHEN told.state IS NOT NULL THEN now() END,
    last_error = 'what was sent again is ' || told.state || ': ' || told.detail
FROM told WHERE f.receipt_id = told.receipt_id AND f.state = 'recovered' AND f.new_events IS NULL
"""


def add(connection: Connection, source_id: int, found: Sequence[FailedDelivery]) -> int:
    """Keep those that are not known yet, and are no attempts of our own; return how many that were."""
    columns = {entry.name: [getattr(one, entry.name) for one in found] for entry in fields(FailedDelivery)}
    return connection.exec_driver_sql(_ADD, {"source_id": source_id, **columns}).rowcount


def open_ones(
    connection: Connection, source_id: int, *, span: Span | None, before: datetime, due_only: bool, limit: int
) -> list[KnownFailure]:
    """What is to be sent again, least often tried and oldest first; none that was tried since `before`."""
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM failed_deliveries WHERE source_id = %(source_id)s AND {_OPEN} AND {_IN_SPAN}"
        " AND (last_attempt_at IS NULL OR last_attempt_at < %(before)s)"
        " AND (NOT %(due_only)s OR next_attempt_at IS NULL OR next_attempt_at <= now())"
        " ORDER BY attempts, failed_at LIMIT %(limit)s",
        {"source_id": source_id, **_ends(span), "before": before, "due_only": due_only, "limit": limit},
    )
    return [KnownFailure(**row._asdict()) for row in rows]


def count_open(connection: Connection, source_id: int, *, span: Span | None = None) -> int:
    """How many are still to be sent again."""
    return int(
        connection.exec_driver_sql(
            f"SELECT count(*) FROM failed_deliveries WHERE source_id = %(source_id)s AND {_OPEN} AND {_IN_SPAN}",
            {"source_id": source_id, **_ends(span)},
        ).scalar_one()
    )


def listed(connection: Connection, source_id: int, *, span: Span, limit: int) -> list[KnownFailure]:
    """Those that failed in that time, the newest first."""
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM failed_deliveries WHERE source_id = %(source_id)s AND {_IN_SPAN}"
        " ORDER BY failed_at DESC, reference LIMIT %(limit)s",
        {"source_id": source_id, **_ends(span), "limit": limit},
    )
    return [KnownFailure(**row._asdict()) for row in rows]


def page(
    connection: Connection, source_id: int, *, span: Span | None, after: Position | None, limit: int
) -> Page[KnownFailure]:
    """Those that failed in that time, the newest first, a page at a time."""
    walk = Walk(table="failed_deliveries AS f", keys=("f.failed_at", "f.reference"))
    walk.bound("f.source_id = %(source_id)s", source_id=source_id)
    if span is not None:
        walk.bound("f.failed_at >= %(since)s AND f.failed_at < %(until)s", since=span.since, until=span.until)
    walk.after(after)
    found = walk.page(connection, limit)
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM failed_deliveries WHERE source_id = %(source_id)s AND reference = ANY(%(references)s)"
        " ORDER BY failed_at DESC, reference DESC",
        {"source_id": source_id, "references": [position[1] for position in found.items]},
    )
    return Page([KnownFailure(**row._asdict()) for row in rows], found.next)


def states(connection: Connection, source_id: int, references: Collection[str]) -> dict[str, str]:
    """Where those of these stand that are known, by reference; attempts of our own stand as `ours`."""
    rows = connection.exec_driver_sql(
        "SELECT reference, state FROM failed_deliveries"
        " WHERE source_id = %(source_id)s AND reference = ANY(%(references)s)"
        " UNION ALL SELECT reference, 'ours' FROM resend_records"
        " WHERE source_id = %(source_id)s AND reference = ANY(%(references)s)",
        {"source_id": source_id, "references": list(references)},
    )
    return {row[0]: row[1] for row in rows}


def touched(connection: Connection, source_id: int, *, since: datetime) -> list[KnownFailure]:
    """Those that were sent again since then, the oldest first."""
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM failed_deliveries WHERE source_id = %(source_id)s AND last_attempt_at >= %(since)s"
        " ORDER BY failed_at, reference",
        {"source_id": source_id, "since": since},
    )
    return [KnownFailure(**row._asdict()) for row in rows]


def reopen(connection: Connection, source_id: int, *, span: Span | None) -> int:
    """Have those that were given up tried again; return how many."""
    return connection.exec_driver_sql(
        "UPDATE failed_deliveries SET state = 'resent', attempts = 0, next_attempt_at = NULL"
        f" WHERE source_id = %(source_id)s AND state = 'given_up' AND {_IN_SPAN}",
        {"source_id": source_id, **_ends(span)},
    ).rowcount


def attempt(connection: Connection, source_id: int, reference: str) -> str:
    """Write down that it is being sent again, before it is: who goes on after a crash knows that it may have been.

    Returns the id of this transaction: what arrives because of the attempt is written by a later one.
    """
    return str(
        connection.exec_driver_sql(
            "UPDATE failed_deliveries SET state = 'resent', attempts = attempts + 1, last_error = NULL,"
            " last_attempt_at = clock_timestamp() WHERE source_id = %(source_id)s AND reference = %(reference)s"
            " RETURNING pg_current_xact_id()::xid::text",
            {"source_id": source_id, "reference": reference},
        ).scalar_one()
    )


def recovered(connection: Connection, source_id: int, reference: str, receipt_id: UUID | None) -> None:
    """Our receiver took it: as this receipt, or None if it was a repetition and nothing had been missing."""
    connection.exec_driver_sql(
        "UPDATE failed_deliveries SET state = 'recovered', last_error = NULL, next_attempt_at = NULL,"
        " receipt_id = %(receipt_id)s, new_events = CASE WHEN %(receipt_id)s::uuid IS NULL THEN 0 END"
        " WHERE source_id = %(source_id)s AND reference = %(reference)s",
        {"source_id": source_id, "reference": reference, "receipt_id": receipt_id},
    )
    if receipt_id is not None:
        connection.exec_driver_sql(
            "INSERT INTO reconciled_receipts (receipt_id, source_id, reference, reconciled_at)"
            " VALUES (%(receipt_id)s, %(source_id)s, %(reference)s, now()) ON CONFLICT DO NOTHING",
            {"source_id": source_id, "reference": reference, "receipt_id": receipt_id},
        )


def retry(connection: Connection, source_id: int, reference: str, *, error: str, next_attempt_at: datetime) -> None:
    """It did not work this time."""
    connection.exec_driver_sql(
        "UPDATE failed_deliveries SET last_error = %(error)s, next_attempt_at = %(next_at)s"
        " WHERE source_id = %(source_id)s AND reference = %(reference)s",
        {"source_id": source_id, "reference": reference, "error": error, "next_at": next_attempt_at},
    )


def take_back(connection: Connection, source_id: int, reference: str, *, error: str) -> None:
    """The attempt could not even be made: it is not charged."""
    connection.exec_driver_sql(
        "UPDATE failed_deliveries SET attempts = attempts - 1, last_error = %(error)s"
        " WHERE source_id = %(source_id)s AND reference = %(reference)s",
        {"source_id": source_id, "reference": reference, "error": error},
    )


def give_up(connection: Connection, source_id: int, reference: str, *, reason: str) -> None:
    """It is not tried again by itself."""
    connection.exec_driver_sql(
        "UPDATE failed_deliveries SET state = 'given_up', last_error = %(reason)s, next_attempt_at = NULL,"
        " given_up_at = now()"
        " WHERE source_id = %(source_id)s AND reference = %(reference)s",
        {"source_id": source_id, "reference": reference, "reason": reason},
    )


def note_record(connection: Connection, source_id: int, record: str, resent: str) -> None:
    """Remember what the provider calls an attempt of ours, so that it is not taken for a failure of its own."""
    connection.exec_driver_sql(
        "INSERT INTO resend_records (source_id, reference, resent, made_at)"
        " VALUES (%(source_id)s, %(record)s, %(resent)s, now()) ON CONFLICT DO NOTHING",
        {"source_id": source_id, "record": record, "resent": resent},
    )


def settle(connection: Connection, source_id: int | None = None) -> int:
    """Fill in how many events had been missing, where that is known by now; return how many are still to be told.

    What was sent again and then could not be verified or processed is given up.
    """
    rows = connection.exec_driver_sql(
        "SELECT receipt_id FROM failed_deliveries WHERE state = 'recovered' AND new_events IS NULL"
        " AND (%(source_id)s::bigint IS NULL OR source_id = %(source_id)s) LIMIT %(most)s",
        {"source_id": source_id, "most": _MOST_SETTLED},
    )
    waiting = [row[0] for row in rows]
    if not waiting:
        return 0
    ends = [UUID(int=receipt_id.int + (1 << ids.EVENTS_PER_RECEIPT_BITS)) for receipt_id in waiting]
    settled = connection.exec_driver_sql(_SETTLE, {"ids": waiting, "ends": ends}).rowcount
    return len(waiting) - settled


def arrivals(
    connection: Connection, source_id: int, span: Span, transaction: str | None = None
) -> Iterator[tuple[UUID, bytes]]:
    """Receipts of that time that nobody has asked for so far, oldest first, with their bodies: a bounded number.

    With `transaction` only those that were written by a later one: clocks differ, the order of transactions does not.
    """
    rows = connection.exec_driver_sql(
        "SELECT id FROM receipts AS r WHERE id >= %(first)s AND id < %(last)s AND source_id = %(source_id)s"
        " AND (%(transaction)s::text IS NULL OR age(r.xmin) < age(%(transaction)s::text::xid))"
        " AND NOT EXISTS (SELECT FROM reconciled_receipts WHERE receipt_id = r.id) ORDER BY id LIMIT %(most)s",
        {
            "transaction": transaction,
            "first": ids.first_at(span.since),
            "last": ids.first_at(span.until),
            "source_id": source_id,
            "most": _MOST_CANDIDATES,
        },
    )
    found = [row[0] for row in rows]
    for first in range(0, len(found), _BODIES_AT_ONCE):
        bodies = connection.exec_driver_sql(
            "SELECT id, body FROM receipts WHERE id = ANY(%(ids)s) AND body IS NOT NULL ORDER BY id",
            {"ids": found[first : first + _BODIES_AT_ONCE]},
        )
        yield from ((row[0], bytes(row[1])) for row in bodies)


def came_after(connection: Connection, source_id: int, receipt_id: UUID, transaction: str) -> bool | None:
    """Whether a receipt was written by a later transaction; None if this source has no such receipt."""
    later: bool | None = connection.exec_driver_sql(
        "SELECT age(xmin) < age(%(transaction)s::text::xid) FROM receipts"
        " WHERE id = %(id)s AND source_id = %(source_id)s",
        {"id": receipt_id, "source_id": source_id, "transaction": transaction},
    ).scalar()
    return later


def receipts_of(connection: Connection, keys: Collection[str]) -> list[UUID] | None:
    """The receipts that brought the events with these keys (32 hex digits each); None unless all are processed."""
    rows = connection.exec_driver_sql(
        "SELECT event_id FROM event_keys WHERE key = ANY(%(keys)b::uuid[])", {"keys": list(keys)}
    ).all()
    return [ids.receipt_of(row[0]) for row in rows] if len(rows) == len(keys) else None


def _ends(span: Span | None) -> Mapping[str, Any]:
    return {"since": span and span.since, "until": span and span.until}
