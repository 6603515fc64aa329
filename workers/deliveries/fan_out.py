"""Fan-out: creates the deliveries of each change in the change log."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from shared import ids
from shared.deliveries import fan_out_cursor, store
from shared.deliveries.store import NewDelivery
from shared.events.event import spam_score
from shared.subscriptions.model import ChangeSubject
from shared.vocabulary import DeliveryStatus
from workers.context import WorkerContext
from workers.deliveries.subscription_cache import SubscriptionCache

INBOUND: Final = "inbound.received"
_MAX_CHANGES: Final = 500
_MAX_DELIVERIES: Final = 5000
"""Per transaction; the next one continues with the remaining changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutResult:
    """The result of one round of fan-out.

    `has_more`: more settled changes follow. `is_blocked`: more may follow when another process or transaction has
    finished. `has_no_subscribers`: no subscription is active or paused, so the cursor went to the end of the log.
    """

    changes: int = 0
    deliveries: int = 0
    subscription_ids: frozenset[UUID] = frozenset()
    has_more: bool = False
    is_blocked: bool = False
    has_no_subscribers: bool = False


def advance(
    ctx: WorkerContext,
    subscriptions: SubscriptionCache,
    *,
    max_changes: int = _MAX_CHANGES,
    max_deliveries: int = _MAX_DELIVERIES,
) -> FanOutResult:
    """Turn the next settled changes into deliveries, unless another process is doing so."""
    with ctx.engine.begin() as connection:
        cursor = fan_out_cursor.lock_cursor(connection)
        if cursor is None:
            return FanOutResult(is_blocked=True)
        if subscriptions.is_empty and fan_out_cursor.skip_if_no_subscribers(connection):
            return FanOutResult(has_no_subscribers=True)
        changes = fan_out_cursor.read_changes(connection, cursor, inbound=INBOUND, limit=max_changes)
        if not changes:
            return FanOutResult(is_blocked=fan_out_cursor.has_more(connection, cursor))
        # After reading the changes, so that all subscriptions from before them are known.
        subscriptions.refresh(connection)
        created: list[NewDelivery] = []
        blocking: set[tuple[UUID, UUID]] = set()
        taken = 0
        for change in changes:
            taken += 1
            subscribers = subscriptions.subscribers_for(subject_of(change), change.transaction)
            created += new_deliveries(change, subscribers, blocking, ctx.settings.spam_quarantine_score)
            if len(created) >= max_deliveries:
                break
        store.create(connection, created)
        cursor = (changes[taken - 1].transaction, changes[taken - 1].id)
        fan_out_cursor.move_cursor(connection, cursor)
        is_blocked = fan_out_cursor.has_more(connection, cursor)
    return FanOutResult(
        changes=taken,
        deliveries=len(created),
        subscription_ids=frozenset(delivery.subscription_id for delivery in created),
        has_more=taken < len(changes) or len(changes) == max_changes,
        is_blocked=is_blocked,
    )


def subject_of(change: Row[Any]) -> ChangeSubject:
    """Return the fields of a change that filters compare."""
    recipient = change.recipient
    return ChangeSubject(
        type=change.type,
        source=change.source,
        tenant=change.tenant,
        recipient_domain=recipient.rpartition("@")[2] if recipient and "@" in recipient else None,
        tag=change.tag,
    )


def new_deliveries(
    change: Row[Any], subscribers: Iterable[Row[Any]], blocking: set[tuple[UUID, UUID]], spam_limit: float
) -> Sequence[NewDelivery]:
    """Return the deliveries of a change to these subscriptions.

    `blocking` holds the (subscription, message) pairs of the batch's ordered deliveries; this function adds to it.
    Inbound mail whose spam score reaches `spam_limit` is quarantined.
    """
    now = datetime.now(UTC)
    score = spam_score(((change.inbound_shared or {}) | (change.inbound or {})).get("details"))
    quarantined = score is not None and score >= spam_limit
    status = DeliveryStatus.QUARANTINED if quarantined else DeliveryStatus.PENDING
    created = []
    for subscription in subscribers:
        ordered = subscription.ordered and change.message_id is not None
        pair = (subscription.id, change.message_id)
        created.append(
            NewDelivery(
                id=ids.receipt_id(now),
                subscription_id=subscription.id,
                transaction=str(change.transaction),
                change_id=change.id,
                type=change.type,
                message_id=change.message_id,
                status=status.value,
                ordered=ordered,
                follows=ordered and pair in blocking,
            )
        )
        if ordered and not quarantined:
            blocking.add(pair)
    return created
