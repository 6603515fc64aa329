"""Replaying many: every delivery that fits is made again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.db import deliveries, delivery_lists
from shared.db.delivery_lists import Wanted
from shared.domain.deliveries import DeliveryStatus
from shared.jobs.store import Job
from shared.postgres.pagination import Span
from workers.context import WorkerContext
from workers.jobs import count_then_run
from workers.jobs.count_then_run import TO_DELIVER, Piece, Position
from workers.jobs.progress import Progress

_DELIVERIES_AT_ONCE = 1000


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Go through them in their order. What was made anew since the job was asked for is none of its."""
    wanted = _wanted(job.parameters)

    def take(connection: Connection, after: Position | None, sending: bool) -> Piece:
        position = None if after is None else tuple(after)
        page = delivery_lists.in_order(connection, wanted, after=position, limit=_DELIVERIES_AT_ONCE)
        if sending:
            deliveries.replay(connection, [found[-1] for found in page.items], datetime.now(UTC))
        return Piece(found={TO_DELIVER: len(page.items)}, next=page.next and [str(key) for key in page.next])

    return count_then_run.run(ctx, job, progress, take, dry_run=job.parameters["dry_run"])


def _wanted(parameters: Mapping[str, Any]) -> Wanted:
    subscription, since = parameters.get("subscription"), parameters.get("since")
    return Wanted(
        subscription=None if subscription is None else UUID(subscription),
        status=DeliveryStatus(parameters["status"]),
        type=parameters.get("type"),
        tenant=parameters.get("tenant"),
        span=Span(
            since=None if since is None else datetime.fromisoformat(since),
            until=datetime.fromisoformat(parameters["until"]),
        ),
    )
