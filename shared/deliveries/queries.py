"""Queries of deliveries and their attempts, for the API, the command line and jobs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
)

from shared.deliveries.store import AT_ONCE, Lane
from shared.deliveries.tables import FAILED, deliveries, delivery_attempts, http_class, pending_deliveries
from shared.postgres.pagination import KeysetQuery, Page, Position, Span
from shared.subscriptions.tables import endpoint_health, subscriptions
from shared.vocabulary import DeliveryStatus, SubscriptionState

UNDELIVERED: Final = frozenset({DeliveryStatus.RETRY, DeliveryStatus.DEAD, DeliveryStatus.QUARANTINED})
"""Statuses that the partial indexes cover."""
NO_RESPONSE: Final = "network_error"
STATUS_CODE: Final = re.compile(rf"[1-5][0-9]{{2}}|[1-5]xx|{NO_RESPONSE}")
"""A status code, a class of them such as `5xx`, or the word for no response."""
_SUCCESSES: Final = 2
_MAX_NAMED: Final = 5

_DELIVERY: Final[Select[Any]] = select(
    deliveries.c.id,
    deliveries.c.subscription_id.label("subscription"),
    cast(cast(deliveries.c.change_transaction, Text), BigInteger).label("transaction"),
    deliveries.c.change_id,
    deliveries.c.type,
    deliveries.c.message_id,
    deliveries.c.status,
    deliveries.c.attempts,
    deliveries.c.last_http_status,
    deliveries.c.last_error,
    deliveries.c.next_attempt_at,
    deliveries.c.delivered_at,
    deliveries.c.created_at,
    subscriptions.c.name.label("subscription_name"),
    subscriptions.c.state.label("subscription_state"),
    subscriptions.c.tenant.label("subscription_tenant"),
    subscriptions.c.payload,
    subscriptions.c.include_body_text,
    subscriptions.c.deleted_at.is_not(None).label("removed"),
    (pending_deliveries.c.lane == Lane.HELD_BACK).label("is_held_back"),
    (pending_deliveries.c.lease_until > func.now()).label("is_in_flight"),
    case((pending_deliveries.c.available_at > func.now(), pending_deliveries.c.available_at)).label("due_at"),
    case(
        (
            and_(endpoint_health.c.open_until > func.now(), pending_deliveries.c.available_at > AT_ONCE),
            endpoint_health.c.open_until,
        )
    ).label("resting_until"),
    (endpoint_health.c.openings > 0).label("is_breaker_open"),
).select_from(
    deliveries.join(subscriptions, subscriptions.c.id == deliveries.c.subscription_id)
    .outerjoin(pending_deliveries, pending_deliveries.c.delivery_id == deliveries.c.id)
    .outerjoin(endpoint_health, endpoint_health.c.subscription_id == deliveries.c.subscription_id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilters:
    """Filters of deliveries, combined with AND. `since` and `until` apply to the time of creation.

    `status_code` is that of the latest attempt, in the form of STATUS_CODE.
    """

    subscription: UUID | None = None
    status: DeliveryStatus | None = None
    type: str | None = None
    status_code: str | None = None
    message_id: UUID | None = None
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def in_log_order(self) -> bool:
        """Whether lists are in the order of the change log, instead of the order of creation.

        Lists of one subscription are, except lists of undelivered ones, which use a partial index.
        """
        return self.subscription is not None and self.message_id is None and self.status not in UNDELIVERED


def get_page(
    connection: Connection, filters: DeliveryFilters, *, after: Position | None = None, limit: int = 50
) -> Page[Row[Any]]:
    """Return deliveries, the newest first: by their change, or by creation (see `in_log_order`).

    `transaction` and `change_id` identify the change. `last_http_status` is 0 for no response, None before the first
    attempt. `subscription_…`, `payload`, `include_body_text` and `removed` (deleted) belong to the subscription; the
    last five columns are what `policy.explain_wait` needs.
    """
    page = _query(filters).fetch(connection, after=after, limit=limit)
    rows = {row.id: row for row in _get_many(connection, [position[-1] for position in page.items], filters.tenant)}
    return Page([rows[position[-1]] for position in page.items if position[-1] in rows], page.next)


def get_replayable(
    connection: Connection, filters: DeliveryFilters, *, after: Position | None, limit: int
) -> Page[Position]:
    """Return the positions of deliveries that can be replayed, the oldest first; each ends with the delivery's id."""
    query = _query(filters, ascending=True)
    usable = subscriptions.c.deleted_at.is_(None) & (subscriptions.c.state != SubscriptionState.DISABLED)
    query.filter(select(1).where(subscriptions.c.id == deliveries.c.subscription_id, usable).exists())
    return query.fetch(connection, after=after, limit=limit)


def find(connection: Connection, delivery_id: UUID, *, tenant: str | None = None) -> Row[Any] | None:
    """Return one delivery, as `get_page` does."""
    found = _get_many(connection, [delivery_id], tenant)
    return found[0] if found else None


def explain_wait(connection: Connection, *, subscription: UUID | None, tenant: str | None) -> dict[str, Any]:
    """Return what replayed and recovered deliveries wait for, as members of a job's report; {} if they do not wait.

    `waits_until` is given if all of them wait for a time.
    """
    rests = endpoint_health.c.open_until > func.now()
    is_paused = subscriptions.c.state == SubscriptionState.PAUSED
    queued = exists().where(
        pending_deliveries.c.subscription_id == subscriptions.c.id,
        pending_deliveries.c.lane == Lane.LATE,
        pending_deliveries.c.available_at > AT_ONCE,
    )
    statement = (
        select(subscriptions.c.name, is_paused.label("is_paused"), endpoint_health.c.open_until)
        .outerjoin(endpoint_health, endpoint_health.c.subscription_id == subscriptions.c.id)
        .where(subscriptions.c.deleted_at.is_(None), or_(is_paused, rests), queued)
        .order_by(subscriptions.c.name)
    )
    if subscription is not None:
        statement = statement.where(subscriptions.c.id == subscription)
    if tenant is not None:
        statement = statement.where(subscriptions.c.tenant == tenant)
    rows = connection.execute(statement).all()
    if not rows:
        return {}
    causes = [f"{row.name}, which is {'paused' if row.is_paused else 'resting after failures'}" for row in rows]
    more = f" and {len(causes) - _MAX_NAMED} more" if len(causes) > _MAX_NAMED else ""
    found = {"waits_for": f"{'; '.join(causes[:_MAX_NAMED])}{more}"}
    if not any(row.is_paused for row in rows):
        found["waits_until"] = max(row.open_until for row in rows).isoformat()
    return found


def get_attempts(
    connection: Connection, delivery_id: UUID, *, after: Position | None = None, limit: int = 50
) -> Page[Row[Any]]:
    """Return the attempts at a delivery, the newest first."""
    query = KeysetQuery(delivery_attempts.c.id)
    query.where(delivery_attempts.c.delivery_id == delivery_id)
    page = query.fetch(connection, after=after, limit=limit)
    ids = [id_ for (id_,) in page.items]
    statement = select(delivery_attempts).where(delivery_attempts.c.id.in_(ids)).order_by(delivery_attempts.c.id.desc())
    return Page(connection.execute(statement).all(), page.next)


def _query(filters: DeliveryFilters, *, ascending: bool = False) -> KeysetQuery:
    by_change = (deliveries.c.change_transaction, deliveries.c.change_id, deliveries.c.id)
    pending_only = filters.status is DeliveryStatus.PENDING
    if pending_only and filters.subscription is None and filters.message_id is None:
        query = KeysetQuery(pending_deliveries.c.delivery_id, ascending=ascending)
        query.where(deliveries.c.id == pending_deliveries.c.delivery_id)
    else:
        keys = by_change if filters.in_log_order else (deliveries.c.id,)
        query = KeysetQuery(*keys, ascending=ascending)
    query.where(*Span(since=filters.since, until=filters.until).of_ids(deliveries.c.id))
    if filters.message_id is not None:
        query.where(deliveries.c.message_id == filters.message_id)
    if filters.subscription is not None:
        query.where(deliveries.c.subscription_id == filters.subscription)
    if filters.status in UNDELIVERED:
        # A literal, so that the planner recognizes the condition of the partial indexes.
        query.where(deliveries.c.status == literal_column(f"'{filters.status}'"))
    elif filters.status is not None:
        query.filter(deliveries.c.status == filters.status)
    if filters.type is not None:
        query.filter(deliveries.c.type == filters.type)
    if filters.status_code is not None:
        is_first = filters.subscription is None and filters.message_id is None and filters.status is None
        (query.where if is_first else query.filter)(*_of_status_code(filters.status_code))
    if filters.tenant is not None:
        of_tenant = select(subscriptions.c.id).where(subscriptions.c.tenant == filters.tenant)
        query.filter(deliveries.c.subscription_id.in_(of_tenant))
    return query


def _of_status_code(status_code: str) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter by status code; indexes serve those of failures."""
    first = 0 if status_code == NO_RESPONSE else int(status_code[0])
    code: ColumnElement[Any] = deliveries.c.last_http_status
    is_class = status_code == NO_RESPONSE or status_code.endswith("xx")
    is_wanted = http_class == first if is_class else code == int(status_code)
    # Literals, so that the planner recognizes the condition of the partial indexes.
    return [is_wanted] if first == _SUCCESSES else [is_wanted, FAILED]


def _get_many(connection: Connection, ids: Sequence[UUID], tenant: str | None) -> Sequence[Row[Any]]:
    statement = _DELIVERY.where(deliveries.c.id.in_(ids))
    if tenant is not None:
        statement = statement.where(subscriptions.c.tenant == tenant)
    return connection.execute(statement).all()
