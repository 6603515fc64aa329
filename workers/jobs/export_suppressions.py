"""Exports the suppression list to a CSV file that can be imported again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.jobs import files as job_files
from shared.jobs.store import Job
from shared.suppression import csv_files, queries, recipient_hashes
from shared.suppression.csv_files import CsvWriter
from shared.suppression.queries import SuppressionFilters
from workers.context import WorkerContext
from workers.jobs.progress import Progress

ENTRIES_PER_BATCH = 5000


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Write all matching entries."""
    filters, now = SuppressionFilters(**job.parameters), datetime.now(UTC)
    done, part, after = job.done, job.position.get("part", 0), job.position.get("after")
    while part == 0 or after is not None:
        writer = CsvWriter(csv_files.COLUMNS)
        if part == 0:
            writer.write_header()
        with ctx.engine.begin() as connection:
            page = queries.list_by_key(connection, now, filters, after=after, limit=ENTRIES_PER_BATCH)
            for entry in page.items:
                # The pseudonym of an erased address: importing it finds the same entry.
                erased = entry.address is None and entry.domain is None
                address = recipient_hashes.pseudonym(entry.key) if erased else entry.address
                writer.write_row({**entry._asdict(), "address": address})
            job_files.write(connection, job.id, job_files.OUTPUT, part, writer.take())
            done, part, after = done + len(page.items), part + 1, page.next and [str(key) for key in page.next]
            progress.record(connection, done, None if after else done, {"part": part, "after": after})
        progress.end_turn_if_over()
    return {"entries": done}
