"""The reprocess job: queues all matching receipts to be processed again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from shared.broker import REPROCESS
from shared.jobs.store import Job
from shared.postgres.pagination import Span
from shared.receipts import queries, store
from shared.receipts.jobs import ALL
from shared.vocabulary import ReceiptState
from workers.context import WorkerContext
from workers.jobs import count_then_run
from workers.jobs.count_then_run import Position
from workers.jobs.progress import Progress

BATCH: Final = 1000
_TO_REPROCESS: Final = "to_reprocess"


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Queue the matching receipts, the newest first, except those that arrived after the job was requested."""
    since, state = job.parameters.get("since"), job.parameters["state"]
    span = Span(
        since=None if since is None else datetime.fromisoformat(since),
        until=datetime.fromisoformat(job.parameters["until"]),
    )

    def process_chunk(
        connection: Connection, after: Position | None, is_run: bool
    ) -> tuple[Mapping[str, int], Position | None]:
        page = queries.list_reprocessable(
            connection,
            source=job.parameters.get("source"),
            state=None if state == ALL else ReceiptState(state),
            set_aside=job.parameters["set_aside"],
            span=span,
            after=None if after is None else (UUID(after[0]),),
            limit=BATCH,
        )
        erased = queries.get_erasure_times(connection, page.items)
        if is_run:
            store.queue_reprocessing(connection, page.items)
        counts = {_TO_REPROCESS: len(page.items) - len(erased), "erased": len(erased)}
        return counts, page.next and [str(page.next[0])]

    return count_then_run.run(
        ctx, job, progress, process_chunk, dry_run=job.parameters["dry_run"], counted=_TO_REPROCESS, wakes=REPROCESS
    )
