"""The recovery job: delivers the changes of a period that a subscription wants but did not receive."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from shared.deliveries import fan_out_cursor, queries, recovery, store
from shared.deliveries.store import Lane, NewDelivery
from shared.jobs.store import Job
from shared.subscriptions import store as subscriptions
from shared.subscriptions.model import matches
from shared.vocabulary import DeliveryStatus, SubscriptionState
from workers.context import WorkerContext
from workers.deliveries import fan_out
from workers.jobs import count_then_run
from workers.jobs.count_then_run import TO_DELIVER, Position
from workers.jobs.progress import JobError, Progress

BATCH: Final = 1000

_REPORTED_AS: Final = {
    DeliveryStatus.PENDING: "waiting",
    DeliveryStatus.RETRY: "waiting",
    DeliveryStatus.DEAD: "dead",
    DeliveryStatus.DELIVERED: "delivered",
    DeliveryStatus.QUARANTINED: "quarantined",
}


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Read the log of the period. The report has `kept_since` if part of it is no longer stored."""
    subscription_id = UUID(job.parameters["subscription"])
    since, until = (datetime.fromisoformat(job.parameters[name]) for name in ("since", "until"))
    to_replay = {DeliveryStatus.DEAD}
    if job.parameters["include_delivered"]:
        to_replay.add(DeliveryStatus.DELIVERED)
    with ctx.engine.begin() as connection:
        fan_out_cursor.wait_for_cursor(connection)  # a fan-out in progress may use an older version of the subscription

    def process_chunk(
        connection: Connection, after: Position | None, sending: bool
    ) -> tuple[Mapping[str, int], Position | None]:
        subscription = subscriptions.find(connection, subscription_id, lock=sending)
        if subscription is None:
            raise JobError("The subscription was removed.")
        if subscription.state == SubscriptionState.DISABLED:
            reason = subscription.state_reason
            raise JobError(f"The subscription is disabled ({reason}), so nothing is sent; resume it first.")
        fanned_out = fan_out_cursor.get_cursor(connection)  # read first: all deliveries of earlier changes exist by now
        cursor = recovery.cursor_before(connection, since) if after is None else (int(after[0]), int(after[1]))
        changes = fan_out_cursor.read_changes(connection, cursor, inbound=fan_out.INBOUND, limit=BATCH)
        wanted = [
            change
            for change in changes
            if since <= change.changed_at < until and matches(subscription, fan_out.subject_of(change))
        ]
        # Fan-out creates the deliveries of later changes.
        ours = [
            change
            for change in wanted
            if _cursor(change) <= fanned_out or change.transaction < int(subscription.begins)
        ]
        existing = recovery.get_existing(connection, subscription.id, [_cursor(change) for change in ours])
        missing: list[NewDelivery] = []
        blocking: set[tuple[UUID, UUID]] = set()
        for change in ours:
            if _cursor(change) not in existing:
                spam_limit = ctx.settings.spam_quarantine_score
                missing += fan_out.new_deliveries(change, [subscription], blocking, spam_limit)
        again = [delivery.id for delivery in existing.values() if delivery.status in to_replay]
        if sending:
            store.create(connection, missing, Lane.LATE)
            store.replay(connection, again, datetime.now(UTC))
        new = sum(delivery.status == DeliveryStatus.PENDING for delivery in missing)
        found = Counter(_REPORTED_AS[DeliveryStatus(delivery.status)] for delivery in existing.values())
        found += Counter(waiting=len(wanted) - len(ours), changes=len(changes), never_made=new)
        found += Counter({"quarantined": len(missing) - new, TO_DELIVER: new + len(again)})
        return found, tuple(map(str, _cursor(changes[-1]))) if len(changes) == BATCH else None

    report = count_then_run.run(ctx, job, progress, process_chunk, dry_run=job.parameters["dry_run"])
    with ctx.engine.begin() as connection:
        stored_since = recovery.stored_since(connection, since)
        waits = queries.explain_wait(connection, subscription=subscription_id, tenant=None)
    report = {**report, **waits}
    return report if stored_since is None else {**report, "kept_since": stored_since.isoformat()}


def _cursor(change: Row[Any]) -> tuple[int, int]:
    return (change.transaction, change.id)
