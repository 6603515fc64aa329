"""The quarantine: requests whose signature could not be verified yet."""

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
INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, key_id, bytes, available_at, parked_at)
SELECT id, source_id, %(state)s, %(reason)s, %(detail)s, %(key_id)s, length(body), received_at, received_at
FROM arrived WHERE id IN (SELECT receipt_id FROM fresh)
RETURNING receipt_id
"""

_TAKE_KEY = """
INSERT INTO receipt_keys AS known (key, receipt_id, expires_at) VALUES (%(key)s, %(id)s, %(expires_at)s)
ON CONFLICT (key) DO UPDATE SET receipt_id = excluded.receipt_id, expires_at = excluded.expires_at
WHERE known.expires_at <= %(received_at)s RETURNING 1
"""

# Text, not an expression: one statement that claims and counts the attempt.
_CLAIM = """
WITH due AS (
    SELECT receipt_id FROM parked_receipts WHERE state = 'unverified' AND available_at <= now()
    ORDER BY available_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE parked_receipts SET attempts = attempts + 1, available_at = now() + make_interval(secs => %(lease_seconds)s)
    WHERE receipt_id IN (SELECT receipt_id FROM due) RETURNING receipt_id, attempts
)
SELECT id, source_id, received_at, attempts, headers::text, body
FROM claimed JOIN receipts ON id = receipt_id ORDER BY id
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
    parameters = {**columns_of([receipt]), **values}
    if connection.exec_driver_sql(_ADD, parameters).all():
        return True
    # A request that was rejected comes again: the provider may publish the key by now.
    return bool(release_keys(connection, [receipt.key]) and connection.exec_driver_sql(_ADD, parameters).all())


def claim(connection: Connection, *, limit: int, lease_seconds: int) -> list[QuarantinedRequest]:
    """Lease up to `limit` due requests, those that have waited longest first."""
    rows = connection.exec_driver_sql(_CLAIM, {"limit": limit, "lease_seconds": lease_seconds})
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
    if not fresh:
        connection.execute(delete(parked_receipts).where(*_is_unverified(receipt_id)))
        return False
    connection.exec_driver_sql(
        "WITH gone AS (DELETE FROM parked_receipts WHERE receipt_id = %(id)s AND state = 'unverified' RETURNING *)"
        " INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at)"
        " SELECT receipt_id, source_id, bytes, now() FROM gone ON CONFLICT DO NOTHING",
        {"id": receipt_id},
    )
    return True


def reject(connection: Connection, receipt_id: UUID, *, reason: str, detail: str) -> None:
    """Mark a request as rejected, and count it as a refusal: its provider did not send it."""
    source_id = connection.scalar(
        update(parked_receipts)
        .where(*_is_unverified(receipt_id))
        .values(state=ReceiptState.REJECTED, reason=reason, detail=detail)
        .returning(parked_receipts.c.source_id)
    )
    if source_id is not None:
        counts.count_rejection(connection, source_id, receipt_id, reason)


def postpone(connection: Connection, receipt_id: UUID, *, detail: str, delay_seconds: float) -> None:
    """Verify a request again when the delay has passed."""
    due_at = func.now() + timedelta(seconds=delay_seconds)
    is_unverified = _is_unverified(receipt_id)
    connection.execute(update(parked_receipts).where(*is_unverified).values(detail=detail, available_at=due_at))


def _is_unverified(receipt_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return parked_receipts.c.receipt_id == receipt_id, parked_receipts.c.state == ReceiptState.UNVERIFIED
