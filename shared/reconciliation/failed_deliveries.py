"""Failed deliveries: webhooks that providers could not deliver to us, and the outcome of having them resent."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, func, literal, or_, select, union_all, update
from sqlalchemy.dialects.postgresql import insert

from shared import ids
from shared.postgres import stored_requests
from shared.postgres.pagination import KeysetQuery, Page, Position
from shared.providers.api.base import FailedDelivery, Span
from shared.receipts.tables import receipts
from shared.reconciliation import tables

_MAX_SETTLED = 1000
_MAX_CANDIDATES = 2000
_BODIES_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure(FailedDelivery):
    """A failed delivery and its state: `listed`, `resent`, `recovered` or `given_up`.

    `new_events` is the number of its events that we did not have; None until that is known.
    """

    state: str
    attempts: int
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    last_error: str | None
    receipt_id: UUID | None
    new_events: int | None
    listed_at: datetime


_columns = tables.failed_deliveries.c
_is_open = _columns.state.in_(["listed", "resent"])
_KNOWN: Select[Any] = select(*(_columns[entry.name] for entry in fields(KnownFailure)))

# Text, because it inserts columns of arrays, and skips our own attempts, in one statement.
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

# Text, because it is one statement with two CTEs. How many of a receipt's events were new is known once it is
# processed: neither pending nor set aside.
_SETTLE = """
WITH waiting AS (SELECT unnest(%(ids)b::uuid[]) AS receipt_id, unnest(%(ends)b::uuid[]) AS last_id),
outcome AS (
    SELECT waiting.receipt_id, k.state, k.detail,
        (SELECT count(*) FROM events WHERE id > waiting.receipt_id AND id < waiting.last_id) AS new_events
    FROM waiting LEFT JOIN parked_receipts AS k ON k.receipt_id = waiting.receipt_id
    WHERE NOT EXISTS (SELECT FROM pending_receipts AS p WHERE p.receipt_id = waiting.receipt_id)
        AND k.state IS DISTINCT FROM 'unverified'
)
UPDATE failed_deliveries AS f SET
    new_events = CASE WHEN outcome.state IS NULL THEN outcome.new_events END,
    state = CASE WHEN outcome.state IS NULL THEN 'recovered' ELSE 'given_up' END,
    given_up_at = CASE WHEN outcome.state IS NOT NULL THEN now() END,
    last_error = 'the resent request is ' || outcome.state || ': ' || outcome.detail
FROM outcome WHERE f.receipt_id = outcome.receipt_id AND f.state = 'recovered' AND f.new_events IS NULL
"""


def add(connection: Connection, source_id: int, found: Sequence[FailedDelivery]) -> int:
    """Store failed deliveries, unless they are known or are attempts of our own; return how many are new."""
    columns = {entry.name: [getattr(one, entry.name) for one in found] for entry in fields(FailedDelivery)}
    return connection.exec_driver_sql(_ADD, {"source_id": source_id, **columns}).rowcount


def list_open(
    connection: Connection, source_id: int, *, span: Span | None, before: datetime, due_only: bool, limit: int
) -> list[KnownFailure]:
    """Return failures to be resent and not tried since `before`, with the fewest attempts and the oldest first."""
    not_tried = or_(_columns.last_attempt_at.is_(None), _columns.last_attempt_at < before)
    conditions = [_columns.source_id == source_id, *_in_span(span), _is_open, not_tried]
    if due_only:
        conditions.append(or_(_columns.next_attempt_at.is_(None), _columns.next_attempt_at <= func.now()))
    statement = _KNOWN.where(*conditions).order_by(_columns.attempts, _columns.failed_at)
    return _fetch(connection, statement.limit(limit))


def count_open(connection: Connection, source_id: int, *, span: Span | None = None) -> int:
    """Return how many failures are still to be resent."""
    conditions = [_columns.source_id == source_id, _is_open, *_in_span(span)]
    return connection.execute(
        select(func.count()).select_from(tables.failed_deliveries).where(*conditions)
    ).scalar_one()


def list_failed(connection: Connection, source_id: int, *, span: Span, limit: int) -> list[KnownFailure]:
    """Return what failed in that time, the newest first."""
    statement = _KNOWN.where(_columns.source_id == source_id, *_in_span(span)).order_by(
        _columns.failed_at.desc(), _columns.reference
    )
    return _fetch(connection, statement.limit(limit))


def list_page(
    connection: Connection, source_id: int, *, span: Span | None, after: Position | None, limit: int
) -> Page[KnownFailure]:
    """Return a page of what failed in that time, the newest first."""
    query = KeysetQuery(_columns.failed_at, _columns.reference)
    query.where(_columns.source_id == source_id, *_in_span(span))
    page = query.fetch(connection, after=after, limit=limit)
    references = [reference for _, reference in page.items]
    statement = _KNOWN.where(_columns.source_id == source_id, _columns.reference.in_(references))
    order = _columns.failed_at.desc(), _columns.reference.desc()
    return Page(_fetch(connection, statement.order_by(*order)), page.next)


def list_resent(connection: Connection, source_id: int, *, since: datetime) -> list[KnownFailure]:
    """Return the failures that were resent since then, the oldest first."""
    statement = _KNOWN.where(_columns.source_id == source_id, _columns.last_attempt_at >= since)
    return _fetch(connection, statement.order_by(_columns.failed_at, _columns.reference))


def states(connection: Connection, source_id: int, references: Collection[str]) -> dict[str, str]:
    """Return the states of those that are known, by reference. The state of our own attempts is `ours`."""
    records = tables.resend_records.c
    failed = select(_columns.reference, _columns.state).where(
        _columns.source_id == source_id, _columns.reference.in_(references)
    )
    ours = select(records.reference, literal("ours")).where(
        records.source_id == source_id, records.reference.in_(references)
    )
    return {row[0]: row[1] for row in connection.execute(union_all(failed, ours))}


def reopen(connection: Connection, source_id: int, *, span: Span | None) -> int:
    """Retry failures that were given up; return how many."""
    conditions = [_columns.source_id == source_id, _columns.state == "given_up", *_in_span(span)]
    values = {"state": "resent", "attempts": 0, "next_attempt_at": None}
    return connection.execute(update(tables.failed_deliveries).where(*conditions).values(values)).rowcount


def start_attempt(connection: Connection, source_id: int, reference: str) -> str:
    """Record an attempt before it is made, so that a run after a crash knows of it.

    Returns the id of this transaction: what arrives because of the attempt is written by a later one.
    """
    # Text, because transaction ids have no type in SQLAlchemy.
    return str(
        connection.exec_driver_sql(
            "UPDATE failed_deliveries SET state = 'resent', attempts = attempts + 1, last_error = NULL,"
            " last_attempt_at = clock_timestamp() WHERE source_id = %(source_id)s AND reference = %(reference)s"
            " RETURNING pg_current_xact_id()::xid::text",
            {"source_id": source_id, "reference": reference},
        ).scalar_one()
    )


def cancel_attempt(connection: Connection, source_id: int, reference: str, *, error: str) -> None:
    """Do not count an attempt that could not be made."""
    _update(connection, source_id, reference, attempts=_columns.attempts - 1, last_error=error)


def mark_recovered(connection: Connection, source_id: int, reference: str, receipt_id: UUID | None) -> None:
    """Record that our receiver accepted it: as this receipt, or None if it was a duplicate and nothing was missing."""
    new_events = 0 if receipt_id is None else None
    values = {"last_error": None, "next_attempt_at": None, "receipt_id": receipt_id, "new_events": new_events}
    _update(connection, source_id, reference, state="recovered", **values)
    if receipt_id is not None:
        row = {"receipt_id": receipt_id, "source_id": source_id, "reference": reference, "reconciled_at": func.now()}
        connection.execute(insert(tables.reconciled_receipts).values(row).on_conflict_do_nothing())


def retry(connection: Connection, source_id: int, reference: str, *, error: str, next_attempt_at: datetime) -> None:
    """Record a failed attempt, and when to try again."""
    _update(connection, source_id, reference, last_error=error, next_attempt_at=next_attempt_at)


def give_up(connection: Connection, source_id: int, reference: str, *, reason: str) -> None:
    """Stop retrying; a person may reopen it."""
    values = {"state": "given_up", "last_error": reason, "next_attempt_at": None, "given_up_at": func.now()}
    _update(connection, source_id, reference, **values)


def record_resend(connection: Connection, source_id: int, record: str, resent: str) -> None:
    """Store the provider's id of an attempt of ours, so that it is not taken for a failure of the provider's own."""
    row = {"source_id": source_id, "reference": record, "resent": resent, "made_at": func.now()}
    connection.execute(insert(tables.resend_records).values(row).on_conflict_do_nothing())


def settle(connection: Connection, source_id: int | None = None) -> int:
    """Fill in how many events were new, where that is known by now; return how many are still waiting.

    A resent request that could not be verified or processed is given up.
    """
    statement = select(_columns.receipt_id).where(_columns.state == "recovered", _columns.new_events.is_(None))
    if source_id is not None:
        statement = statement.where(_columns.source_id == source_id)
    waiting = list(connection.scalars(statement.limit(_MAX_SETTLED)))
    if not waiting:
        return 0
    ends = [UUID(int=receipt_id.int + (1 << ids.EVENTS_PER_RECEIPT_BITS)) for receipt_id in waiting]
    return len(waiting) - connection.exec_driver_sql(_SETTLE, {"ids": waiting, "ends": ends}).rowcount


def list_arrivals(
    connection: Connection, source_id: int, span: Span, transaction: str | None = None
) -> Iterator[tuple[UUID, bytes]]:
    """Yield receipts of that time that no resend accounts for, the oldest first, with their bodies: a bounded number.

    With `transaction`, only those that a later transaction wrote: clocks differ, the order of transactions does not.
    """
    rows = connection.exec_driver_sql(
        "SELECT id FROM receipts AS r WHERE id >= %(first)s AND id < %(last)s AND source_id = %(source_id)s"
        " AND (%(transaction)s::text IS NULL OR age(r.xmin) < age(%(transaction)s::text::xid))"
        " AND NOT EXISTS (SELECT FROM reconciled_receipts WHERE receipt_id = r.id) ORDER BY id LIMIT %(limit)s",
        {
            "transaction": transaction,
            "first": ids.first_at(span.since),
            "last": ids.first_at(span.until),
            "source_id": source_id,
            "limit": _MAX_CANDIDATES,
        },
    )
    found = [row[0] for row in rows]
    for first in range(0, len(found), _BODIES_AT_ONCE):
        part = found[first : first + _BODIES_AT_ONCE]
        statement = select(receipts.c.id, receipts.c.body, receipts.c.content).where(receipts.c.id.in_(part))
        for row in connection.execute(statement.order_by(receipts.c.id)):
            if (body := stored_requests.body_of(row.body, row.content)) is not None:
                yield row.id, body


def is_written_later(connection: Connection, source_id: int, receipt_id: UUID, transaction: str) -> bool | None:
    """Return whether a later transaction wrote this receipt; None if the source has no such receipt."""
    later: bool | None = connection.exec_driver_sql(
        "SELECT age(xmin) < age(%(transaction)s::text::xid) FROM receipts"
        " WHERE id = %(id)s AND source_id = %(source_id)s",
        {"id": receipt_id, "source_id": source_id, "transaction": transaction},
    ).scalar()
    return later


def receipts_by_event_keys(connection: Connection, keys: Mapping[str, int]) -> list[UUID] | None:
    """Return the receipts of the events with these keys (32 hex digits each); None unless all are processed.

    `keys` gives the minute of each. Those that an earlier version stored have the minute 0.
    """
    # Text: two arrays are two parameters, however many keys there are.
    found = connection.exec_driver_sql(
        "SELECT event_id FROM unnest(%(keys)s::uuid[], %(minutes)s::integer[]) AS given (key, minute)"
        " JOIN event_keys AS k ON k.key = given.key AND k.minute IN (given.minute, 0)",
        {"keys": list(keys), "minutes": list(keys.values())},
    ).all()
    return [ids.receipt_of(row[0]) for row in found] if len(found) == len(keys) else None


def _fetch(connection: Connection, statement: Select[Any]) -> list[KnownFailure]:
    return [KnownFailure(**row) for row in connection.execute(statement).mappings()]


def _in_span(span: Span | None) -> list[ColumnElement[bool]]:
    return [] if span is None else [_columns.failed_at >= span.since, _columns.failed_at < span.until]


def _update(connection: Connection, source_id: int, reference: str, **values: Any) -> None:
    is_this = (_columns.source_id == source_id) & (_columns.reference == reference)
    connection.execute(update(tables.failed_deliveries).where(is_this).values(values))
