"""Statistics for metrics and overviews. Each query is bounded, however much is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Integer, Row, Text, column, func, null, select, table, text

from shared.alerts.tables import alerts
from shared.broker import DELIVERIES_QUEUE, QUEUES
from shared.changes.tables import state_changes
from shared.counters import metric_store
from shared.counters.metric_store import Metric
from shared.counters.store import SET_ASIDE
from shared.counters.tables import minute_counts
from shared.deliveries import store as deliveries
from shared.jobs.tables import jobs, periodic_tasks
from shared.postgres.metadata import Timestamp, Xid8
from shared.receipts.tables import parked_receipts, pending_receipts
from shared.sources.tables import sources
from shared.subscriptions.tables import endpoint_health, subscriptions
from shared.vocabulary import JobState, Severity

_MAX_CHANGES = 100_000
ROLES: Final = ("receiver", "worker", "deliverer", "beat", "api")
_TASKS_OF_BEAT: Final = ("tidings.sweep", "tidings.judge_alerts")
"""Periodic tasks that nothing but beat wakes workers for."""
_SESSIONS: Final = table(
    "pg_stat_activity",
    column("pid", Integer),
    column("application_name", Text),
    column("xact_start", Timestamp),
    column("backend_xid"),
)
_PREPARED: Final = table("pg_prepared_xacts", column("gid", Text), column("prepared", Timestamp))


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


def count_set_aside(connection: Connection) -> Sequence[Row[str, str, int]]:
    """Return source, reason and number of the events that were set aside since the source exists."""
    counts = minute_counts.c
    statement = select(sources.c.slug, counts.value, func.sum(counts.count)).join_from(
        minute_counts, sources, sources.c.id == counts.source_id
    )
    return connection.execute(
        statement.where(counts.dimension == SET_ASIDE).group_by(sources.c.slug, counts.value)
    ).all()


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


def find_role_activity(connection: Connection) -> Mapping[str, datetime | None]:
    """Return when each kind of process worked last; None if it never did.

    Receivers and the API report it every ten seconds. Workers and deliverers run periodic tasks, and beat starts them.
    """
    _, reported = metric_store.read_last_times(connection, Metric.ACTIVITY)
    tasks = periodic_tasks.c
    delivers = tasks.task.in_([task for task, queue in QUEUES.items() if queue == DELIVERIES_QUEUE])
    worked, delivered, woken = connection.execute(
        select(
            func.max(tasks.ran_at).filter(~delivers),
            func.max(tasks.ran_at).filter(delivers),
            func.max(tasks.wake_up_at).filter(tasks.task.in_(_TASKS_OF_BEAT)),
        )
    ).one()
    found = {"worker": worked, "deliverer": delivered, "beat": woken, **reported}
    return {role: found.get(role) for role in ROLES}


def find_last_events(connection: Connection) -> Mapping[str, datetime]:
    """Return when the last event of each source was stored, by slug; sources without one are left out."""
    by_source, _ = metric_store.read_last_times(connection, Metric.EVENTS)
    rows = connection.execute(select(sources.c.id, sources.c.slug).where(sources.c.deleted_at.is_(None)))
    return {slug: by_source[id_] for id_, slug in rows if id_ in by_source}


def count_events(connection: Connection) -> Mapping[tuple[str, str], float]:
    """Return the number of events of each source, by slug and type, since counting began."""
    slugs = {id_: slug for id_, slug in connection.execute(select(sources.c.id, sources.c.slug))}  # noqa: C416 - typed
    counts = metric_store.read_counts(connection, Metric.EVENTS)
    return {(slugs[id_], type_): number for (id_, type_), number in counts.items() if id_ in slugs}


def count_firing_alerts(connection: Connection) -> Mapping[str, int]:
    """Return the number of firing alerts by severity."""
    firing = select(alerts.c.severity, func.count()).where(alerts.c.state == "firing").group_by(alerts.c.severity)
    return dict.fromkeys(map(str, Severity), 0) | {row[0]: row[1] for row in connection.execute(firing)}


def count_jobs(connection: Connection) -> Mapping[str, int]:
    """Return the number of stored jobs by state."""
    states = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    return dict.fromkeys(map(str, JobState), 0) | {row[0]: row[1] for row in connection.execute(states)}


def count_open_circuit_breakers(connection: Connection) -> int:
    """Return the number of subscriptions whose endpoint is not called for a while, because it failed."""
    is_open = endpoint_health.c.open_until > func.now()
    found = select(func.count()).join_from(
        endpoint_health, subscriptions, subscriptions.c.id == endpoint_health.c.subscription_id
    )
    return int(connection.execute(found.where(is_open, subscriptions.c.deleted_at.is_(None))).scalar_one())


def get_feed_lag_seconds(connection: Connection) -> float:
    """Return the age of the oldest change that the feed does not show yet, because an older transaction is open."""
    changes = state_changes.c
    waiting = select(changes.changed_at).where(changes.transaction >= func.log_horizon(type_=Xid8()))
    oldest = waiting.order_by(changes.transaction, changes.id).limit(1).subquery()
    age = select(func.extract("epoch", func.clock_timestamp() - oldest.c.changed_at))
    return max(0.0, float(connection.execute(age).scalar() or 0.0))


def find_oldest_transaction(connection: Connection) -> Row[Any, Any, Any]:
    """Return `seconds`, `pid` and `application` of the server's oldest transaction that has written or prepared to.

    The change feed shows nothing newer. `seconds` is 0 and `pid` None if there is none. A prepared transaction has no
    process; its `application` is its name.
    """
    known = (
        select(
            _SESSIONS.c.xact_start.label("since"), _SESSIONS.c.pid, _SESSIONS.c.application_name.label("application")
        )
        .where(_SESSIONS.c.backend_xid.is_not(None), _SESSIONS.c.pid != func.pg_backend_pid())
        .union_all(select(_PREPARED.c.prepared, null(), _PREPARED.c.gid), select(func.now(), null(), null()))
        .subquery()
    )
    seconds = func.greatest(0, func.extract("epoch", func.clock_timestamp() - known.c.since)).label("seconds")
    oldest = select(seconds, known.c.pid, known.c.application).order_by(known.c.since, known.c.pid).limit(1)
    return connection.execute(oldest).one()
