"""Deliveries that are still to be made: claimed by lease and fencing token, fairly over the endpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

LEASE_SPARE_SECONDS = 30
"""A lease outlives the deadline of its call by this: for what comes before the call, and for writing down its end."""

_CLAIM_LOCK = 0x71DC1A1

# One claim at a time, whatever the number of deliverers: so what an endpoint has under way can be counted. Whoever
# freezes in the middle must not hold up the others for long.
_TURN = """
SELECT pg_try_advisory_xact_lock(%(lock)s), set_config('idle_in_transaction_session_timeout', '10s', true)
"""

# What is leased stands in front in its lane, because what is claimed is always what has waited longest: so looking at
# the first few rows of each lane tells both how much is under way and what is next. Of the lanes none may take all that
# an endpoint is granted, so that neither fresh ones nor retries starve. While its breaker is closing it is granted one.
_CLAIM = """
WITH endpoint AS MATERIALIZED (
    SELECT s.id, s.timeout_s, s.rate_per_second AS rate,
        CASE WHEN h.openings > 0 THEN 1 ELSE s.concurrency END AS granted,
        greatest(1, s.concurrency - greatest(1, s.concurrency / 5)) AS granted_to_lane,
        greatest(h.paced_until, now() - make_interval(secs => greatest(1, 1 / s.rate_per_second))) AS paced_until,
        coalesce(h.failures > 0 OR h.openings > 0 OR h.open_until IS NOT NULL, false) AS failing, h.last_success_at
    FROM subscriptions AS s LEFT JOIN endpoint_health AS h ON h.subscription_id = s.id
    WHERE {among} s.state = 'active' AND s.deleted_at IS NULL AND (h.open_until IS NULL OR h.open_until <= now())
),
front AS (
    SELECT e.*, p.*, coalesce(p.lease_until > now(), false) AS leased
    FROM endpoint AS e CROSS JOIN (VALUES (0::smallint), (1::smallint)) AS lanes (lane) CROSS JOIN LATERAL (
        SELECT delivery_id, available_at, change_transaction, change_id, lease_until FROM pending_deliveries
        WHERE subscription_id = e.id AND lane = lanes.lane AND available_at <= now()
        ORDER BY subscription_id, lane, available_at, change_transaction, change_id LIMIT e.granted_to_lane
    ) AS p
),
numbered AS (
    SELECT *, count(*) FILTER (WHERE leased) OVER (PARTITION BY id) AS busy,
        row_number() OVER (PARTITION BY id, leased ORDER BY available_at, change_transaction, change_id) AS number
    FROM front
),
chosen AS (
    SELECT * FROM numbered
    WHERE NOT leased AND busy + number <= granted
        AND (rate IS NULL OR number <= extract(epoch FROM now() - paced_until) * rate)
    ORDER BY busy + number, available_at LIMIT %(room)s
),
claimed AS (
    UPDATE pending_deliveries AS p SET lease_token = %(token)s,
        lapses = p.lapses + (p.lease_until IS NOT NULL)::integer,
        lease_until = now() + make_interval(secs => timeout_s + %(spare)s)
    FROM chosen WHERE p.delivery_id = chosen.delivery_id AND (p.lease_until IS NULL OR p.lease_until <= now())
    RETURNING p.delivery_id, p.subscription_id, p.change_transaction, p.change_id, p.attempts, p.lapses, p.message_id,
        p.ordered, chosen.rate, chosen.paced_until, chosen.failing, chosen.last_success_at
),
paced AS (
    INSERT INTO endpoint_health AS h (subscription_id, paced_until)
    SELECT subscription_id, min(paced_until) + make_interval(secs => count(*) / min(rate))
    FROM claimed WHERE rate IS NOT NULL GROUP BY subscription_id ORDER BY subscription_id
    ON CONFLICT (subscription_id) DO UPDATE SET paced_until = excluded.paced_until
)
SELECT delivery_id AS id, subscription_id, change_transaction::text::bigint AS transaction, change_id, attempts,
    lapses, message_id, ordered, failing, last_success_at
FROM claimed ORDER BY change_transaction, change_id
"""
_CLAIM_ANY = _CLAIM.format(among="")
_CLAIM_AMONG = _CLAIM.format(among="s.id = ANY(%(among)b) AND")

# A replay is an attempt like any other, but counted from the beginning; what is under way already counts for it. What
# waits is locked before what is kept, as where attempts are written down: otherwise the two could wait for one another.
_REPLAY = """
WITH held AS MATERIALIZED (
    SELECT delivery_id FROM pending_deliveries WHERE delivery_id = ANY(%(ids)b) ORDER BY delivery_id FOR UPDATE
),
wanted AS (
    SELECT d.id, d.subscription_id, d.change_transaction, d.change_id, d.message_id, s.ordered
    FROM deliveries AS d JOIN subscriptions AS s ON s.id = d.subscription_id AND s.deleted_at IS NULL
    WHERE d.id = ANY(%(ids)b) AND (SELECT count(*) FROM held) >= 0 ORDER BY d.id FOR UPDATE OF d
),
waiting AS (
    INSERT INTO pending_deliveries AS p (delivery_id, subscription_id, change_transaction, change_id, message_id, lane,
        available_at, ordered)
    SELECT id, subscription_id, change_transaction, change_id, message_id, 1, %(now)s,
        ordered AND message_id IS NOT NULL
    FROM wanted
    ON CONFLICT (delivery_id) DO UPDATE SET lane = 1, available_at = excluded.available_at, attempts = 0, lapses = 0
)
UPDATE deliveries AS d SET status = 'pending', next_attempt_at = NULL FROM wanted WHERE d.id = wanted.id
"""


_ABANDON = """
WITH waiting AS (
    SELECT delivery_id FROM pending_deliveries WHERE subscription_id = %(subscription_id)s LIMIT %(limit)s
),
gone AS (DELETE FROM pending_deliveries WHERE delivery_id IN (SELECT delivery_id FROM waiting) RETURNING delivery_id)
UPDATE deliveries AS d SET status = 'dead', last_error = %(reason)s, next_attempt_at = NULL
FROM gone WHERE d.id = gone.delivery_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that a deliverer has leased. `attempts` are those before this one, since it was made or replayed.

    `lapses` are the leases right before this one that ran out: nobody has told how those calls ended. `failing` and
    `last_success_at` are of its endpoint.
    """

    id: UUID
    subscription_id: UUID
    transaction: int
    change_id: int
    attempts: int
    lapses: int
    message_id: UUID | None
    ordered: bool
    failing: bool
    last_success_at: datetime | None


def claim(
    connection: Connection, *, token: UUID, room: int, among: Sequence[UUID] | None = None
) -> list[Claimed] | None:
    """Lease up to `room` deliveries that are due, of all active subscriptions or `among` some. None: another claims.

    The claim has to be committed before anything is sent, and to disk: then so is all that it rests on, and nobody is
    told of a change that a crash of the database could undo.
    """
    if not connection.exec_driver_sql(_TURN, {"lock": _CLAIM_LOCK}).one()[0]:
        return None
    values = {"token": token, "room": room, "spare": LEASE_SPARE_SECONDS}
    if among is None:
        rows = connection.exec_driver_sql(_CLAIM_ANY, values)
    else:
        rows = connection.exec_driver_sql(_CLAIM_AMONG, {**values, "among": list(among)})
    return [Claimed(**row) for row in rows.mappings()]


def release(connection: Connection, delivery_ids: Sequence[UUID], token: UUID, *, delay_seconds: float = 0.0) -> int:
    """Give leases back untouched, to be claimed when the delay has passed; return how many were still held."""
    return connection.exec_driver_sql(
        "UPDATE pending_deliveries SET lease_until = NULL, lease_token = NULL,"
        " available_at = greatest(available_at, now() + make_interval(secs => %(delay)s))"
        " WHERE delivery_id = ANY(%(ids)b) AND lease_token = %(token)s",
        {"ids": list(delivery_ids), "token": token, "delay": delay_seconds},
    ).rowcount


def abandon(connection: Connection, subscription_id: UUID, reason: str, *, limit: int) -> int:
    """Give up deliveries that wait for a subscription, up to so many; return how many it were."""
    return connection.exec_driver_sql(
        _ABANDON, {"subscription_id": subscription_id, "reason": reason, "limit": limit}
    ).rowcount


def replay(connection: Connection, delivery_ids: Sequence[UUID], now: datetime) -> int:
    """Have these made again, whatever became of them; return how many there are.

    Also lets go of what is quarantined. Those of subscriptions that were deleted are left alone.
    """
    return connection.exec_driver_sql(_REPLAY, {"ids": list(delivery_ids), "now": now}).rowcount
