"""How endpoints fare."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.domain.endpoints import Health

_NAMES = tuple(entry.name for entry in fields(Health))
_COLUMNS = ", ".join(_NAMES)

_LOCK = f"""
SELECT subscription_id, {_COLUMNS} FROM endpoint_health WHERE subscription_id = ANY(%(ids)b)
ORDER BY subscription_id FOR UPDATE
"""

_KEEP = f"""
INSERT INTO endpoint_health AS h (subscription_id, {_COLUMNS}, last_success_at, last_failure_at, last_error)
SELECT * FROM unnest(%(subscription_id)b::uuid[], %(failures)b::integer[], %(strikes)b::integer[],
    %(openings)b::integer[], %(failing_since)b::timestamptz[], %(open_until)b::timestamptz[],
    %(succeeded_at)b::timestamptz[], %(failed_at)b::timestamptz[], %(error)b::text[])
ON CONFLICT (subscription_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _NAMES)},
    last_success_at = coalesce(excluded.last_success_at, h.last_success_at),
    last_failure_at = coalesce(excluded.last_failure_at, h.last_failure_at),
    last_error = coalesce(excluded.last_error, h.last_error)
"""


class Faring(NamedTuple):
    """How an endpoint fares now, and what was last heard of it just now: nothing new where None."""

    subscription_id: UUID
    health: Health
    succeeded_at: datetime | None
    failed_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFacts:
    """How an endpoint fares, as it is shown. `failures` are those since the last success."""

    failures: int = 0
    failing_since: datetime | None = None
    open_until: datetime | None = None
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    last_error: str | None = None


def lock(connection: Connection, subscription_ids: Sequence[UUID]) -> Mapping[UUID, Health]:
    """How these endpoints fare, kept as it is until the end of the transaction; those never heard of fare well."""
    rows = connection.exec_driver_sql(_LOCK, {"ids": list(subscription_ids)}).mappings()
    known = {row["subscription_id"]: Health(**{name: row[name] for name in _NAMES}) for row in rows}
    return {id_: known.get(id_, Health()) for id_ in subscription_ids}


def keep(connection: Connection, farings: Sequence[Faring]) -> None:
    """How these endpoints fare from now on."""
    ordered = sorted(farings, key=lambda faring: faring.subscription_id)
    values: dict[str, object] = {
        name: [getattr(faring, name) for faring in ordered] for name in Faring._fields if name != "health"
    }
    healths = zip(*(astuple(faring.health) for faring in ordered), strict=True)
    values |= dict(zip(_NAMES, map(list, healths), strict=True))
    connection.exec_driver_sql(_KEEP, values)


def told(connection: Connection, subscription_ids: Sequence[UUID]) -> Mapping[UUID, HealthFacts]:
    """How these endpoints fare; those never heard of fare well."""
    names = [entry.name for entry in fields(HealthFacts)]
    rows = connection.exec_driver_sql(
        f"SELECT subscription_id, {', '.join(names)} FROM endpoint_health WHERE subscription_id = ANY(%(ids)b)",
        {"ids": list(subscription_ids)},
    )
    known = {row[0]: HealthFacts(**dict(zip(names, row[1:], strict=True))) for row in rows}
    return {id_: known.get(id_, HealthFacts()) for id_ in subscription_ids}


def forgive(connection: Connection, subscription_id: UUID) -> None:
    """Have an endpoint tried as if it had never failed."""
    keep(connection, [Faring(subscription_id, Health(), None, None, None)])
