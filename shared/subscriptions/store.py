"""Storage of subscriptions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, true, update

from shared.postgres.pagination import KeysetQuery, Page, Position
from shared.subscriptions.tables import subscriptions, subscriptions_stamp
from shared.vocabulary import SubscriptionState


def get_stamp(connection: Connection) -> int:
    """Return a number that grows with every change of any subscription."""
    return int(connection.execute(select(subscriptions_stamp.c.version)).scalar_one())


def get_versions(connection: Connection) -> dict[UUID, int]:
    """Return the version of every subscription that is not deleted, by its id."""
    columns = (subscriptions.c.id, subscriptions.c.version)
    rows = connection.execute(select(*columns).where(subscriptions.c.deleted_at.is_(None)).order_by(subscriptions.c.id))
    return {row.id: row.version for row in rows}


def get_many(connection: Connection, ids: Sequence[UUID]) -> Sequence[Row[Any]]:
    """Return the subscriptions with these ids, deleted ones included."""
    return connection.execute(select(subscriptions).where(subscriptions.c.id.in_(ids))).all()


def find(
    connection: Connection, subscription_id: UUID, *, tenant: str | None = None, lock: bool = False
) -> Row[Any] | None:
    """Return a subscription of `tenant` (None: of any) that is not deleted. `lock` locks its row for an update."""
    statement = select(subscriptions).where(subscriptions.c.id == subscription_id, _is_visible_to(tenant))
    if lock:
        statement = statement.with_for_update(key_share=True)
    return connection.execute(statement).one_or_none()


def get_page(
    connection: Connection,
    *,
    tenant: str | None = None,
    state: SubscriptionState | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Row[Any]]:
    """Return subscriptions that are not deleted, the newest first."""
    query = KeysetQuery(subscriptions.c.id)
    query.filter(_is_visible_to(tenant))
    if state is not None:
        query.filter(subscriptions.c.state == state)
    page = query.fetch(connection, after=after, limit=limit)
    rows = {row.id: row for row in get_many(connection, [key for (key,) in page.items])}
    return Page([rows[key] for (key,) in page.items], page.next)


def create(connection: Connection, subscription_id: UUID, values: Mapping[str, Any], now: datetime) -> Row[Any]:
    """Add an active subscription; `values` by column name."""
    times = {"state_since": now, "created_at": now, "updated_at": now}
    statement = insert(subscriptions).values(id=subscription_id, state=SubscriptionState.ACTIVE, **times, **values)
    return connection.execute(statement.returning(subscriptions)).one()


def change(connection: Connection, subscription_id: UUID, changes: Mapping[str, Any], now: datetime) -> Row[Any]:
    """Update a subscription; `changes` by column name."""
    statement = (
        update(subscriptions)
        .where(subscriptions.c.id == subscription_id)
        .values(**changes, version=subscriptions.c.version + 1, updated_at=now)
    )
    return connection.execute(statement.returning(subscriptions)).one()


def disable(connection: Connection, subscription_id: UUID, url: str, reason: str, now: datetime) -> bool:
    """Disable a subscription, unless it is disabled already or its URL has changed. Return whether it changed."""
    statement = (
        update(subscriptions)
        .where(
            subscriptions.c.id == subscription_id,
            subscriptions.c.url == url,
            subscriptions.c.state != SubscriptionState.DISABLED,
            subscriptions.c.deleted_at.is_(None),
        )
        .values(
            state=SubscriptionState.DISABLED,
            state_reason=reason,
            state_since=now,
            version=subscriptions.c.version + 1,
            updated_at=now,
        )
    )
    return bool(connection.execute(statement).rowcount)


def _is_visible_to(tenant: str | None) -> ColumnElement[bool]:
    of_tenant = true() if tenant is None else subscriptions.c.tenant == tenant
    return and_(subscriptions.c.deleted_at.is_(None), of_tenant)
