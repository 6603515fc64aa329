"""Deletes expired rows of tables that are not partitioned, and very old history.

The statements are SQL text: a table of one DELETE for each table reads best side by side."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from shared import ids

_STATEMENTS: Final = {
    # An expired key means nothing, however young its receipt is (`shared.receipts.store.INSERT_NEW`).
    "receipt_keys": "DELETE FROM receipt_keys WHERE expires_at < now()",
    # The index is by the minute of the event. Clocks are up to a day ahead; a minute beyond that may be in any year.
    "event_keys": (
        "DELETE FROM event_keys WHERE event_id < %(oldest_id)s AND ("
        "minute < (extract(epoch FROM %(oldest)s::timestamptz) / 60)::int"
        " OR minute > (extract(epoch FROM now()) / 60)::int + 1440)"
    ),
    "refusals": "DELETE FROM refusals WHERE id < %(oldest_id)s",
    "parked_receipts": "DELETE FROM parked_receipts WHERE receipt_id < %(oldest_id)s",
    "erased_receipts": "DELETE FROM erased_receipts WHERE receipt_id < %(oldest_id)s",
    "job_files": "DELETE FROM job_files WHERE job_id IN (SELECT id FROM jobs WHERE finished_at < %(oldest)s)",
    "jobs": "DELETE FROM jobs WHERE id < %(oldest_id)s AND finished_at < %(oldest)s",
    "alert_notices": "DELETE FROM alert_notices WHERE enqueued_at < %(oldest)s AND state <> 'pending'",
    "failed_deliveries": "DELETE FROM failed_deliveries WHERE failed_at < %(oldest)s",
    "resend_records": "DELETE FROM resend_records WHERE made_at < %(oldest)s",
    "endpoint_health": (
        "DELETE FROM endpoint_health AS h USING subscriptions AS s"
        " WHERE s.id = h.subscription_id AND s.deleted_at < %(oldest)s"
    ),
    "recipient_answers": "DELETE FROM recipient_answers WHERE answered_at < %(oldest)s",
    "reconciled_receipts": "DELETE FROM reconciled_receipts WHERE receipt_id < %(oldest_id)s",
}

_OLD_ALERTS: Final = (
    "SELECT id FROM alerts WHERE id < %(oldest_id)s AND resolved_at < %(oldest)s ORDER BY id LIMIT %(limit)s"
)
_HISTORY: Final = {
    "audit_log": (
        "DELETE FROM audit_log"
        " WHERE id IN (SELECT id FROM audit_log WHERE id < %(oldest_id)s ORDER BY id LIMIT %(limit)s)"
    ),
    "alert_steps": f"DELETE FROM alert_steps WHERE alert_id IN ({_OLD_ALERTS})",
    "alerts": f"DELETE FROM alerts WHERE id IN ({_OLD_ALERTS})",
}
# Anybody can cause refusals. Their number and size are limited for each source and in all; the oldest go first. Source
# names that a client invented count as one source.
_OLDEST_REFUSALS: Final = """
WITH ranked AS (
    SELECT id, count(*) OVER of_source AS source_rows, sum(size) OVER of_source AS source_bytes,
        count(*) OVER everything AS rows, sum(size) OVER everything AS bytes
    FROM (
        SELECT id, CASE reason WHEN 'unknown_source' THEN '' ELSE source END AS source,
            octet_length(headers::text) + octet_length(detail) AS size FROM refusals
    ) AS sized
    WINDOW of_source AS (PARTITION BY source ORDER BY id DESC), everything AS (ORDER BY id DESC)
)
DELETE FROM refusals WHERE id IN (
    SELECT id FROM ranked WHERE source_rows > %(source_rows)s OR source_bytes > %(source_bytes)s
        OR rows > %(rows)s OR bytes > %(bytes)s
)
"""
REFUSAL_LIMITS: Final = {
    "source_rows": 10_000,
    "source_bytes": 8 * 1024 * 1024,
    "rows": 100_000,
    "bytes": 64 * 1024 * 1024,
}
_MAINTENANCE_LOCK: Final = 0x71D1466
_HISTORY_AT_LEAST: Final = timedelta(days=400)
_HISTORY_FOR_RETENTIONS: Final = 12


def lock_maintenance(connection: Connection) -> bool:
    """Take the lock of maintenance until the transaction ends. Return False if another worker has it."""
    return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_MAINTENANCE_LOCK))))


def delete_expired(connection: Connection, oldest: datetime) -> dict[str, int]:
    """Delete rows that are older than retention, and expired keys; return the number of deleted rows by table."""
    return _delete(connection, _STATEMENTS, oldest)


def delete_oldest_refusals(connection: Connection, limits: Mapping[str, int] = REFUSAL_LIMITS) -> int:
    """Delete the oldest refusals beyond the limits; return their number."""
    return connection.exec_driver_sql(_OLDEST_REFUSALS, limits).rowcount


def delete_old_history(connection: Connection, now: datetime, retention: timedelta, *, limit: int) -> dict[str, int]:
    """Delete audit entries and resolved alerts older than twelve times the retention, and at least 400 days old.

    Deletes the oldest first: up to `limit` audit entries, and up to `limit` alerts with their steps.
    """
    oldest = now - max(_HISTORY_AT_LEAST, retention * _HISTORY_FOR_RETENTIONS)
    return _delete(connection, _HISTORY, oldest, limit=limit)


def _delete(connection: Connection, statements: Mapping[str, str], oldest: datetime, **more: int) -> dict[str, int]:
    values = {"oldest": oldest, "oldest_id": ids.first_at(oldest), **more}
    return {table: connection.exec_driver_sql(statement, values).rowcount for table, statement in statements.items()}
