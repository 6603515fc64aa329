"""Giving up pending deliveries: of a subscription that was removed, or that wait for longer than anything is stored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from shared.deliveries import fan_out, store
from shared.jobs.store import Job
from workers.context import WorkerContext
from workers.jobs.progress import Progress

BATCH: Final = 5000
_REMOVED: Final = "the subscription was removed"
_TOO_LATE: Final = "it was pending for longer than anything is stored (TIDINGS_RETENTION_DAYS)"

log = structlog.get_logger()


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Give up all deliveries of a subscription that was removed."""
    subscription_id, done = UUID(job.parameters["subscription"]), job.done
    with ctx.engine.begin() as connection:
        fan_out.wait_for_cursor(connection)  # from now on fan-out knows that the subscription is gone
    while True:
        with ctx.engine.begin() as connection:
            abandoned = store.abandon(connection, subscription_id, _REMOVED, limit=BATCH)
            done += abandoned
            progress.note(connection, done)
        if abandoned < BATCH:
            return {"given_up": done}
        progress.give_way()


def give_up_old(ctx: WorkerContext, oldest: datetime) -> int:
    """Give up what is pending since before this time, as of a paused subscription; return how many deliveries."""
    total = 0
    expired = BATCH
    while expired == BATCH:
        with ctx.engine.begin() as connection:
            expired = store.expire(connection, oldest, _TOO_LATE, limit=BATCH)
        total += expired
    if total:
        log.warning("deliveries given up: they were pending for longer than anything is stored", deliveries=total)
    return total
