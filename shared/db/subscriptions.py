"""Subscriptions, as they are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.domain.subscriptions import SubscriptionState
from shared.postgres.pagination import Page, Position, Walk


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRow:
    """A subscription as it is stored; `headers` and `secrets` are sealed (`shared.encryption`)."""

    id: UUID
    name: str
    url: str
    types: Sequence[str]
    sources: Sequence[str]
    tenant: str | None
    recipient_domains: Sequence[str]
    tags: Sequence[str]
    headers: bytes
    secrets: bytes
    payload: str
    timeout_s: int
    retry_schedule: Sequence[int]
    rate_per_second: float | None
    concurrency: int
    ordered: bool
    state: str
    state_reason: str | None
    state_since: datetime
    begins: int
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


_CAST = {"begins": "begins::text::bigint AS begins"}
_COLUMNS = ", ".join(_CAST.get(entry.name, entry.name) for entry in fields(SubscriptionRow))
_IN_SERVICE = "deleted_at IS NULL AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)"


def stamp(connection: Connection) -> int:
    """A number that grows with every change of any subscription."""
    return int(connection.exec_driver_sql("SELECT version FROM subscriptions_stamp").scalar_one())


def versions(connection: Connection) -> dict[UUID, int]:
    """The version of every subscription that there is."""
    rows = connection.exec_driver_sql("SELECT id, version FROM subscriptions WHERE deleted_at IS NULL ORDER BY id")
    return {row[0]: row[1] for row in rows}


def by_ids(connection: Connection, ids: Sequence[UUID]) -> list[SubscriptionRow]:
    """Those of these that there are, or were."""
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM subscriptions WHERE id = ANY(%(ids)s)", {"ids": list(ids)}
    )
    return [SubscriptionRow(**row) for row in rows.mappings()]


def disable(connection: Connection, subscription_id: UUID, url: str, reason: str, now: datetime) -> bool:
    """Deliver to it no more, unless that was so already or it has another URL by now; whether that changed anything."""
    return bool(
        connection.exec_driver_sql(
            "UPDATE subscriptions SET state = 'disabled', state_reason = %(reason)s, state_since = %(now)s,"
            " version = version + 1, updated_at = %(now)s"
            " WHERE id = %(id)s AND url = %(url)s AND state <> 'disabled' AND deleted_at IS NULL",
            {"id": subscription_id, "url": url, "reason": reason, "now": now},
        ).rowcount
    )


def create(connection: Connection, subscription_id: UUID, values: Mapping[str, Any], now: datetime) -> SubscriptionRow:
    """Add a subscription, which is active; `values` by the names of its columns."""
    given = {
        **values,
        "id": subscription_id,
        "state": SubscriptionState.ACTIVE,
        "state_since": now,
        "created_at": now,
        "updated_at": now,
    }
    made = connection.exec_driver_sql(
        f"INSERT INTO subscriptions ({', '.join(given)}) VALUES ({', '.join(f'%({name})s' for name in given)})"
        f" RETURNING {_COLUMNS}",
        given,
    )
    return SubscriptionRow(**made.mappings().one())


def find(
    connection: Connection, subscription_id: UUID, *, tenant: str | None = None, lock: bool = False
) -> SubscriptionRow | None:
    """One that is in service, of this tenant or, with None, of any; locked, if wanted, against other changes."""
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM subscriptions WHERE id = %(id)s AND {_IN_SERVICE}"
        f"{' FOR NO KEY UPDATE' if lock else ''}",
        {"id": subscription_id, "tenant": tenant},
    ).mappings()
    return next((SubscriptionRow(**row) for row in rows), None)


def listed(
    connection: Connection,
    *,
    tenant: str | None = None,
    state: SubscriptionState | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[SubscriptionRow]:
    """Those in service, the newest first."""
    walk = Walk(table="subscriptions", keys=("id",))
    walk.pick(_IN_SERVICE, tenant=tenant)
    if state is not None:
        walk.pick("state = %(state)s", state=state)
    walk.after(after)
    found = walk.page(connection, limit)
    rows = {row.id: row for row in by_ids(connection, [position[0] for position in found.items])}
    return Page([rows[position[0]] for position in found.items], found.next)


def update(connection: Connection, subscription_id: UUID, changes: Mapping[str, Any], now: datetime) -> SubscriptionRow:
    """Change one; `changes` by the names of its columns."""
    settings = "".join(f"{name} = %({name})s, " for name in changes)
    changed = connection.exec_driver_sql(
        f"UPDATE subscriptions SET {settings}version = version + 1, updated_at = %(now)s WHERE id = %(id)s"
        f" RETURNING {_COLUMNS}",
        {**changes, "id": subscription_id, "now": now},
    )
    return SubscriptionRow(**changed.mappings().one())
