"""The replay job: queues all matching deliveries again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from shared.deliveries import queries, store
from shared.deliveries.queries import DeliveryFilters
from shared.jobs.store import Job
from shared.vocabulary import DeliveryStatus
from workers.context import WorkerContext
from workers.jobs import count_then_run
from workers.jobs.count_then_run import TO_DELIVER, Position
from workers.jobs.progress import Progress

BATCH: Final = 1000


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Queue the matching deliveries in order, except those created or replayed after the job was requested."""
    subscription, since = job.parameters.get("subscription"), job.parameters.get("since")
    filters = DeliveryFilters(
        subscription=None if subscription is None else UUID(subscription),
        status=DeliveryStatus(job.parameters["status"]),
        type=job.parameters.get("type"),
        status_code=job.parameters.get("status_code"),
        tenant=job.parameters.get("tenant"),
        since=None if since is None else datetime.fromisoformat(since),
        until=datetime.fromisoformat(job.parameters["until"]),
    )

    def process_chunk(
        connection: Connection, after: Position | None, sending: bool
    ) -> tuple[Mapping[str, int], Position | None]:
        position = None if after is None else tuple(after)
        page = queries.get_replayable(connection, filters, after=position, limit=BATCH)
        if sending:
            store.replay(connection, [found[-1] for found in page.items], datetime.now(UTC))
        return {TO_DELIVER: len(page.items)}, page.next and [str(key) for key in page.next]

    report = count_then_run.run(ctx, job, progress, process_chunk, dry_run=job.parameters["dry_run"])
    with ctx.engine.begin() as connection:
        waits = queries.explain_wait(connection, subscription=filters.subscription, tenant=filters.tenant)
    return {**report, **waits}
