"""Deliveries that are still to be made: claimed by lease and fencing token, fairly over the endpoints."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.db.fan_out import FRESH, LATE, ORDER_LOCK

LEASE_SPARE_SECONDS = 30
"""A lease outlives the deadline of its call by this: for what comes before the call, and for writing down its end."""

_CLAIM_LOCK = 0x71DC1A1

# One claim at a time, whatever the number of deliverers: so what an endpoint has under way can be counted. Whoever
# freezes in the middle must not hold up the others for long.
_TURN = """
SELECT pg_try_advisory_xact_lock(%(lock)s), set_config('idle_in_transaction_session_timeout', '10s', true)
"""

# The lanes take turns; where an endpoint is granted one at a time the lane that is first decides, which it is by lot.
# An allowance is a hair more than what it comes to: 0.7 a second must give one in 1/0.7 seconds, rounded or not.
# What is leased stands in front in its lane, because what is claimed is always what has waited longest: so looking at
# the first few rows of each lane tells both how much is under way and what is next. Of the lanes none may take all that
# an endpoint is granted, so that neither fresh ones nor retries starve. While its breaker is closing it is granted one.
_CLAIM = """
WITH endpoint AS MATERIALIZED (
    SELECT s.id, s.timeout_s, s.rate_per_second::float8 AS rate,
        CASE WHEN h.openings > 0 THEN 1 ELSE s.concurrency END AS granted,
        greatest(1, s.concurrency - greatest(1, s.concurrency / 5)) AS granted_to_lane,
        greatest(h.paced_until, now() - make_interval(secs => greatest(1, 1 / s.rate_per_second::float8)))
            AS paced_until,
        coalesce(h.failures > 0 OR h.openings > 0 OR h.open_until IS NOT NULL, false) AS failing, h.last_success_at
    FROM subscriptions AS s LEFT JOIN endpoint_health AS h ON h.subscription_id = s.id
    WHERE {among} s.state = 'active' AND s.deleted_at IS NULL AND (h.open_until IS NULL OR h.open_until <= now())
),
front AS (
    SELECT e.*, p.*, lanes.lane, coalesce(p.lease_until > now(), false) AS leased
    FROM endpoint AS e CROSS JOIN (VALUES (0::smallint), (1::smallint)) AS lanes (lane) CROSS JOIN LATERAL (
        SELECT delivery_id, available_at, change_transaction, change_id, lease_until FROM pending_deliveries
        WHERE subscription_id = e.id AND lane = lanes.lane AND available_at <= now()
        ORDER BY subscription_id, lane, available_at, change_transaction, change_id LIMIT e.granted_to_lane
    ) AS p
),
placed AS (
    SELECT *, count(*) FILTER (WHERE leased) OVER (PARTITION BY id) AS busy, row_number() OVER (
            PARTITION BY id, leased, lane ORDER BY available_at, change_transaction, change_id
        ) AS place
    FROM front
),
numbered AS (
    SELECT *, row_number() OVER (PARTITION BY id, leased ORDER BY place, lane <> %(lane_first)s) AS number FROM placed
),
chosen AS (
    SELECT * FROM numbered
    WHERE NOT leased AND busy + number <= granted
        AND (rate IS NULL OR number <= extract(epoch FROM now() - paced_until) * rate + 0.001)
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
_LATE_FIRST = 0.2

# The first of each lane tells when there is something to do next.
_NEXT_DUE = """
SELECT extract(epoch FROM min(greatest(
        first.available_at, h.open_until, h.paced_until + make_interval(secs => 1 / s.rate_per_second::float8)
    )) - now())::float8
FROM subscriptions AS s LEFT JOIN endpoint_health AS h ON h.subscription_id = s.id
CROSS JOIN (VALUES (0::smallint), (1::smallint)) AS lanes (lane) CROSS JOIN LATERAL (
    SELECT available_at FROM pending_deliveries
    WHERE subscription_id = s.id AND lane = lanes.lane AND (lease_until IS NULL OR lease_until <= now())
    ORDER BY subscription_id, lane, available_at, change_transaction, change_id LIMIT 1
) AS first
WHERE s.state = 'active' AND s.deleted_at IS NULL
"""
_CLAIM_ANY = _CLAIM.format(among="")
_CLAIM_AMONG = _CLAIM.format(among="s.id = ANY(%(among)b) AND")

# A replay is an attempt like any other, but counted from the beginning; what is under way is followed by another. What
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
    ON CONFLICT (delivery_id) DO UPDATE SET lane = 1, available_at = excluded.available_at, attempts = 0, lapses = 0,
        again = coalesce(p.lease_until > %(now)s, false)
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


_GIVE_UP = """
WITH late AS (
    SELECT delivery_id FROM pending_deliveries WHERE delivery_id < %(oldest_id)s
    ORDER BY delivery_id LIMIT %(limit)s FOR UPDATE
),
gone AS (
    DELETE FROM pending_deliveries WHERE delivery_id IN (SELECT delivery_id FROM late)
    RETURNING delivery_id, subscription_id, message_id, ordered
),
told AS (
    UPDATE deliveries AS d SET status = 'dead', dead_at = now(), last_error = %(reason)s, next_attempt_at = NULL
    FROM gone WHERE d.id = gone.delivery_id
)
SELECT subscription_id, CASE WHEN ordered THEN message_id END FROM gone
"""

# The first of a message that still waits may go, once nothing before it is left.
_LET_FOLLOW = """
UPDATE pending_deliveries AS p SET lane = 0, available_at = now()
FROM (
    SELECT DISTINCT subscription_id, message_id FROM unnest(%(subscription_ids)b::uuid[], %(message_ids)b::uuid[])
    AS ended (subscription_id, message_id)
) AS ended CROSS JOIN LATERAL (
    SELECT delivery_id, lane FROM pending_deliveries
    WHERE ordered AND subscription_id = ended.subscription_id AND message_id = ended.message_id
    ORDER BY change_transaction, change_id LIMIT 1
) AS first
WHERE p.delivery_id = first.delivery_id AND first.lane = 2
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
    lane_first = LATE if random.random() < _LATE_FIRST else FRESH  # noqa: S311 - it need not be unguessable
    values = {"token": token, "room": room, "spare": LEASE_SPARE_SECONDS, "lane_first": lane_first}
    if among is None:
        rows = connection.exec_driver_sql(_CLAIM_ANY, values)
    else:
        rows = connection.exec_driver_sql(_CLAIM_AMONG, {**values, "among": list(among)})
    return [Claimed(**row) for row in rows.mappings()]


def next_due_seconds(connection: Connection) -> float | None:
    """In how many seconds there is something to claim, as far as can be known; None: nothing waits."""
    found: float | None = connection.exec_driver_sql(_NEXT_DUE).scalar()
    return found


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


def give_up(connection: Connection, oldest: datetime, reason: str, *, limit: int) -> int:
    """End what was to be delivered since before this time, up to so many, and let go what waits behind it in order.

    Returns how many it were.
    """
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": ORDER_LOCK})
    values = {"oldest_id": ids.first_at(oldest), "reason": reason, "limit": limit}
    rows = connection.exec_driver_sql(_GIVE_UP, values).all()
    let_follow(connection, [(row[0], row[1]) for row in rows if row[1] is not None])
    return len(rows)


def let_follow(connection: Connection, ended: Sequence[tuple[UUID, UUID]]) -> None:
    """Of these messages of subscriptions let the next change go, if it was held back. Under ORDER_LOCK."""
    if ended:
        subscription_ids, message_ids = map(list, zip(*ended, strict=True))
        connection.exec_driver_sql(_LET_FOLLOW, {"subscription_ids": subscription_ids, "message_ids": message_ids})


def replay(connection: Connection, delivery_ids: Sequence[UUID], now: datetime) -> int:
    """Have these made again, whatever became of them; return how many there are.

    Also lets go of what is quarantined. Those of subscriptions that were deleted are left alone.
    """
    return connection.exec_driver_sql(_REPLAY, {"ids": list(delivery_ids), "now": now}).rowcount
