"""Periodic work on the suppression list.

Evaluate the soft-bounce rule, withdraw mass failures, log expired entries, and create jobs that pull providers' lists.
"""

import time
from datetime import UTC, datetime, timedelta

import structlog

from shared.broker import CALL_PROVIDERS, DELIVER
from shared.jobs import store as jobs
from shared.sources import provider_api
from shared.sources import store as sources
from shared.sources.source import Source
from shared.suppression import mass_failures, provider_sync, soft_bounce_store, soft_bounces, store
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


def withdraw_mass_failures(ctx: WorkerContext, now: datetime | None = None) -> int:
    """Withdraw what mass failures have suppressed; return how many entries."""
    with ctx.engine.begin() as connection:
        withdrawn = len(mass_failures.withdraw(connection, now or datetime.now(UTC)))
    if withdrawn:
        log.warning("suppressions by mass failures withdrawn", suppressions=withdrawn)
        ctx.notifier.notify(DELIVER)
    return withdrawn


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


def schedule_pulls(ctx: WorkerContext, now: datetime | None = None) -> int:
    """Create a job for each source whose provider's list is due to be pulled; return how many."""
    now, created = now or datetime.now(UTC), 0
    with ctx.engine.begin() as connection:
        rows = [row for row in sources.list_sources(connection) if row.provider in provider_api.APIS]
        changed_at = {row.slug: row.updated_at for row in rows}
        opened = ctx.source_cache.of(connection, {row.id: row.version for row in rows})
    for source in opened.values():
        if not isinstance(source, Source) or source.settings.pull_suppressions == "never":
            continue
        if source.credentials.api_key is None:
            continue
        with ctx.engine.begin() as connection:
            # The lock: two workers must not create the same job.
            if not sources.lock(connection, source.slug):
                continue
            last, _ = provider_sync.last_pulls(connection, source.slug)
            failures, _ = provider_sync.count_failures(connection, source.slug).get(source.slug, (0, ""))
            due_at = provider_sync.next_pull(last, failures, changed_at[source.slug])
            if due_at is not None and due_at <= now:
                asked = {"source": source.slug, "dry_run": False}
                jobs.create(
                    connection, kind=provider_sync.PULL, parameters=asked, asked_by=provider_sync.SCHEDULE, now=now
                )
                created += 1
    if created:
        ctx.notifier.notify(CALL_PROVIDERS)
    return created


def maintain(ctx: WorkerContext, now: datetime | None = None) -> None:
    """Delete old soft bounces, and schedule the hourly part of the suppressed recipients for evaluation."""
    moment = now or datetime.now(UTC)
    with ctx.engine.begin() as connection:
        window = timedelta(days=ctx.rules.rules(connection).suppression.soft_bounce.within_days)
        deleted = soft_bounce_store.delete_old(connection, moment - window - _KEPT_BEYOND_WINDOW)
        scheduled = soft_bounce_store.schedule_hourly_part(connection, moment)
    log.info("soft bounces maintained", bounces_deleted=deleted, recipients_scheduled=scheduled)
