"""The quarantine: requests whose signature could not be verified yet."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, func, update

from shared.counters import store as counts
from shared.errors import VerificationError
from shared.receipts.store import INSERT_NEW, Receipt, columns_of, release_keys
from shared.receipts.tables import parked_receipts
from shared.vocabulary import ReceiptState

_ADD = f"""
WITH {INSERT_NEW}
INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, key_id, bytes, available_at, parked_at,
    dedup_key)
SELECT id, source_id, %(state)s, %(reason)s, %(detail)s, %(key_id)s, length(body), received_at, received_at, key
FROM arrived WHERE id IN (SELECT receipt_id FROM fresh)
RETURNING receipt_id
"""

_TAKE_KEY = """
INSERT INTO receipt_keys AS known (key, receipt_id, expires_at) VALUES (%(key)s, %(id)s, %(expires_at)s)
ON CONFLICT (key) DO UPDATE SET receipt_id = excluded.receipt_id, expires_at = excluded.expires_at
WHERE known.expires_at <= %(received_at)s RETURNING 1
"""

# Text, not an expression: one statement that claims and counts the attempt. Every source gets its share, so that a
# flood of one delays no other. Within a source the oldest come first: what arrives later cannot push them back.
_CLAIM = """
WITH flooded AS (
    SELECT source_id FROM parked_receipts
    WHERE state = 'unverified' AND available_at <= now() AND source_id <> ALL(%(except_sources)s)
    GROUP BY source_id ORDER BY min(available_at) LIMIT %(sources)s
),
due AS (
    SELECT receipt_id, source_id, bytes FROM flooded CROSS JOIN LATERAL (
        SELECT receipt_id, bytes FROM parked_receipts AS p
        WHERE p.source_id = flooded.source_id AND state = 'unverified' AND available_at <= now()
        ORDER BY receipt_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS oldest
),
taken AS (
    SELECT receipt_id FROM (
        SELECT receipt_id, bytes, sum(bytes) OVER (PARTITION BY source_id ORDER BY receipt_id) AS total FROM due
    ) AS summed
    WHERE total - bytes < %(max_bytes)s
),
claimed AS (
    UPDATE parked_receipts SET attempts = attempts + 1, available_at = now() + make_interval(secs => %(lease_seconds)s)
    WHERE receipt_id IN (SELECT receipt_id FROM taken) RETURNING receipt_id, attempts
)
SELECT id, source_id, received_at, attempts, headers::text, body
FROM claimed JOIN receipts ON id = receipt_id ORDER BY id
"""

_DELETE_OLDEST_REJECTED = """
WITH ranked AS (
    SELECT receipt_id, count(*) OVER newest AS rows, sum(bytes) OVER newest AS size FROM parked_receipts
    WHERE source_id = %(source_id)s AND state = 'rejected' WINDOW newest AS (ORDER BY receipt_id DESC)
),
gone AS (
    DELETE FROM parked_receipts WHERE state = 'rejected' AND receipt_id IN (
        SELECT receipt_id FROM ranked WHERE rows > %(max_rows)s OR size > %(max_bytes)s
    ) RETURNING receipt_id
)
DELETE FROM receipts WHERE id IN (SELECT receipt_id FROM gone)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRequest:
    """A request to verify again. `headers` is JSON; secrets in it are sealed."""

    id: UUID
    source_id: int
    received_at: datetime
    attempts: int
    headers: str
    body: bytes


def add(
    connection: Connection, receipt: Receipt, error: VerificationError, *, max_rows: int, max_bytes: int
) -> bool | None:
    """Store a request that failed verification, within the limits of its source's quarantine.

    Returns True if it was stored, False if it is a duplicate, None if the quarantine is full.
    """
    rows, size = connection.exec_driver_sql(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM parked_receipts"
        " WHERE source_id = %(id)s AND state = 'unverified'",
        {"id": receipt.source_id},
    ).one()
    if rows >= max_rows or size + len(receipt.body) > max_bytes:
        return None
    values = {"state": ReceiptState.UNVERIFIED, "reason": error.reason, "detail": str(error), "key_id": error.key_id}
    return bool(connection.exec_driver_sql(_ADD, {**columns_of([receipt]), **values}).all())


def claim(
    connection: Connection,
    *,
    sources: int,
    limit: int,
    max_bytes: int,
    lease_seconds: int,
    except_sources: Collection[int] = (),
) -> list[QuarantinedRequest]:
    """Lease due requests and count the attempt: of up to `sources` sources, and of each the oldest.

    Of one source these are up to `limit`, and no more once they exceed `max_bytes`, but always one.
    """
    values = {"sources": sources, "limit": limit, "max_bytes": max_bytes, "lease_seconds": lease_seconds}
    rows = connection.exec_driver_sql(_CLAIM, {**values, "except_sources": list(except_sources)})
    return [
        QuarantinedRequest(
            id=row[0], source_id=row[1], received_at=row[2], attempts=row[3], headers=row[4], body=row[5]
        )
        for row in rows
    ]


def admit(
    connection: Connection, receipt_id: UUID, *, key: str, key_expires_at: datetime, received_at: datetime
) -> bool:
    """Queue a request that was verified. Return False if it duplicates one that was accepted at once.

    A key that had expired when this request arrived makes no duplicate, as in `shared.receipts.store.record`.
    """
    values = {"key": key, "id": receipt_id, "expires_at": key_expires_at, "received_at": received_at}
    fresh = connection.exec_driver_sql(_TAKE_KEY, values).all()
    if not fresh and release_keys(connection, [key]):
        fresh = connection.exec_driver_sql(_TAKE_KEY, values).all()
    gone = delete(parked_receipts).where(*_is_unverified(receipt_id)).returning(parked_receipts)
    (parked,) = connection.execute(gone).all() or (None,)
    if parked is None:
        return False
    _forget_key(connection, parked.dedup_key)
    if fresh:
        connection.exec_driver_sql(
            "INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at)"
            " VALUES (%(receipt_id)s, %(source_id)s, %(bytes)s, now()) ON CONFLICT DO NOTHING",
            {"receipt_id": receipt_id, "source_id": parked.source_id, "bytes": parked.bytes},
        )
    return bool(fresh)


def reject(connection: Connection, receipt_id: UUID, *, reason: str, detail: str) -> None:
    """Mark a request as rejected, and count it as a refusal: its provider did not send it.

    Its key is forgotten: if the same request comes again, the provider may publish its public key by then.
    """
    rejected = connection.execute(
        update(parked_receipts)
        .where(*_is_unverified(receipt_id))
        .values(state=ReceiptState.REJECTED, reason=reason, detail=detail)
        .returning(parked_receipts.c.source_id, parked_receipts.c.dedup_key)
    ).one_or_none()
    if rejected is not None:
        _forget_key(connection, rejected.dedup_key)
        counts.count_rejection(connection, rejected.source_id, receipt_id, reason)


def delete_oldest_rejected(connection: Connection, source_id: int, *, max_rows: int, max_bytes: int) -> int:
    """Delete the oldest rejected receipts of a source beyond these limits: anybody can cause them."""
    values = {"source_id": source_id, "max_rows": max_rows, "max_bytes": max_bytes}
    return connection.exec_driver_sql(_DELETE_OLDEST_REJECTED, values).rowcount


def postpone(
    connection: Connection, receipt_ids: Sequence[UUID], *, detail: str, delay_seconds: float, is_charged: bool = True
) -> None:
    """Verify requests again when the delay has passed. The attempt does not count unless `is_charged`."""
    columns = parked_receipts.c
    is_unverified = columns.receipt_id.in_(receipt_ids) & (columns.state == ReceiptState.UNVERIFIED)
    attempts = columns.attempts if is_charged else columns.attempts - 1
    due_at = func.now() + timedelta(seconds=delay_seconds)
    values = {"detail": detail, "available_at": due_at, "attempts": attempts}
    connection.execute(update(parked_receipts).where(is_unverified).values(values))


def _forget_key(connection: Connection, key: UUID | None) -> None:
    connection.exec_driver_sql("DELETE FROM receipt_keys WHERE key = %(key)s", {"key": key})


def _is_unverified(receipt_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return parked_receipts.c.receipt_id == receipt_id, parked_receipts.c.state == ReceiptState.UNVERIFIED
