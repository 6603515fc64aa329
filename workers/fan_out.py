"""Fan-out: the log of changes is followed, and becomes deliveries."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared import ids
from shared.changes.log import Cursor
from shared.db import fan_out
from shared.db.fan_out import NewDelivery, Subject
from shared.db.subscriptions import SubscriptionRow
from shared.domain.deliveries import DeliveryStatus
from shared.domain.subscriptions import ChangeSubject
from workers.context import WorkerContext
from workers.delivering.subscribers import Subscribers

INBOUND = "inbound.received"
_MOST_CHANGES = 500
_MOST_DELIVERIES = 5000
"""In one transaction: past this the changes that are left wait for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FannedOut:
    """What one step did. `more`: the log goes on. `waits`: there is, or may be, more once others have done."""

    changes: int = 0
    deliveries: int = 0
    subscription_ids: frozenset[UUID] = field(default_factory=frozenset)
    more: bool = False
    waits: bool = False


def advance(ctx: WorkerContext, subscribers: Subscribers, *, most_changes: int = _MOST_CHANGES) -> FannedOut:
    """Turn the next settled changes into deliveries, unless another is at it."""
    with ctx.engine.begin() as connection:
        place = fan_out.hold(connection)
        if place is None:
            return FannedOut(waits=True)
        subjects = fan_out.following(connection, place, inbound=INBOUND, limit=most_changes)
        if not subjects:
            return FannedOut(waits=fan_out.has_unsettled(connection, place))
        subscribers.refresh(connection)  # after the changes: see there
        made, taken = _deliveries(subjects, subscribers, ctx.settings.spam_quarantine_score)
        fan_out.add(connection, made)
        place = _cursor(subjects[taken - 1])
        fan_out.advance(connection, place)
        waits = fan_out.has_unsettled(connection, place)
    return FannedOut(
        changes=taken,
        deliveries=len(made),
        subscription_ids=frozenset(delivery.subscription_id for delivery in made),
        more=taken < len(subjects) or len(subjects) == most_changes,
        waits=waits,
    )


def _deliveries(
    subjects: Sequence[Subject], subscribers: Subscribers, spam_limit: float
) -> tuple[list[NewDelivery], int]:
    """The deliveries of as many of these changes as fit into one transaction, and how many changes that is."""
    made: list[NewDelivery] = []
    seen: set[tuple[UUID, UUID]] = set()
    for number, subject in enumerate(subjects, 1):
        wanting = subscribers.wanting(about(subject), subject.transaction)
        made += of_change(subject, wanting, seen, spam_limit)
        if len(made) >= _MOST_DELIVERIES:
            return made, number
    return made, len(subjects)


def about(subject: Subject) -> ChangeSubject:
    """What decides who is told of a change."""
    return ChangeSubject(
        type=subject.type,
        source=subject.source,
        tenant=subject.tenant,
        recipient_domain=_domain(subject.recipient),
        tag=subject.tag,
    )


def of_change(
    subject: Subject, wanting: Iterable[SubscriptionRow], seen: set[tuple[UUID, UUID]], spam_limit: float
) -> Iterator[NewDelivery]:
    """The deliveries of a change to these subscriptions. `seen`: of which ordered one and message a batch has one."""
    now = datetime.now(UTC)
    quarantined = _spam_score(subject.inbound) >= spam_limit
    status = DeliveryStatus.QUARANTINED if quarantined else DeliveryStatus.PENDING
    for subscription in wanting:
        ordered = subscription.ordered and subject.message_id is not None
        place = (subscription.id, subject.message_id) if subject.message_id and ordered else None
        yield NewDelivery(
            id=ids.receipt_id(now),
            subscription_id=subscription.id,
            transaction=str(subject.transaction),
            change_id=subject.id,
            type=subject.type,
            message_id=subject.message_id,
            status=status.value,
            ordered=ordered,
            follows=place in seen,
        )
        if place is not None and not quarantined:
            seen.add(place)


def _cursor(subject: Subject) -> Cursor:
    return (subject.transaction, subject.id)


def _domain(recipient: str | None) -> str | None:
    return recipient.rpartition("@")[2] if recipient and "@" in recipient else None


def _spam_score(inbound: Any) -> float:
    """What the filter in front of the mailbox made of mail that came in; negative where it says nothing."""
    found = inbound
    for name in ("details", "spam", "score"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else float("-inf")
