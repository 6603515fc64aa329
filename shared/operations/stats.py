"""Statistics for metrics and overviews. Each query is bounded, however much is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, text

from shared import ids
from shared.deliveries import store as deliveries
from shared.messages.tables import events
from shared.receipts.tables import parked_receipts, pending_receipts
from shared.sources.tables import sources

MAX_EVENTS = 200_000
_MAX_CHANGES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptBacklog:
    """Receipts that are not processed; the age is the time since the oldest pending one became due."""

    pending: int
    oldest_pending_age_seconds: float
    parked: Mapping[str, int]
    sources: int


def get_receipt_backlog(connection: Connection) -> ReceiptBacklog:
    """Return the receipts that wait now, and the number of sources."""
    age = func.extract("epoch", func.now() - func.min(pending_receipts.c.available_at))
    pending, oldest, count = connection.execute(
        select(
            func.count(),
            func.coalesce(age, 0),
            select(func.count()).select_from(sources).where(sources.c.deleted_at.is_(None)).scalar_subquery(),
        ).select_from(pending_receipts)
    ).one()
    states = select(parked_receipts.c.state, func.count()).group_by(parked_receipts.c.state)
    parked = dict.fromkeys(("unverified", "rejected", "dead"), 0)
    parked |= {row[0]: row[1] for row in connection.execute(states)}
    return ReceiptBacklog(
        pending=pending, oldest_pending_age_seconds=max(float(oldest), 0.0), parked=parked, sources=count
    )


def get_delivery_backlog(connection: Connection) -> tuple[int, float, int]:
    """Return the unfinished deliveries, the seconds since the oldest sendable one became due, and new changes.

    New changes are those without deliveries yet, counted up to 100,000.
    """
    # Text: the comparison of (transaction, id) with the position of the fan-out is a row comparison with a sub-select.
    pending, not_followed = connection.execute(
        text(
            "SELECT (SELECT count(*) FROM pending_deliveries), (SELECT count(*) FROM (SELECT FROM state_changes"
            " WHERE (transaction, id) > (SELECT transaction, id FROM fan_out) LIMIT :max) AS next)"
        ),
        {"max": _MAX_CHANGES},
    ).one()
    due = deliveries.next_due_seconds(connection)
    return pending, max(0.0, -(due or 0.0)), not_followed


def count_recent_events(connection: Connection, now: datetime, period: timedelta) -> dict[str, Any]:
    """Return `{since, complete, by_type}`: the events received in this period.

    At most the newest 200,000 events are counted. If there are more, `complete` is false and `since` is later.
    """
    since = now - period
    newest = (
        select(events.c.type, events.c.received_at)
        .where(events.c.id >= ids.first_at(since))
        .order_by(events.c.id.desc())
        .limit(MAX_EVENTS)
        .subquery()
    )
    rows = connection.execute(
        select(newest.c.type, func.count().label("number"), func.min(newest.c.received_at).label("first"))
        .group_by(newest.c.type)
        .order_by(newest.c.type)
    ).all()
    complete = sum(row.number for row in rows) < MAX_EVENTS
    return {
        "since": since if complete else min(row.first for row in rows),
        "complete": complete,
        "by_type": {row.type: row.number for row in rows},
    }
