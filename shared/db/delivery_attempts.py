"""What came of attempts: written down together, by whoever still holds their leases."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.db import deliveries
from shared.db.fan_out import ORDER_LOCK


class Ended(NamedTuple):
    """An attempt that ended, and what becomes of its delivery; a tuple, because a batch is turned into columns.

    `id` is the attempt's. `delay_seconds` is for a retry. The captures are JSON. `ordered`: others of its message wait.
    """

    id: UUID
    delivery_id: UUID
    token: UUID
    status: str
    delay_seconds: float | None
    attempt_status: str
    http_status: int
    latency_ms: int
    error: str | None
    begun_at: datetime
    request_capture: str
    response_capture: str
    ordered: bool


_COLUMN_TYPES = {
    **dict.fromkeys(Ended._fields, "text"),
    **dict.fromkeys(("id", "delivery_id", "token"), "uuid"),
    "delay_seconds": "double precision",
    "http_status": "smallint",
    "latency_ms": "integer",
    "begun_at": "timestamptz",
    "ordered": "boolean",
}
_INPUT = ", ".join(f"%({name})b::{type_}[]" for name, type_ in _COLUMN_TYPES.items())

# Only what its lease still holds is written: whoever slept past it has been replaced by another.
_RECORD = f"""
WITH ended AS MATERIALIZED (SELECT * FROM unnest({_INPUT}) AS ended ({", ".join(Ended._fields)})),
held AS MATERIALIZED (
    SELECT ended.*, p.subscription_id, p.message_id, p.again FROM ended
    JOIN pending_deliveries AS p ON p.delivery_id = ended.delivery_id AND p.lease_token = ended.token
    ORDER BY p.delivery_id FOR UPDATE OF p
),
gone AS (
    DELETE FROM pending_deliveries
    WHERE delivery_id IN (SELECT delivery_id FROM held WHERE status <> 'retry' AND NOT again)
),
put_back AS (
    UPDATE pending_deliveries AS p SET lane = 1, attempts = CASE WHEN held.again THEN 0 ELSE p.attempts + 1 END,
        again = false, lapses = 0, lease_until = NULL, lease_token = NULL,
        available_at = now() + make_interval(secs => CASE WHEN held.again THEN 0 ELSE held.delay_seconds END)
    FROM held WHERE p.delivery_id = held.delivery_id AND (held.status = 'retry' OR held.again)
),
noted AS (
    UPDATE deliveries AS d SET status = CASE WHEN held.again THEN 'pending' ELSE held.status END,
        attempts = d.attempts + 1, last_http_status = held.http_status,
        last_error = held.error,
        next_attempt_at = CASE WHEN NOT held.again THEN now() + make_interval(secs => held.delay_seconds) END,
        delivered_at = CASE held.status WHEN 'delivered' THEN now() ELSE d.delivered_at END,
        dead_at = CASE held.status WHEN 'dead' THEN now() ELSE d.dead_at END
    FROM held WHERE d.id = held.delivery_id
    RETURNING d.id, d.attempts
),
told AS (
    INSERT INTO delivery_attempts (id, delivery_id, subscription_id, number, created_at, status, http_status,
        latency_ms, request_capture, response_capture)
    SELECT held.id, held.delivery_id, held.subscription_id, noted.attempts, held.begun_at, held.attempt_status,
        held.http_status, held.latency_ms, held.request_capture::json, held.response_capture::json
    FROM held JOIN noted ON noted.id = held.delivery_id
)
SELECT delivery_id, subscription_id, message_id FROM held
"""


def record(connection: Connection, attempts: Sequence[Ended]) -> set[UUID]:
    """Write down how attempts ended, and what becomes of their deliveries; return the deliveries of those written.

    The others were not held any more: another has taken them over.
    """
    in_order = {attempt.delivery_id for attempt in attempts if attempt.ordered}
    if in_order:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": ORDER_LOCK})
    columns = dict(zip(Ended._fields, map(list, zip(*attempts, strict=True)), strict=True))
    held = connection.exec_driver_sql(_RECORD, columns).all()
    if followed := [row for row in held if row[0] in in_order]:
        deliveries.let_follow(connection, [(row[1], row[2]) for row in followed])
    return {row[0] for row in held}
