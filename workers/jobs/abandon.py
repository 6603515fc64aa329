"""Marks pending deliveries as dead: those of removed subscriptions, and those older than the retention time."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from shared.deliveries import fan_out_cursor, store
from shared.jobs.store import Job
from workers.context import WorkerContext
from workers.jobs.progress import Progress

BATCH: Final = 5000
_REMOVED: Final = "the subscription was removed"
_TOO_LATE: Final = "it was pending for longer than TIDINGS_RETENTION_DAYS"

log = structlog.get_logger()


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Mark all pending deliveries of a removed subscription as dead."""
    subscription_id, done = UUID(job.parameters["subscription"]), job.done
    with ctx.engine.begin() as connection:
        fan_out_cursor.wait_for_cursor(connection)  # after this, fan-out knows that the subscription was removed
    while True:
        with ctx.engine.begin() as connection:
            abandoned = store.abandon(connection, subscription_id, _REMOVED, limit=BATCH)
            done += abandoned
            progress.record(connection, done)
        if abandoned < BATCH:
            return {"given_up": done}
        progress.end_turn_if_over()


def expire_old(ctx: WorkerContext, oldest: datetime) -> int:
    """Mark pending deliveries from before `oldest` as dead, such as those of paused subscriptions; return how many."""
    total = 0
    expired = BATCH
    while expired == BATCH:
        with ctx.engine.begin() as connection:
            expired = store.expire(connection, oldest, _TOO_LATE, limit=BATCH)
        total += expired
    if total:
        log.warning("deliveries are dead: they were pending for longer than TIDINGS_RETENTION_DAYS", deliveries=total)
    return total
