"""Periodic work on the suppression list: evaluate the soft-bounce rule, and log expired entries."""

import time
from datetime import UTC, datetime, timedelta

import structlog

from shared.broker import DELIVER
from shared.suppression import soft_bounce_store, soft_bounces, store
from workers.context import WorkerContext

_MAX_RUN_SECONDS = 4.0
_KEPT_BEYOND_WINDOW = timedelta(days=30)
"""Soft bounces are kept this much longer than the window, for events that arrive late."""

log = structlog.get_logger()


def evaluate_soft_bounces(ctx: WorkerContext, now: datetime | None = None, *, batch_size: int = 500) -> int:
    """Evaluate all due recipients, unless another worker is doing so; return how many entries were added or removed."""
    changed = 0
    until = time.monotonic() + _MAX_RUN_SECONDS
    while time.monotonic() < until:
        moment = now or datetime.now(UTC)
        with ctx.engine.begin() as connection:
            if not soft_bounce_store.try_lock(connection):
                break
            claimed, recipients = soft_bounce_store.claim_scheduled(connection, moment, batch_size)
            if recipients:
                policy = ctx.rules.rules(connection).suppression
                decisions = soft_bounces.decide(connection, policy, ctx.hasher, recipients, moment)
                changed += len(soft_bounces.apply(connection, decisions, moment))
        if claimed < batch_size:
            break
    if changed:
        log.info("soft bounces evaluated", suppressions_changed=changed)
        ctx.notifier.notify(DELIVER)
    return changed


def expire_due(ctx: WorkerContext, now: datetime | None = None, *, batch_size: int = 1000) -> int:
    """Log the end of expired entries; return how many. Workers may run this concurrently."""
    expired = 0
    while True:
        with ctx.engine.begin() as connection:
            part = store.expire(connection, now or datetime.now(UTC), batch_size)
        expired += part
        if part < batch_size:
            break
    if expired:
        log.info("suppressions expired", suppressions=expired)
        ctx.notifier.notify(DELIVER)
    return expired


def maintain(ctx: WorkerContext, now: datetime | None = None) -> None:
    """Delete old soft bounces, and schedule the hourly part of the suppressed recipients for evaluation."""
    moment = now or datetime.now(UTC)
    with ctx.engine.begin() as connection:
        window = timedelta(days=ctx.rules.rules(connection).suppression.soft_bounce.within_days)
        deleted = soft_bounce_store.delete_old(connection, moment - window - _KEPT_BEYOND_WINDOW)
        scheduled = soft_bounce_store.schedule_hourly_part(connection, moment)
    log.info("soft bounces maintained", bounces_deleted=deleted, recipients_scheduled=scheduled)
