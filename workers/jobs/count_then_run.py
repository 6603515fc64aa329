"""Jobs with two passes: the first counts the work, the second does it, both in chunks along a fixed order."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from shared.broker import DELIVER
from shared.jobs.store import Job
from workers.context import WorkerContext
from workers.jobs.progress import Progress

TO_DELIVER: Final = "to_deliver"
"""The key of the report of jobs on deliveries that counts their progress."""

Position = Sequence[str]


ProcessChunk = Callable[[Connection, Position | None, bool], tuple[Mapping[str, int], Position | None]]
"""Counts the chunk after a position; if the last argument is True, also does its work.

Returns the counts by report key, and the position at the end of the chunk; None if it is the last one.
"""


def run(
    ctx: WorkerContext,
    job: Job,
    progress: Progress,
    process_chunk: ProcessChunk,
    *,
    dry_run: bool,
    counted: str = TO_DELIVER,
    wakes: str = DELIVER,
) -> Mapping[str, Any]:
    """Count, then do the work unless it is a dry run. A chunk and its progress commit together, so none is repeated.

    `counted` is the key of the report that counts the progress, `wakes` the task that a finished chunk gives work to.
    """
    # The job continues in one of the passes (counting or sending), after a position in it.
    position: Mapping[str, Any] = {"sending": False, "after": None, "over": False, **job.position}
    found, total = Counter({counted: 0, **job.report}), job.total
    while not position["over"]:
        with ctx.engine.begin() as connection:
            counts, following = process_chunk(connection, position["after"], position["sending"])
            found.update(counts)
            is_counted = following is None and not position["sending"]
            if is_counted:
                total = found[counted]
            if following is not None:
                position = {**position, "after": following}
            else:
                position = {"sending": not dry_run, "after": None, "over": position["sending"] or dry_run}
            if is_counted and not position["over"]:
                found = Counter(dict.fromkeys(found, 0))
            done = found[counted] if position["sending"] else 0
            progress.record(connection, done, total, position, dict(found))
        if position["sending"]:
            ctx.notifier.notify(wakes)
        progress.end_turn_if_over()
    return dict(found)
