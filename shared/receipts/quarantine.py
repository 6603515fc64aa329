"""Requests that are kept apart until it is known whether their provider sent them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.counters import store as counts

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
class Suspect:
    """A request that is to be verified again. `headers` is JSON; secrets in it are sealed."""

    id: UUID
    source_id: int
    received_at: datetime
    attempts: int
    headers: str
    body: bytes


def claim(connection: Connection, *, limit: int, lease_seconds: int) -> list[Suspect]:
    """Lease up to `limit` that are due, the longest-waiting first."""
    rows = connection.exec_driver_sql(_CLAIM, {"limit": limit, "lease_seconds": lease_seconds})
    return [
        Suspect(id=row[0], source_id=row[1], received_at=row[2], attempts=row[3], headers=row[4], body=row[5])
        for row in rows
    ]


def admit(
    connection: Connection, receipt_id: UUID, *, key: str, key_expires_at: datetime, received_at: datetime
) -> bool:
    """Queue a request that turned out to be genuine; False if it repeats one that came by the straight way.

    One whose key had expired when this was received is no repetition, as with `shared.receipts.store.record`.
    """
    fresh = connection.exec_driver_sql(
        "INSERT INTO receipt_keys AS known (key, receipt_id, expires_at) VALUES (%(key)s, %(id)s, %(expires_at)s)"
        " ON CONFLICT (key) DO UPDATE SET receipt_id = excluded.receipt_id, expires_at = excluded.expires_at"
        " WHERE known.expires_at <= %(received_at)s RETURNING 1",
        {"key": key, "id": receipt_id, "expires_at": key_expires_at, "received_at": received_at},
    ).all()
    parked = "DELETE FROM parked_receipts WHERE receipt_id = %(id)s AND state = 'unverified' RETURNING *"
    if not fresh:
        connection.exec_driver_sql(parked, {"id": receipt_id})
        return False
    connection.exec_driver_sql(
        f"WITH gone AS ({parked}) INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at)"
        " SELECT receipt_id, source_id, bytes, now() FROM gone ON CONFLICT DO NOTHING",
        {"id": receipt_id},
    )
    return True


def reject(connection: Connection, receipt_id: UUID, *, reason: str, detail: str) -> None:
    """Set a request aside for good, and count it with those that were refused: its provider did not send it."""
    source_id = connection.exec_driver_sql(
        "UPDATE parked_receipts SET state = 'rejected', reason = %(reason)s, detail = %(detail)s"
        " WHERE receipt_id = %(id)s AND state = 'unverified' RETURNING source_id",
        {"id": receipt_id, "reason": reason, "detail": detail},
    ).scalar()
    if source_id is not None:
        counts.count_rejection(connection, source_id, receipt_id, reason)


def postpone(connection: Connection, receipt_id: UUID, *, detail: str, delay_seconds: float) -> None:
    """Look at a request again when the delay has passed."""
    connection.exec_driver_sql(
        "UPDATE parked_receipts SET detail = %(detail)s, available_at = now() + make_interval(secs => %(delay)s)"
        " WHERE receipt_id = %(id)s AND state = 'unverified'",
        {"id": receipt_id, "detail": detail, "delay": delay_seconds},
    )
