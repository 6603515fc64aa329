"""Storage of the health of endpoints."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Uuid, any_, func, literal, select

from shared.subscriptions.circuit_breaker import EndpointHealth
from shared.subscriptions.tables import endpoint_health

_STATE = (
    endpoint_health.c.failures,
    endpoint_health.c.strikes.label("consecutive_failures"),
    endpoint_health.c.openings.label("trip_count"),
    endpoint_health.c.failing_since,
    endpoint_health.c.open_until,
)
_SHOWN = (
    endpoint_health.c.failures,
    endpoint_health.c.failing_since,
    endpoint_health.c.open_until,
    endpoint_health.c.last_success_at,
    endpoint_health.c.last_failure_at,
    endpoint_health.c.last_error,
)
_UNKNOWN = {column.name: 0 if column.name == "failures" else None for column in _SHOWN}

# Text, not an expression: it is part of recording outcomes, and takes hundreds of rows as one array per column, so the
# statement is the same for every number of rows.
_STORE = """
INSERT INTO endpoint_health AS h (subscription_id, failures, strikes, openings, failing_since, open_until,
    last_success_at, last_failure_at, last_error)
SELECT * FROM unnest(%(subscription_id)b::uuid[], %(failures)b::integer[], %(strikes)b::integer[],
    %(openings)b::integer[], %(failing_since)b::timestamptz[], %(open_until)b::timestamptz[],
    %(succeeded_at)b::timestamptz[], %(failed_at)b::timestamptz[], %(error)b::text[])
ON CONFLICT (subscription_id) DO UPDATE SET failures = excluded.failures, strikes = excluded.strikes,
    openings = excluded.openings, failing_since = excluded.failing_since, open_until = excluded.open_until,
    last_success_at = coalesce(excluded.last_success_at, h.last_success_at),
    last_failure_at = coalesce(excluded.last_failure_at, h.last_failure_at),
    last_error = coalesce(excluded.last_error, h.last_error)
"""


class HealthUpdate(NamedTuple):
    """Health to store. None in one of the last three fields leaves its column unchanged."""

    subscription_id: UUID
    health: EndpointHealth
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None


def get_time(connection: Connection) -> datetime:
    """Return the database's time, with which claims compare `open_until`: the clocks of deliverers may differ."""
    return connection.execute(select(func.now())).scalar_one()


def lock(connection: Connection, subscription_ids: Sequence[UUID]) -> Mapping[UUID, EndpointHealth]:
    """Return the health of these endpoints, locked until the end of the transaction. Unknown ones are healthy."""
    id_ = endpoint_health.c.subscription_id
    wanted = literal(list(subscription_ids), ARRAY(Uuid))  # one parameter, however many ids: outcomes are hot
    statement = select(id_, *_STATE).where(id_ == any_(wanted)).order_by(id_).with_for_update()
    rows = [row._asdict() for row in connection.execute(statement)]
    known = {row.pop("subscription_id"): EndpointHealth(**row) for row in rows}
    return {id_: known.get(id_, EndpointHealth()) for id_ in subscription_ids}


def store(connection: Connection, updates: Sequence[HealthUpdate]) -> None:
    """Store the health of these endpoints, in the order of their ids so that two transactions do not deadlock."""
    ordered = sorted(updates, key=lambda update: update.subscription_id)
    connection.exec_driver_sql(
        _STORE,
        {
            "subscription_id": [update.subscription_id for update in ordered],
            "failures": [update.health.failures for update in ordered],
            "strikes": [update.health.consecutive_failures for update in ordered],
            "openings": [update.health.trip_count for update in ordered],
            "failing_since": [update.health.failing_since for update in ordered],
            "open_until": [update.health.open_until for update in ordered],
            "succeeded_at": [update.succeeded_at for update in ordered],
            "failed_at": [update.failed_at for update in ordered],
            "error": [update.error for update in ordered],
        },
    )


def get_shown(connection: Connection, subscription_ids: Sequence[UUID]) -> Mapping[UUID, Mapping[str, Any]]:
    """Return the public fields of the health of these endpoints. Unknown ones are healthy."""
    id_ = endpoint_health.c.subscription_id
    rows = [row._asdict() for row in connection.execute(select(id_, *_SHOWN).where(id_.in_(subscription_ids)))]
    known = {row.pop("subscription_id"): row for row in rows}
    return {id_: known.get(id_, _UNKNOWN) for id_ in subscription_ids}


def reset(connection: Connection, subscription_id: UUID) -> None:
    """Reset the failures of an endpoint."""
    store(connection, [HealthUpdate(subscription_id, EndpointHealth())])
