"""Giving up what waits for a subscription that was removed."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from shared.db import deliveries, fan_out
from shared.db.jobs import Job
from workers.progress import Progress
from workers.rim import Rim

_DELIVERIES_AT_ONCE = 5000
_REASON = "the subscription was removed"


def run(rim: Rim, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Give up all of them; none can come any more once whoever follows the log knows that the subscription is gone."""
    subscription_id, done = UUID(job.parameters["subscription"]), job.done
    with rim.engine.begin() as connection:
        fan_out.wait(connection)
    while True:
        with rim.engine.begin() as connection:
            given_up = deliveries.abandon(connection, subscription_id, _REASON, limit=_DELIVERIES_AT_ONCE)
            done += given_up
            progress.note(connection, done)
        if given_up < _DELIVERIES_AT_ONCE:
            return {"given_up": done}
        progress.give_way()
