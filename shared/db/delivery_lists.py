"""Deliveries and attempts, as people look at them, and as jobs go through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from shared.domain.deliveries import DeliveryStatus
from shared.postgres.pagination import Page, Position, Span, Walk

UNDELIVERED: Final = frozenset({DeliveryStatus.RETRY, DeliveryStatus.DEAD, DeliveryStatus.QUARANTINED})
"""Statuses that an index of their own finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFacts:
    """The delivery of one change to one subscription. `transaction` and `change_id` are the change's place in the log.

    `last_http_status` is 0 where no response came, None before the first attempt. The rest is of the subscription.
    """

    id: UUID
    subscription: UUID
    transaction: int
    change_id: int
    type: str
    message_id: UUID | None
    status: DeliveryStatus
    attempts: int
    last_http_status: int | None
    last_error: str | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime
    subscription_name: str
    subscription_state: str
    subscription_tenant: str | None
    payload: str
    removed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFacts:
    """One attempt."""

    id: UUID
    number: int
    status: str
    http_status: int
    latency_ms: int
    created_at: datetime
    request_capture: Mapping[str, Any]
    response_capture: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which deliveries: all that is given must hold. `span` is of the times they were made."""

    subscription: UUID | None = None
    status: DeliveryStatus | None = None
    type: str | None = None
    message_id: UUID | None = None
    tenant: str | None = None
    span: Span = field(default_factory=Span)


_FACTS = """
SELECT d.id, d.subscription_id AS subscription, d.change_transaction::text::bigint AS transaction, d.change_id, d.type,
    d.message_id, d.status, d.attempts, d.last_http_status, d.last_error, d.next_attempt_at, d.delivered_at,
    d.created_at, s.name AS subscription_name, s.state AS subscription_state,
    s.tenant AS subscription_tenant, s.payload, s.deleted_at IS NOT NULL AS removed
FROM deliveries AS d JOIN subscriptions AS s ON s.id = d.subscription_id
WHERE d.id = ANY(%(ids)s) AND (%(tenant)s::text IS NULL OR s.tenant = %(tenant)s)
"""

_ATTEMPTS = ", ".join(entry.name for entry in fields(AttemptFacts))


def listed(
    connection: Connection, wanted: Wanted, *, after: Position | None = None, limit: int = 50
) -> Page[DeliveryFacts]:
    """Deliveries, the last first: those made last, or (see `goes_by_place`) of what changed last."""
    walk = _walk(wanted)
    walk.after(after)
    found = walk.page(connection, limit)
    facts = {row.id: row for row in _by_ids(connection, [position[-1] for position in found.items], wanted.tenant)}
    return Page([facts[position[-1]] for position in found.items if position[-1] in facts], found.next)


def in_order(connection: Connection, wanted: Wanted, *, after: Position | None, limit: int) -> Page[Position]:
    """Positions of deliveries that fit and can be made again, the first first; each ends with the delivery's id."""
    walk = _walk(wanted, ascending=True)
    walk.pick(
        "EXISTS (SELECT FROM subscriptions AS s WHERE s.id = d.subscription_id AND s.deleted_at IS NULL"
        " AND s.state <> 'disabled')"
    )
    walk.after(after)
    return walk.page(connection, limit)


def find(connection: Connection, delivery_id: UUID, *, tenant: str | None = None) -> DeliveryFacts | None:
    """One delivery."""
    found = _by_ids(connection, [delivery_id], tenant)
    return found[0] if found else None


def attempts(
    connection: Connection, delivery_id: UUID, *, after: Position | None = None, limit: int = 50
) -> Page[AttemptFacts]:
    """The attempts at a delivery, the newest first."""
    walk = Walk(table="delivery_attempts", keys=("id",))
    walk.bound("delivery_id = %(delivery_id)s", delivery_id=delivery_id)
    walk.after(after)
    found = walk.page(connection, limit)
    rows = connection.exec_driver_sql(
        f"SELECT {_ATTEMPTS} FROM delivery_attempts WHERE id = ANY(%(ids)s) ORDER BY id DESC",
        {"ids": [position[0] for position in found.items]},
    )
    return Page([AttemptFacts(**row) for row in rows.mappings()], found.next)


def goes_by_place(wanted: Wanted) -> bool:
    """Whether a list is in the order of the log, rather than in that in which its deliveries were made.

    That of one subscription is; except for its undelivered ones, which are few and have an index of their own.
    """
    return wanted.subscription is not None and wanted.message_id is None and wanted.status not in UNDELIVERED


def _walk(wanted: Wanted, *, ascending: bool = False) -> Walk:
    walk = Walk(table="deliveries AS d", keys=("d.id",), ascending=ascending)
    wanted.span.cut(walk, "d.id")
    if goes_by_place(wanted):
        walk.keys = ("d.change_transaction", "d.change_id", "d.id")
    if wanted.message_id is not None:
        walk.bound("d.message_id = %(message_id)s", message_id=wanted.message_id)
    if wanted.subscription is not None:
        walk.bound("d.subscription_id = %(subscription)s", subscription=wanted.subscription)
    _choose_status(walk, wanted)
    if wanted.type is not None:
        walk.pick("d.type = %(type)s", type=wanted.type)
    if wanted.tenant is not None:
        walk.pick("d.subscription_id IN (SELECT id FROM subscriptions WHERE tenant = %(tenant)s)", tenant=wanted.tenant)
    return walk


def _choose_status(walk: Walk, wanted: Wanted) -> None:
    if wanted.status in UNDELIVERED:
        walk.bound(f"d.status = '{wanted.status}'")  # in clear, so that its index is found
    elif wanted.status is DeliveryStatus.PENDING and wanted.subscription is None and wanted.message_id is None:
        walk.table, walk.keys = (
            "pending_deliveries AS p JOIN deliveries AS d ON d.id = p.delivery_id",
            ("p.delivery_id",),
        )
        walk.pick("d.status = 'pending'")
    elif wanted.status is not None:
        walk.pick("d.status = %(status)s", status=wanted.status)


def _by_ids(connection: Connection, ids: Sequence[UUID], tenant: str | None) -> list[DeliveryFacts]:
    rows = connection.exec_driver_sql(_FACTS, {"ids": list(ids), "tenant": tenant}).mappings()
    return [DeliveryFacts(**{**row, "status": DeliveryStatus(row["status"])}) for row in rows]
