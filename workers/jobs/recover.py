"""Recovering: bringing a subscription every change of a time that it should have had and has not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.changes.log import Cursor
from shared.db import deliveries, fan_out, recoveries, subscriptions
from shared.db.fan_out import LATE, NewDelivery, Subject
from shared.db.recoveries import Made
from shared.db.subscriptions import SubscriptionRow
from shared.domain.deliveries import DeliveryStatus
from shared.domain.subscriptions import SubscriptionState, matches
from shared.jobs.store import Job
from workers import fan_out as following
from workers.context import WorkerContext
from workers.jobs import count_then_run
from workers.jobs.count_then_run import TO_DELIVER, Piece, Position
from workers.jobs.progress import JobError, Progress

_CHANGES_AT_ONCE = 1000

_COUNTED_AS = {
    DeliveryStatus.PENDING: "waiting",
    DeliveryStatus.RETRY: "waiting",
    DeliveryStatus.DEAD: "dead",
    DeliveryStatus.DELIVERED: "delivered",
    DeliveryStatus.QUARANTINED: "quarantined",
}
_NEVER_MADE = "never_made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be recovered."""

    subscription: UUID
    since: datetime
    until: datetime
    include_delivered: bool

    def covers(self, subject: Subject) -> bool:
        """Whether a change is of the time that is meant."""
        return self.since <= subject.changed_at < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a subscription should have had of a part of the log: what there is no delivery of, and those there are."""

    missing: Sequence[NewDelivery]
    made: Sequence[Made]
    coming: int
    """What those who follow the log have yet to come to; left to them, so that none is made twice."""

    def again(self, *, include_delivered: bool) -> list[UUID]:
        """Deliveries that are to be made again."""
        over = {DeliveryStatus.DEAD, DeliveryStatus.DELIVERED} if include_delivered else {DeliveryStatus.DEAD}
        return [delivery.id for delivery in self.made if delivery.status in over]

    def counts(self, *, include_delivered: bool) -> Counter[str]:
        """What was found, by name."""
        new = [delivery for delivery in self.missing if delivery.status == DeliveryStatus.PENDING]
        found = Counter(_COUNTED_AS[delivery.status] for delivery in self.made)
        found[_NEVER_MADE] += len(new)
        found["quarantined"] += len(self.missing) - len(new)
        found["waiting"] += self.coming
        found[TO_DELIVER] += len(new) + len(self.again(include_delivered=include_delivered))
        return found


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Go through the log, from the beginning of that time to its end. The report says if that is no longer all kept."""
    order = _order(job.parameters)
    with ctx.engine.begin() as connection:
        fan_out.wait(connection)  # for who follows the log with subscriptions as they were before

    def take(connection: Connection, after: Position | None, sending: bool) -> Piece:
        row = _usable(subscriptions.find(connection, order.subscription, lock=sending))
        reached = fan_out.reached(connection)  # before the deliveries are looked for: what is before is there by then
        place = recoveries.before(connection, order.since) if after is None else (int(after[0]), int(after[1]))
        subjects = fan_out.following(connection, place, inbound=following.INBOUND, limit=_CHANGES_AT_ONCE)
        wanted = [subject for subject in subjects if order.covers(subject) and matches(row, following.about(subject))]
        findings = _look(connection, row, wanted, reached, ctx.settings.spam_quarantine_score)
        if sending:
            fan_out.add(connection, findings.missing, LATE)
            again = findings.again(include_delivered=order.include_delivered)
            deliveries.replay(connection, again, datetime.now(UTC))
        return Piece(
            found=findings.counts(include_delivered=order.include_delivered) + Counter(changes=len(subjects)),
            next=_position(subjects[-1]) if len(subjects) == _CHANGES_AT_ONCE else None,
        )

    report = count_then_run.run(ctx, job, progress, take, dry_run=job.parameters["dry_run"])
    with ctx.engine.begin() as connection:
        kept_since = recoveries.kept_since(connection, order.since)
    return report if kept_since is None else {**report, "kept_since": kept_since.isoformat()}


def _look(
    connection: Connection, row: SubscriptionRow, wanted: Sequence[Subject], reached: Cursor, spam_limit: float
) -> Findings:
    ours = [subject for subject in wanted if _cursor(subject) <= reached or subject.transaction < row.begins]
    made = recoveries.made(connection, row.id, [_cursor(subject) for subject in ours])
    unmade = [subject for subject in ours if _cursor(subject) not in made]
    return Findings(
        missing=list(_deliveries(unmade, row, spam_limit)),
        made=list(made.values()),
        coming=len(wanted) - len(ours),
    )


def _deliveries(subjects: Sequence[Subject], row: SubscriptionRow, spam_limit: float) -> Iterator[NewDelivery]:
    seen: set[tuple[UUID, UUID]] = set()
    for subject in subjects:
        yield from following.of_change(subject, [row], seen, spam_limit)


def _usable(row: SubscriptionRow | None) -> SubscriptionRow:
    if row is None:
        raise JobError("The subscription was removed.")
    if row.state == SubscriptionState.DISABLED:
        raise JobError(f"The subscription is disabled ({row.state_reason}), so nothing is sent; resume it first.")
    return row


def _order(parameters: Mapping[str, Any]) -> Order:
    return Order(
        subscription=UUID(parameters["subscription"]),
        since=datetime.fromisoformat(parameters["since"]),
        until=datetime.fromisoformat(parameters["until"]),
        include_delivered=parameters["include_delivered"],
    )


def _cursor(subject: Subject) -> Cursor:
    return (subject.transaction, subject.id)


def _position(subject: Subject) -> Position:
    return (str(subject.transaction), str(subject.id))
