"""Giving up what waits for a subscription that was removed, or has waited for longer than anything is kept."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from shared.db import deliveries, fan_out
from shared.jobs.store import Job
from workers.context import WorkerContext
from workers.jobs.progress import Progress

_DELIVERIES_AT_ONCE = 5000
_REASON = "the subscription was removed"
_TOO_LATE = "it waited for longer than anything is kept: TIDINGS_RETENTION_DAYS says for how long that is"

log = structlog.get_logger()


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Give up all of them; none can come any more once whoever follows the log knows that the subscription is gone."""
    subscription_id, done = UUID(job.parameters["subscription"]), job.done
    with ctx.engine.begin() as connection:
        fan_out.wait(connection)
    while True:
        with ctx.engine.begin() as connection:
            given_up = deliveries.abandon(connection, subscription_id, _REASON, limit=_DELIVERIES_AT_ONCE)
            done += given_up
            progress.note(connection, done)
        if given_up < _DELIVERIES_AT_ONCE:
            return {"given_up": done}
        progress.give_way()


def give_up_old(ctx: WorkerContext, oldest: datetime) -> int:
    """End what was to be delivered since before this time, as for a subscription that is paused; return how many."""
    ended = 0
    while True:
        with ctx.engine.begin() as connection:
            part = deliveries.give_up(connection, oldest, _TOO_LATE, limit=_DELIVERIES_AT_ONCE)
        ended += part
        if part < _DELIVERIES_AT_ONCE:
            break
    if ended:
        log.warning("deliveries were given up: they waited for longer than anything is kept", deliveries=ended)
    return ended
