"""Brings stored addresses into the form of this version; the migration that changed the form creates the job."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.jobs.store import Job
from shared.operations import address_forms
from workers.context import WorkerContext
from workers.jobs.progress import Progress

KIND: Final = "rewrite_addresses"


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Rewrite all tables, part by part. A part and its progress commit together, so none is repeated.

    The report says for each table how many rows have changed.
    """
    tables = address_forms.COLUMNS
    done: int = job.position.get("done", 0)
    after: Sequence[str] | None = job.position.get("after")
    report = dict.fromkeys((column.table for column in tables), 0) | dict(job.report)
    while done < len(tables):
        column = tables[done]
        with ctx.engine.begin() as connection:
            changed, after = address_forms.rewrite_part(connection, ctx.hasher, column, after)
            report[column.table] += changed
            done += after is None
            progress.record(connection, done, len(tables), {"done": done, "after": after}, report)
        progress.end_turn_if_over()
    return report
