"""Figures: how much there is of what, for metrics and overviews. Bounded, however much has been kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from shared import ids
from shared.deliveries import store as deliveries

_MOST_EVENTS = 200_000
_MOST_CHANGES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Where receipts wait; the age is how long the longest-waiting one has been due, in seconds."""

    pending: int
    oldest_pending_age_seconds: float
    parked: Mapping[str, int]
    sources: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What is yet to be delivered. `overdue_seconds` is how long something has been due that could have been sent.

    `not_followed` are the changes of which no deliveries were made yet, counted up to 100 thousand.
    """

    pending: int
    overdue_seconds: float
    not_followed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """Events by type since a moment. Not `complete` where there were too many to count: then the newest of them,
    since a later moment.
    """

    since: datetime
    complete: bool
    by_type: Mapping[str, int]


def queue(connection: Connection) -> Queue:
    """What waits at this moment."""
    pending, age, sources = connection.exec_driver_sql(
        "SELECT count(*), coalesce(extract(epoch FROM now() - min(available_at)), 0)::float8,"
        " (SELECT count(*) FROM sources WHERE deleted_at IS NULL) FROM pending_receipts"
    ).one()
    rows = connection.exec_driver_sql("SELECT state, count(*) FROM parked_receipts GROUP BY state")
    parked = dict.fromkeys(("unverified", "rejected", "dead"), 0) | {row[0]: row[1] for row in rows}
    return Queue(pending=pending, oldest_pending_age_seconds=max(age, 0.0), parked=parked, sources=sources)


def outgoing(connection: Connection) -> Outgoing:
    """What is yet to be delivered at this moment."""
    pending, not_followed = connection.exec_driver_sql(
        "SELECT (SELECT count(*) FROM pending_deliveries), (SELECT count(*) FROM (SELECT FROM state_changes"
        " WHERE (transaction, id) > (SELECT transaction, id FROM fan_out) LIMIT %(most)s) AS next)",
        {"most": _MOST_CHANGES},
    ).one()
    due = deliveries.next_due_seconds(connection)
    return Outgoing(pending=pending, overdue_seconds=max(0.0, -(due or 0.0)), not_followed=not_followed)


def recent_events(connection: Connection, now: datetime, past: timedelta) -> Recent:
    """The events received in the past so much time, at most the newest 200 thousand."""
    since = now - past
    rows = connection.exec_driver_sql(
        "SELECT type, count(*), min(received_at) FROM (SELECT type, received_at FROM events WHERE id >= %(first)s"
        " ORDER BY id DESC LIMIT %(most)s) AS newest GROUP BY type ORDER BY type",
        {"first": ids.first_at(since), "most": _MOST_EVENTS},
    ).all()
    complete = sum(row[1] for row in rows) < _MOST_EVENTS
    return Recent(
        since=since if complete else min(row[2] for row in rows),
        complete=complete,
        by_type={row[0]: row[1] for row in rows},
    )
