"""Exporting the suppression list: a file that can be imported again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.jobs import files as job_files
from shared.jobs.store import Job
from shared.suppression import csv_files, recipient_hashes
from shared.suppression import queries as suppression_pages
from shared.suppression.csv_files import Sheet
from shared.suppression.queries import Wanted
from shared.suppression.store import Entry
from workers.context import WorkerContext
from workers.jobs.progress import Progress

_ENTRIES_AT_ONCE = 5000


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Write all entries that fit."""
    wanted, now = Wanted(**job.parameters), datetime.now(UTC)
    done, part, after = job.done, job.position.get("part", 0), job.position.get("after")
    while part == 0 or after is not None:
        sheet = Sheet(csv_files.COLUMNS)
        if part == 0:
            sheet.header()
        with ctx.engine.begin() as connection:
            page = suppression_pages.in_order(connection, now, wanted, after=after, limit=_ENTRIES_AT_ONCE)
            for entry in page.items:
                sheet.line(_values(entry))
            job_files.write(connection, job.id, job_files.OUTPUT, part, sheet.take())
            done, part, after = done + len(page.items), part + 1, page.next and [str(key) for key in page.next]
            progress.note(connection, done, None if after else done, {"part": part, "after": after})
        progress.give_way()
    return {"entries": done}


def _values(entry: Entry) -> Mapping[str, Any]:
    """By column. What was erased is named by its pseudonym, so that importing it finds the same entry."""
    erased = entry.address is None and entry.domain is None
    return {**entry._asdict(), "address": recipient_hashes.pseudonym(entry.key) if erased else entry.address}
