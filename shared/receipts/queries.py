"""Receipts and refusals, as people look at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Text, cast, select

from shared import ids
from shared.postgres.pagination import KeysetQuery, Page, Position, Span, Walk
from shared.receipts.refusals import Refusal
from shared.receipts.tables import refusals
from shared.vocabulary import ReceiptState

_SEALED = "sealed:"
_WITHHELD = "(withheld)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """One receipt and where it stands. Times are ours; `bytes` is the length of its body.

    `attempts` and `last_error` are of the queue, `reason`, `detail` and `key_id` of what is set aside;
    `available_at` is when it is looked at again. `reconciled`: it came because the provider was asked to send again.
    `erased_at`: an erasure deleted its body and headers then, because they contained the address; `bytes` is 0.
    """

    id: UUID
    source: str
    state: ReceiptState
    received_at: datetime
    idempotency_key: str | None
    bytes: int
    attempts: int
    last_error: str | None
    reason: str | None
    detail: str | None
    key_id: str | None
    available_at: datetime | None
    remote_ip: str | None
    headers: Mapping[str, str]
    reconciled: bool
    erased_at: datetime | None


_FACTS = """
SELECT r.id, s.slug AS source,
    CASE WHEN p.receipt_id IS NOT NULL THEN 'pending' ELSE coalesce(k.state, 'processed') END AS state,
    r.received_at, r.idempotency_key, coalesce(length(r.body), 0) AS bytes,
    coalesce(p.attempts, k.attempts, 0) AS attempts, p.last_error,
    k.reason, k.detail, k.key_id, coalesce(p.available_at, k.available_at) AS available_at,
    r.remote_ip, r.headers, EXISTS (SELECT FROM reconciled_receipts AS x WHERE x.receipt_id = r.id) AS reconciled,
    (SELECT erased_at FROM erased_receipts AS x WHERE x.receipt_id = r.id) AS erased_at
FROM receipts AS r JOIN sources AS s ON s.id = r.source_id
LEFT JOIN pending_receipts AS p ON p.receipt_id = r.id
LEFT JOIN parked_receipts AS k ON k.receipt_id = r.id AND p.receipt_id IS NULL
WHERE r.id = ANY(%(ids)s) ORDER BY r.id DESC
"""


def listed(
    connection: Connection,
    *,
    source: str | None = None,
    state: ReceiptState | None = None,
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[ReceiptFacts]:
    """Receipts, the newest first."""
    walk = _walk_of(state)
    (key,) = walk.keys
    (span or Span()).cut(walk, key)
    if source is not None:
        walk.pick("source_id = (SELECT id FROM sources WHERE slug = %(source)s)", source=source)
    walk.after(after)
    found = walk.page(connection, limit)
    return Page(_facts(connection, [position[0] for position in found.items]), found.next)


def find(connection: Connection, receipt_id: UUID) -> ReceiptFacts | None:
    """One receipt."""
    found = _facts(connection, [receipt_id])
    return found[0] if found else None


def raw(connection: Connection, receipt_id: UUID) -> bytes | None:
    """Return the body of a receipt, byte for byte; None if there is no such receipt, or its body was erased."""
    body = connection.exec_driver_sql("SELECT body FROM receipts WHERE id = %(id)s", {"id": receipt_id}).scalar()
    return None if body is None else bytes(body)


def source_of(connection: Connection, receipt_id: UUID) -> int | None:
    """The source that a receipt came through; None if there is no such receipt."""
    found: int | None = connection.exec_driver_sql(
        "SELECT source_id FROM receipts WHERE id = %(id)s", {"id": receipt_id}
    ).scalar()
    return found


def erased(connection: Connection, receipt_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return when the bodies of these receipts were erased, for those whose were."""
    rows = connection.exec_driver_sql(
        "SELECT receipt_id, erased_at FROM erased_receipts WHERE receipt_id = ANY(%(ids)s)", {"ids": list(receipt_ids)}
    )
    return {row[0]: row[1] for row in rows}


def doubtful(connection: Connection, receipt_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these receipts that are not known to come from their provider: unverified or rejected."""
    rows = connection.exec_driver_sql(
        "SELECT receipt_id FROM parked_receipts"
        " WHERE receipt_id = ANY(%(ids)s) AND state IN ('unverified', 'rejected')",
        {"ids": list(receipt_ids)},
    )
    return {row[0] for row in rows}


def event_ids(connection: Connection, receipt_id: UUID) -> list[UUID]:
    """The ids of the events that a receipt brought, in the order of its body."""
    rows = connection.exec_driver_sql(
        "SELECT id FROM events WHERE id > %(first)s AND id < %(end)s ORDER BY id",
        {"first": receipt_id, "end": UUID(int=receipt_id.int + (1 << ids.EVENTS_PER_RECEIPT_BITS))},
    )
    return [row[0] for row in rows]


def refused(
    connection: Connection,
    *,
    source: str | None = None,
    reason: str | None = None,
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Refusal]:
    """Refusals, the newest first."""
    query = KeysetQuery(refusals.c.id)
    query.where(*(span or Span()).of_ids(refusals.c.id))
    if source is not None:
        query.filter(refusals.c.source == source)
    if reason is not None:
        query.filter(refusals.c.reason == reason)
    page = query.fetch(connection, after=after, limit=limit)
    columns = [cast(c, Text) if c is refusals.c.headers else c for c in refusals.c]
    statement = select(*columns).where(refusals.c.id.in_([key for (key,) in page.items])).order_by(refusals.c.id.desc())
    return Page([Refusal(**row) for row in connection.execute(statement).mappings()], page.next)


def _walk_of(state: ReceiptState | None) -> Walk:
    if state is None:
        return Walk(table="receipts", keys=("id",))
    if state is ReceiptState.PENDING:
        return Walk(table="pending_receipts", keys=("receipt_id",))
    if state is ReceiptState.PROCESSED:
        walk = Walk(table="receipts AS r", keys=("id",))
        for table in ("pending_receipts", "parked_receipts"):
            walk.pick(f"NOT EXISTS (SELECT FROM {table} AS t WHERE t.receipt_id = r.id)")
        return walk
    walk = Walk(table="parked_receipts", keys=("receipt_id",))
    walk.pick("state = %(state)s", state=state)
    return walk


def _facts(connection: Connection, receipt_ids: Sequence[UUID]) -> list[ReceiptFacts]:
    rows = connection.exec_driver_sql(_FACTS, {"ids": list(receipt_ids)}).mappings()
    return [ReceiptFacts(**{**row, "headers": _shown(row["headers"])}) for row in rows]


def _shown(headers: Mapping[str, Any]) -> dict[str, str]:
    """Headers without those that are kept sealed for another verification."""
    return {name: _WITHHELD if str(text).startswith(_SEALED) else text for name, text in headers.items()}
