"""The status of an installation: each process and stage, what needs a person, and what to do about it.

Everything is read from the database, so it is the same from every machine. Each query is bounded.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, literal_column, select
from sqlalchemy.dialects.postgresql import distinct_on

from shared.alerts import kinds
from shared.alerts.tables import alerts
from shared.counters.store import SET_ASIDE
from shared.counters.tables import minute_counts
from shared.deliveries import fan_out_cursor
from shared.deliveries.tables import deliveries
from shared.encryption import Vault
from shared.jobs import periodic
from shared.jobs.tables import jobs
from shared.operations import stats
from shared.postgres import migrate, partitions
from shared.receipts.tables import parked_receipts, refusals
from shared.sources import queues
from shared.sources import service as source_service
from shared.sources import store as sources
from shared.suppression import provider_sync
from shared.vocabulary import DeliveryStatus, JobState, ReceiptState, Severity

ABSENT_SECONDS: Final = 60.0
"""A role that has not worked for this long is absent: each works several times in it."""
WAITING_SECONDS: Final = 60.0
"""Receipts, changes and deliveries that wait for longer need a person."""
STAGES: Final = (
    "receipts_pending", "receipts_unverified", "receipts_dead", "changes_to_fan_out", "deliveries_pending",
    "deliveries_quarantined", "deliveries_dead", "jobs_open", "jobs_failed",
)  # fmt: skip
"""In the order of an event's path."""
_RECENT: Final = timedelta(days=1)
_WEEKS_AHEAD: Final = 4
_MAX_REFUSALS: Final = 5000
_MAX_ALERTS: Final = 100


class Problem(NamedTuple):
    """Something that needs a person: what it is about, what was found, and how to fix it."""

    about: str
    found: str
    mend: str


def read(connection: Connection, vault: Vault) -> dict[str, Any]:
    """Return the status; `problems` has what needs a person, worst first, and `state` is `ok` if there is nothing.

    The time is that of the database. Ages are in seconds.
    """
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    firing = list_firing(connection)
    roles = read_roles(connection, now)
    broker_problem = periodic.find_problem(connection)
    stages = read_stages(connection, now)
    database = read_database(connection, now)
    listed = read_sources(connection, vault, now)
    problems = [
        *(describe_alert(row) for row in firing if row["severity"] == Severity.CRITICAL),
        *find_absent_roles(roles),
        *([Problem("broker", broker_problem, "tidings doctor")] if broker_problem else []),
        *find_database_problems(database),
        *find_stage_problems(stages),
        *(
            Problem(f"source {one['source']}", one["problem"], f"tidings sources check {one['source']}")
            for one in listed
            if one["problem"]
        ),
        *(
            Problem(
                f"source {slug}",
                f"its suppression list could not be pulled {count} times in a row: {error}",
                f"tidings sources check {slug}",
            )
            for slug, count, error in provider_sync.list_failing(connection)
        ),
        *(describe_alert(row) for row in firing if row["severity"] != Severity.CRITICAL),
    ]
    return {
        "state": "attention" if problems else "ok",
        "at": now,
        "problems": [problem._asdict() for problem in problems],
        "roles": roles,
        "stages": stages,
        "alerts": firing,
        "broker": {"up": broker_problem is None, "problem": broker_problem},
        "database": database,
        "sources": listed,
    }


def read_roles(connection: Connection, now: datetime) -> Sequence[dict[str, Any]]:
    """Return each kind of process, when it worked last, and whether it is absent."""
    return [
        {
            "role": role,
            "last_activity_at": at,
            "absent": at is None or (now - at).total_seconds() > ABSENT_SECONDS,
        }
        for role, at in stats.find_role_activity(connection).items()
    ]


def find_absent_roles(roles: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield the roles of `read_roles` that are absent. What beat does is seen only while a worker runs its tasks."""
    absent = {one["role"] for one in roles if one["absent"]}
    for one in roles:
        if one["absent"] and not (one["role"] == "beat" and "worker" in absent):
            last = one["last_activity_at"]
            found = "has never worked" if last is None else f"has not worked since {last:%Y-%m-%d %H:%M:%S} UTC"
            yield Problem(f"role {one['role']}", found, f"tidings run {one['role']}")


def read_stages(connection: Connection, now: datetime) -> Sequence[dict[str, Any]]:
    """Return what waits or has ended at each stage: how many, the age of the oldest, and how many are of the last day.

    `recent` counts what became dead or failed in the last day. It is None for what only waits.
    """
    receipts = stats.get_receipt_backlog(connection)
    unfinished, overdue_seconds, new_changes = stats.get_delivery_backlog(connection)
    parked = parked_receipts.c
    oldest_parked: dict[str, tuple[datetime, int]] = {
        row.state: (row.oldest, row.recent)
        for row in connection.execute(
            select(
                parked.state,
                func.min(parked.parked_at).label("oldest"),
                func.count().filter(parked.parked_at >= now - _RECENT).label("recent"),
            ).group_by(parked.state)
        )
    }
    position = fan_out_cursor.get_cursor(connection)
    dead = count_deliveries(connection, DeliveryStatus.DEAD, deliveries.c.dead_at, now)
    held = count_deliveries(connection, DeliveryStatus.QUARANTINED, deliveries.c.created_at, now)
    # A pull of the schedule is repeated by itself. One that keeps failing is a problem of its source.
    has_failed = (jobs.c.state == JobState.FAILED) & (jobs.c.asked_by != provider_sync.SCHEDULE)
    open_jobs, oldest_job, failed_jobs, oldest_failure, recent_failures = connection.execute(
        select(
            func.count().filter(jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])),
            func.min(jobs.c.created_at).filter(jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])),
            func.count().filter(has_failed),
            func.min(jobs.c.finished_at).filter(has_failed),
            func.count().filter(has_failed, jobs.c.finished_at >= now - _RECENT),
        )
    ).one()

    unverified, _ = oldest_parked.get(ReceiptState.UNVERIFIED, (None, 0))
    died, died_recently = oldest_parked.get(ReceiptState.DEAD, (None, 0))
    waiting = now - timedelta(seconds=receipts.oldest_pending_age_seconds) if receipts.pending else None
    due = now - timedelta(seconds=overdue_seconds) if unfinished else None
    found: Mapping[str, tuple[int, datetime | None, int | None]] = {
        "receipts_pending": (receipts.pending, waiting, None),
        "receipts_unverified": (receipts.parked[ReceiptState.UNVERIFIED], unverified, None),
        "receipts_dead": (receipts.parked[ReceiptState.DEAD], died, died_recently),
        "changes_to_fan_out": (new_changes, fan_out_cursor.next_changed_at(connection, position), None),
        "deliveries_pending": (unfinished, due, None),
        "deliveries_quarantined": (held.number, held.oldest, None),
        "deliveries_dead": (dead.number, dead.oldest, dead.recent),
        "jobs_open": (open_jobs, oldest_job, None),
        "jobs_failed": (failed_jobs, oldest_failure, recent_failures),
    }
    return [
        {
            "stage": name,
            "count": found[name][0],
            "oldest_age_seconds": None
            if (since := found[name][1]) is None
            else max(0.0, (now - since).total_seconds()),
            "recent": found[name][2],
        }
        for name in STAGES
    ]


def find_stage_problems(stages: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield the stages of `read_stages` at which something waits for too long, or has ended in the last day."""
    found = {one["stage"]: one for one in stages}
    for name, what, mend in (
        ("receipts_pending", "the oldest pending receipt is due", "start more workers: tidings run worker"),
        ("changes_to_fan_out", "the oldest change without deliveries is", "tidings doctor"),
        ("deliveries_pending", "the oldest delivery is due", "start more deliverers: tidings run deliverer"),
    ):
        age = found[name]["oldest_age_seconds"] or 0.0
        if age > WAITING_SECONDS:
            yield Problem(name.replace("_", " "), f"{what} for {age:,.0f} s", mend)
    for name, what, mend in (
        ("receipts_dead", "receipts became dead", "fix the cause, then: tidings reprocess --state dead"),
        (
            "deliveries_dead",
            "deliveries became dead",
            "fix the endpoint, then: tidings deliveries replay --status dead",
        ),
        ("jobs_failed", "jobs failed", "tidings jobs list --state failed"),
    ):
        if found[name]["recent"]:
            yield Problem(name.replace("_", " "), f"{found[name]['recent']} {what} in the last day", mend)


def list_firing(connection: Connection) -> Sequence[dict[str, Any]]:
    """Return the alerts that fire, critical ones first and then the oldest, at most a hundred."""
    columns = alerts.c["id", "rule", "kind", "severity", "summary", "started_at", "acknowledged_at"]
    statement = (
        select(*columns).where(alerts.c.state == literal_column("'firing'")).order_by(alerts.c.severity, alerts.c.id)
    )
    return [
        {**row._asdict(), "id": str(row.id), "next_step": kinds.next_step(row.kind)}
        for row in connection.execute(statement.limit(_MAX_ALERTS))
    ]


def read_sources(connection: Connection, vault: Vault, now: datetime) -> Sequence[dict[str, Any]]:
    """Return each source with its last event, its last refusal, and the events that were set aside in the last day.

    Refusals are of the newest 5,000 of all sources. `problem` is why the source cannot be used, or why its queue cannot
    be polled, or None.
    """
    states = queues.read(connection)
    last_events = stats.find_last_events(connection)
    columns = refusals.c["id", "source", "refused_at", "reason"]
    newest = select(*columns).order_by(refusals.c.id.desc()).limit(_MAX_REFUSALS).subquery()
    last_refusals = {
        row.source: row
        for row in connection.execute(
            select(newest.c.source, newest.c.refused_at, newest.c.reason)
            .ext(distinct_on(newest.c.source))
            .order_by(newest.c.source, newest.c.id.desc())
        )
    }
    counts = minute_counts.c
    in_last_day = select(counts.source_id, func.sum(counts.count)).where(
        counts.dimension == SET_ASIDE, counts.minute >= now - _RECENT
    )
    set_aside = {row[0]: row[1] for row in connection.execute(in_last_day.group_by(counts.source_id))}
    found = []
    for row in sources.list_sources(connection):
        refused = last_refusals.get(row.slug)
        found.append(
            {
                "source": row.slug,
                "provider": row.provider,
                "created_at": row.created_at,
                "last_event_at": last_events.get(row.slug),
                "last_refusal_at": refused and refused.refused_at,
                "last_refusal_reason": refused and refused.reason,
                "set_aside_last_day": int(set_aside.get(row.id, 0)),
                "problem": source_service.describe(row, vault)["problem"] or states.get(row.id, {}).get("error"),
            }
        )
    return found


def read_database(connection: Connection, now: datetime) -> dict[str, Any]:
    """Return the database's size in bytes, revision, partitions, and what its open transactions hold back.

    `partition_weeks_ahead` is the number of coming weeks that all partitioned tables have; negative if the current
    week is missing.
    """
    size, version = connection.execute(
        select(func.pg_database_size(func.current_database()), func.current_setting("server_version"))
    ).one()
    weeks = partitions.count_weeks_ahead(connection, now, _WEEKS_AHEAD)
    return {
        "version": version,
        "revision": migrate.revision(connection),
        "size_bytes": size,
        "partition_weeks_ahead": weeks,
        "oldest_transaction_age_seconds": float(stats.find_oldest_transaction(connection).seconds),
        "change_feed_lag_seconds": stats.get_feed_lag_seconds(connection),
    }


def find_database_problems(database: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what needs a person in the result of `read_database`."""
    if database["partition_weeks_ahead"] < 1:
        yield Problem("database", "the partitions of this or the next week are missing", "tidings migrate")
    if database["change_feed_lag_seconds"] > WAITING_SECONDS:
        lag = database["change_feed_lag_seconds"]
        yield Problem(
            "database", f"an open transaction has held back the change feed for {lag:,.0f} s", "tidings doctor"
        )


def describe_alert(alert: Mapping[str, Any]) -> Problem:
    """Return an alert of `list_firing` as a problem."""
    return Problem(f"{alert['severity']} alert {alert['rule']}", alert["summary"], f"tidings alerts show {alert['id']}")


def count_deliveries(connection: Connection, status: DeliveryStatus, since: Any, now: datetime) -> Any:
    """Return the `number` of deliveries with this status, the `oldest`, and those of the last day as `recent`.

    `since` is the column of their age. The status is a literal, by which PostgreSQL can choose the partial index.
    """
    recent = func.count().filter(since >= now - _RECENT)
    found = select(func.count().label("number"), func.min(since).label("oldest"), recent.label("recent"))
    return connection.execute(found.where(deliveries.c.status == literal_column(f"'{status}'"))).one()
