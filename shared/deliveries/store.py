"""The queue of deliveries: created by fan-out, claimed by lease and fencing token, finished with an outcome.

`deliveries` holds every delivery; `pending_deliveries` is the queue of those that are not finished. A transaction that
locks rows of both locks the pending ones first, in the order of their ids, so that no two transactions deadlock.
"""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Row, Uuid, any_, delete, func, literal, select, update

from shared import ids
from shared.deliveries.tables import deliveries, pending_deliveries
from shared.vocabulary import DeliveryStatus

LEASE_SPARE_SECONDS: Final = 30
"""A lease lasts this much longer than the timeout of its request, to build the request and record the outcome."""

_CLAIM_LOCK: Final = 0x71DC1A1
_ORDER_LOCK: Final = 0x71D0D
"""Held while ordered deliveries are created or finished, so that these transactions see each other's rows."""

AT_ONCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The `available_at` of a delivery that a person asked for: it is first in its lane, and no pause holds it."""

_LATE_FIRST: Final = 0.2
"""Probability that a claim prefers retries, replays and recovered deliveries over fresh ones."""


class Lane(IntEnum):
    """Lanes of the queue, so that fresh deliveries do not wait for retries, replays and recovered ones."""

    FRESH = 0
    LATE = 1
    HELD_BACK = 2
    """In order: an earlier delivery of the same message must finish first."""


class NewDelivery(NamedTuple):
    """A delivery to create; a tuple, because a batch is turned from rows into columns.

    `transaction` is text. `follows`: an earlier delivery of the same batch must finish first.
    """

    id: UUID
    subscription_id: UUID
    transaction: str
    change_id: int
    type: str
    message_id: UUID | None
    status: str
    ordered: bool
    follows: bool


# Text, not an expression: thousands of rows as one array per column, into two tables in one statement (fan-out).
_CREATE = """
WITH new_rows AS MATERIALIZED (
    SELECT * FROM unnest(%(id)b::uuid[], %(subscription_id)b::uuid[], %(transaction)b::text[], %(change_id)b::bigint[],
        %(type)b::text[], %(message_id)b::uuid[], %(status)b::text[], %(ordered)b::boolean[], %(follows)b::boolean[])
    AS new_rows (id, subscription_id, transaction, change_id, type, message_id, status, ordered, follows)
),
kept AS (
    INSERT INTO deliveries (id, subscription_id, change_transaction, change_id, type, message_id, status, created_at)
    SELECT id, subscription_id, transaction::xid8, change_id, type, message_id, status, now() FROM new_rows
)
INSERT INTO pending_deliveries (delivery_id, subscription_id, change_transaction, change_id, message_id, lane,
    available_at, ordered)
SELECT id, subscription_id, transaction::xid8, change_id, message_id, CASE WHEN ordered AND (follows OR EXISTS (
        SELECT FROM pending_deliveries AS earlier WHERE earlier.ordered
        AND earlier.subscription_id = new_rows.subscription_id AND earlier.message_id = new_rows.message_id
    )) THEN 2 ELSE %(lane)s END, now(), ordered
FROM new_rows WHERE status = 'pending'
"""

# Deliverers claim one at a time, so that the requests in flight to an endpoint can be counted. The timeout ends the
# transaction of a process that freezes while it claims.
_CLAIM_TURN = """
SELECT pg_try_advisory_xact_lock(%(lock)s), set_config('idle_in_transaction_session_timeout', '10s', true)
"""

# Text, not an expression: the claim is hot, and its window functions and lateral joins are one plan that was measured.
#
# The lanes alternate. If an endpoint may have only one request at a time, the preferred lane decides, which is random.
# Leased rows are at the front of their lane, because the oldest are always claimed first: so the first few rows of each
# lane show the requests in flight and the next ones. One lane cannot use an endpoint's whole concurrency, so
# that neither fresh deliveries nor retries starve. After its circuit breaker has opened, an endpoint gets one request
# at a time, until one succeeds. A delivery that a person asked for (`AT_ONCE`) is sent all the same, and first: it is
# the probe.
# The 0.001 makes up for rounding: a rate of 0.7 must grant one request after 1/0.7 seconds.
_CLAIM = """
WITH endpoint AS MATERIALIZED (
    SELECT s.id, s.timeout_s, s.rate_per_second::float8 AS rate,
        s.concurrency, CASE WHEN h.openings > 0 THEN 1 ELSE s.concurrency END AS granted,
        greatest(1, s.concurrency - greatest(1, s.concurrency / 5)) AS granted_to_lane,
        greatest(h.paced_until, now() - make_interval(secs => greatest(1, 1 / s.rate_per_second::float8)))
            AS paced_until,
        coalesce(h.failures > 0 OR h.openings > 0 OR h.open_until IS NOT NULL, false) AS failing, h.last_success_at,
        CASE WHEN h.open_until > now() THEN 'epoch'::timestamptz ELSE now() END AS due_by
    FROM subscriptions AS s LEFT JOIN endpoint_health AS h ON h.subscription_id = s.id
    WHERE {among} s.state = 'active' AND s.deleted_at IS NULL
),
front AS (
    SELECT e.*, p.*, lanes.lane, coalesce(p.lease_until > now(), false) AS leased
    FROM endpoint AS e CROSS JOIN (VALUES (0::smallint), (1::smallint)) AS lanes (lane) CROSS JOIN LATERAL (
        SELECT delivery_id, available_at, change_transaction, change_id, lease_until FROM pending_deliveries
        WHERE subscription_id = e.id AND lane = lanes.lane AND available_at <= e.due_by
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
    SELECT *, row_number() OVER (
            PARTITION BY id, leased ORDER BY place, available_at > 'epoch', lane <> %(lane_first)s
        ) AS number
    FROM placed
),
chosen AS (
    SELECT * FROM numbered
    WHERE NOT leased AND busy + number <= CASE WHEN available_at = 'epoch' THEN concurrency ELSE granted END
        AND (rate IS NULL OR number <= extract(epoch FROM now() - paced_until) * rate + 0.001)
    ORDER BY busy + number, available_at LIMIT %(limit)s
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

# Text, not an expression: it runs whenever a deliverer becomes idle, and looks at the first row of each lane only.
_NEXT_DUE = """
SELECT extract(epoch FROM min(greatest(
        first.available_at, CASE WHEN first.available_at > 'epoch' THEN h.open_until END,
        h.paced_until + make_interval(secs => 1 / s.rate_per_second::float8)
    )) - now())::float8
FROM subscriptions AS s LEFT JOIN endpoint_health AS h ON h.subscription_id = s.id
CROSS JOIN (VALUES (0::smallint), (1::smallint)) AS lanes (lane) CROSS JOIN LATERAL (
    SELECT available_at FROM pending_deliveries
    WHERE subscription_id = s.id AND lane = lanes.lane AND (lease_until IS NULL OR lease_until <= now())
    ORDER BY subscription_id, lane, available_at, change_transaction, change_id LIMIT 1
) AS first
WHERE s.state = 'active' AND s.deleted_at IS NULL
"""

# Text, not an expression: outcomes are hot; hundreds of them go into three tables in one statement. Only attempts whose
# lease is still held are recorded: after it, another deliverer has taken over.
_ATTEMPT_COLUMNS = {
    "id": "uuid",
    "delivery_id": "uuid",
    "token": "uuid",
    "status": "text",
    "delay_seconds": "double precision",
    "attempt_status": "text",
    "http_status": "smallint",
    "latency_ms": "integer",
    "error": "text",
    "begun_at": "timestamptz",
    "request_capture": "text",
    "response_capture": "text",
    "ordered": "boolean",
}
_ATTEMPT_ARRAYS = ", ".join(f"%({name})b::{type_}[]" for name, type_ in _ATTEMPT_COLUMNS.items())
_RECORD = f"""
WITH ended AS MATERIALIZED (SELECT * FROM unnest({_ATTEMPT_ARRAYS}) AS ended ({", ".join(_ATTEMPT_COLUMNS)})),
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
        available_at = CASE WHEN held.again THEN p.available_at ELSE now() + make_interval(secs => held.delay_seconds)
            END
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
recorded AS (
    INSERT INTO delivery_attempts (id, delivery_id, subscription_id, number, created_at, status, http_status,
        latency_ms, request_capture, response_capture)
    SELECT held.id, held.delivery_id, held.subscription_id, noted.attempts, held.begun_at, held.attempt_status,
        held.http_status, held.latency_ms, held.request_capture::json, held.response_capture::json
    FROM held JOIN noted ON noted.id = held.delivery_id
)
SELECT delivery_id, subscription_id, message_id FROM held
"""

# Text, not an expression: part of recording outcomes. The first delivery of a message that is held back becomes due.
_UNBLOCK = """
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

# Text, not an expression: three statements in one, whose order of locks matters. A replay restarts the count of
# attempts. If an attempt is in flight, the replay follows it (`again`).
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
    SELECT id, subscription_id, change_transaction, change_id, message_id, 1, least(%(due_at)s, now()),
        ordered AND message_id IS NOT NULL
    FROM wanted
    ON CONFLICT (delivery_id) DO UPDATE SET lane = 1, available_at = excluded.available_at, attempts = 0, lapses = 0,
        again = coalesce(p.lease_until > now(), false)
)
UPDATE deliveries AS d SET status = 'pending', next_attempt_at = NULL FROM wanted WHERE d.id = wanted.id
"""


def create(connection: Connection, new: Sequence[NewDelivery], lane: Lane = Lane.FRESH) -> None:
    """Create deliveries. Quarantined ones are not queued until a person replays them."""
    if not new:
        return
    if any(delivery.ordered for delivery in new):
        _lock_order(connection)
    columns = dict(zip(NewDelivery._fields, map(list, zip(*new, strict=True)), strict=True))
    connection.exec_driver_sql(_CREATE, {**columns, "lane": int(lane)})


def claim(
    connection: Connection, *, token: UUID, limit: int, among: Sequence[UUID] | None = None
) -> Sequence[Row[Any]] | None:
    """Lease up to `limit` due deliveries of all active subscriptions, or those in `among`.

    Returns None while another deliverer is claiming.

    Each row has `id`, `subscription_id`, `transaction` and `change_id` of its change, `message_id`, `ordered`,
    `attempts` (so far, since it was created or replayed), `lapses` (previous leases in a row that expired without an
    outcome), and of its endpoint `failing` and `last_success_at`.

    Commit the claim with synchronous_commit before sending anything. That also writes the changes to disk, so no
    subscriber is notified of a change that a crash of the database could undo.
    """
    if not connection.exec_driver_sql(_CLAIM_TURN, {"lock": _CLAIM_LOCK}).one()[0]:
        return None
    lane_first = Lane.LATE if random.random() < _LATE_FIRST else Lane.FRESH  # noqa: S311 - not a secret
    values = {"token": token, "limit": limit, "spare": LEASE_SPARE_SECONDS, "lane_first": int(lane_first)}
    if among is None:
        return connection.exec_driver_sql(_CLAIM_ANY, values).all()
    return connection.exec_driver_sql(_CLAIM_AMONG, {**values, "among": list(among)}).all()


def next_due_seconds(connection: Connection) -> float | None:
    """Return the seconds until the next delivery is due; None if none is pending."""
    found: float | None = connection.exec_driver_sql(_NEXT_DUE).scalar()
    return found


def release(connection: Connection, delivery_ids: Sequence[UUID], token: UUID, *, delay_seconds: float = 0.0) -> int:
    """Give up leases without an attempt; the deliveries are due after the delay. Return how many were still held."""
    due_at = func.now() + timedelta(seconds=delay_seconds)
    statement = (
        update(pending_deliveries)
        .where(pending_deliveries.c.delivery_id.in_(delivery_ids), pending_deliveries.c.lease_token == token)
        .values(
            lease_until=None,
            lease_token=None,
            available_at=func.greatest(pending_deliveries.c.available_at, due_at),
        )
    )
    return connection.execute(statement).rowcount


def record_attempts(connection: Connection, attempts: Sequence[Mapping[str, Any]]) -> set[UUID]:
    """Record attempts and the new states of their deliveries; return the ids of these deliveries.

    Attempts whose lease was lost are not recorded: another deliverer has taken over. An attempt has the keys of
    `_ATTEMPT_COLUMNS`: `id` is the attempt's, `status` the delivery's, `delay_seconds` is for a retry, the captures are
    JSON text.
    """
    in_order = {attempt["delivery_id"] for attempt in attempts if attempt["ordered"]}
    if in_order:
        _lock_order(connection)
    columns = {name: [attempt[name] for attempt in attempts] for name in _ATTEMPT_COLUMNS}
    held = connection.exec_driver_sql(_RECORD, columns).all()
    _unblock(connection, [(row.subscription_id, row.message_id) for row in held if row.delivery_id in in_order])
    return {row.delivery_id for row in held}


def replay(connection: Connection, delivery_ids: Sequence[UUID], now: datetime, *, at_once: bool = False) -> int:
    """Queue these deliveries again whatever their status, quarantined ones included; return how many were queued.

    Deliveries of deleted subscriptions are not queued. With `at_once` they wait for no circuit breaker or pause.
    """
    values = {"ids": list(delivery_ids), "due_at": AT_ONCE if at_once else now}
    return connection.exec_driver_sql(_REPLAY, values).rowcount


def abandon(connection: Connection, subscription_id: UUID, reason: str, *, limit: int) -> int:
    """Mark up to `limit` pending deliveries of a subscription as dead; return how many."""
    chosen = select(pending_deliveries.c.delivery_id).where(pending_deliveries.c.subscription_id == subscription_id)
    removed = (
        delete(pending_deliveries)
        .where(pending_deliveries.c.delivery_id.in_(chosen.limit(limit)))
        .returning(pending_deliveries.c.delivery_id)
        .cte("removed")
    )
    statement = (
        update(deliveries)
        .where(deliveries.c.id == removed.c.delivery_id)
        .values(status=DeliveryStatus.DEAD, last_error=reason, next_attempt_at=None)
    )
    return connection.execute(statement).rowcount


def expire(connection: Connection, oldest: datetime, reason: str, *, limit: int) -> int:
    """Mark up to `limit` pending deliveries that were created before `oldest` as dead; return how many.

    Ordered deliveries that waited for them become due.
    """
    _lock_order(connection)
    chosen = (
        select(pending_deliveries.c.delivery_id)
        .where(pending_deliveries.c.delivery_id < ids.first_at(oldest))
        .order_by(pending_deliveries.c.delivery_id)
        .limit(limit)
        .with_for_update()
    )
    statement = delete(pending_deliveries).where(pending_deliveries.c.delivery_id.in_(chosen))
    rows = connection.execute(statement.returning(pending_deliveries)).all()
    expired = literal([row.delivery_id for row in rows], ARRAY(Uuid))
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id == any_(expired))
        .values(status=DeliveryStatus.DEAD, dead_at=func.now(), last_error=reason, next_attempt_at=None)
    )
    _unblock(connection, [(row.subscription_id, row.message_id) for row in rows if row.ordered and row.message_id])
    return len(rows)


def _unblock(connection: Connection, finished: Sequence[tuple[UUID, UUID]]) -> None:
    """Make the next ordered delivery of each (subscription, message) due. The caller must hold the order lock."""
    if finished:
        subscription_ids, message_ids = map(list, zip(*finished, strict=True))
        connection.exec_driver_sql(_UNBLOCK, {"subscription_ids": subscription_ids, "message_ids": message_ids})


def _lock_order(connection: Connection) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(_ORDER_LOCK)))
