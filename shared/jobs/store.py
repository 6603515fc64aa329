"""The queue of long-running jobs: requests, leases, progress and results.

Workers run a job in turns of a few seconds. A worker holds a job by a lease: `available_at` is when the lease ends,
and `lease_token` identifies the worker. Every write checks the token, so a worker that lost the lease writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, RowMapping, Text, and_, case, exists, func, literal, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import OperationalError

from shared import ids
from shared.errors import ConflictError
from shared.jobs.files import OUTPUT
from shared.jobs.tables import job_files, jobs
from shared.postgres.metadata import Timestamp
from shared.postgres.pagination import KeysetQuery, Page, Position
from shared.vocabulary import JobState

SEALED = "sealed"
"""The encrypted parameter (`shared.encryption`): never shown, and deleted when the job ends."""


_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. `total` is None until it is known; `attempts` counts those since the last progress.

    `has_file` says whether it wrote an output file (`shared.jobs.files`); `retry_at` is when it is tried again after an
    error.
    """

    id: UUID
    kind: str
    state: JobState
    parameters: Mapping[str, Any]
    done: int
    total: int | None
    position: Mapping[str, Any]
    report: Mapping[str, Any]
    error: str | None
    asked_by: str
    cancel_asked: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    has_file: bool
    retry_at: datetime | None

    @property
    def waits_for(self) -> str | None:
        """What the job waits for, or after its end its deliveries; None if nothing."""
        if (found := self.position.get("waits_for") or self.report.get("waits_for")) is not None:
            return str(found)
        if self.retry_at is not None:
            return "its next attempt, after an error"
        return "a worker" if self.state is JobState.QUEUED else None

    @property
    def waits_until(self) -> datetime | None:
        """Until when it waits, if that is known."""
        found = self.position.get("waits_until") or self.report.get("waits_until")
        return self.retry_at if found is None else datetime.fromisoformat(found)

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled, or its worker was asked to stop."""
        return self.cancel_asked or self.state is JobState.CANCELLED

    @property
    def shown_parameters(self) -> dict[str, Any]:
        """The parameters without the encrypted one."""
        return {name: value for name, value in self.parameters.items() if name != SEALED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """Progress of a job: `position` is where to continue, `report` its result so far."""

    done: int
    total: int | None
    position: Mapping[str, Any]
    report: Mapping[str, Any]


_COLUMNS = [
    *(jobs.c[entry.name] for entry in fields(Job) if entry.name in jobs.c),
    exists().where(job_files.c.job_id == jobs.c.id, job_files.c.name == OUTPUT).label("has_file"),
    case(
        (
            and_(jobs.c.lease_token.is_(None), jobs.c.error.is_not(None), jobs.c.finished_at.is_(None)),
            jobs.c.available_at,
        )
    ).label("retry_at"),
]
_IS_OPEN = jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])
_IS_FREE = or_(jobs.c.lease_token.is_(None), jobs.c.available_at <= func.now())


def create(
    connection: Connection,
    *,
    kind: str,
    parameters: Mapping[str, Any],
    asked_by: str,
    tenant: str | None = None,
    now: datetime,
) -> UUID:
    """Create a job and return its id. The caller notifies the workers after the commit.

    Keys of `tenant` may see and cancel the job; None is for keys to all tenants only.
    """
    job_id = ids.receipt_id(now)
    connection.execute(
        jobs.insert().values(
            id=job_id,
            kind=kind,
            state=JobState.QUEUED,
            parameters=parameters,
            asked_by=asked_by,
            tenant=tenant,
            created_at=now,
            available_at=func.least(literal(now, Timestamp), func.now()),  # this clock may be ahead of the database's
        )
    )
    return job_id


def find(connection: Connection, job_id: UUID, *, tenant: str | None = None) -> Job | None:
    """Return one job, or None; with `tenant`, only a job of that tenant."""
    found = _by_ids(connection, [job_id], tenant)
    return found[0] if found else None


def list_jobs(
    connection: Connection,
    *,
    kind: str | None = None,
    state: JobState | None = None,
    tenant: str | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Job]:
    """Return jobs, the newest first."""
    query = KeysetQuery(jobs.c.id)
    if tenant is not None:
        query.where(jobs.c.tenant == tenant)
    if kind is not None:
        query.filter(jobs.c.kind == kind)
    if state is not None:
        query.filter(jobs.c.state == state)
    page = query.fetch(connection, after=after, limit=limit)
    return Page(_by_ids(connection, [key for (key,) in page.items], tenant), page.next)


def find_newest(
    connection: Connection, *, kind: str, parameters: Mapping[str, Any], state: JobState | None = None
) -> Job | None:
    """Return the newest job of this kind with these parameters among its own, and in this state; None if none is."""
    newest = (
        select(jobs.c.id)
        .where(jobs.c.kind == kind, jobs.c.parameters.contains(parameters))
        .order_by(jobs.c.id.desc())
        .limit(1)
    )
    if state is not None:
        newest = newest.where(jobs.c.state == state)
    job_id = connection.scalar(newest)
    return None if job_id is None else find(connection, job_id)


def count_open(connection: Connection, *, tenant: str | None, asked_by: str | None = None) -> int:
    """Return how many jobs of a tenant, or of none, are not over; with `asked_by` only those that it asked for."""
    statement = select(func.count()).where(_IS_OPEN, jobs.c.tenant.is_not_distinct_from(tenant))
    if asked_by is not None:
        statement = statement.where(jobs.c.asked_by == asked_by)
    return int(connection.scalar(statement) or 0)


def claim(connection: Connection, *, kinds: Sequence[str], token: UUID, lease_seconds: float) -> Job | None:
    """Claim the free job that has waited longest, and count the attempt; None if no job is due.

    Commit before running the job: an attempt that kills its worker must count too.
    """
    return _claim(connection, [jobs.c.available_at <= func.now(), jobs.c.kind.in_(kinds)], token, lease_seconds)


def claim_one(connection: Connection, job_id: UUID, *, token: UUID, lease_seconds: float) -> Job | None:
    """Claim this job, if it is open and free, and does not wait after an error."""
    is_ready = or_(jobs.c.error.is_(None), jobs.c.available_at <= func.now())
    return _claim(connection, [jobs.c.id == job_id, _IS_FREE, is_ready], token, lease_seconds)


def is_due(connection: Connection, kinds: Sequence[str]) -> bool:
    """Return whether a job can be claimed."""
    due = select(jobs.c.id).where(_IS_OPEN, jobs.c.available_at <= func.now(), jobs.c.kind.in_(kinds))
    return bool(connection.scalar(select(due.exists())))


def advance(
    connection: Connection, job_id: UUID, token: UUID, advance: Advance, *, lease_seconds: float
) -> bool | None:
    """Store the progress and extend the lease. Return whether cancelling was asked for; None if the lease is lost.

    No other worker can claim the job until the transaction ends.
    """
    statement = (
        jobs.update()
        .where(jobs.c.id == job_id, jobs.c.lease_token == token)
        .values(
            done=advance.done,
            total=advance.total,
            position=advance.position,
            report=advance.report,
            attempts=case((jobs.c.position == literal(advance.position, JSONB), jobs.c.attempts), else_=0),
            available_at=_seconds_from_now(lease_seconds),
        )
    )
    asked: bool | None = connection.scalar(statement.returning(jobs.c.cancel_asked))
    return asked


def release(
    connection: Connection,
    job_id: UUID,
    token: UUID,
    *,
    delay_seconds: float = 0,
    error: str | None = None,
    is_counted: bool = True,
) -> bool:
    """Release a job, to be claimed again after the delay; False if the lease is lost.

    Without an error the attempt does not count: only the job's turn is over. With `is_counted=False` it does not count
    either: the error is not the job's.
    """
    statement = jobs.update().where(jobs.c.id == job_id, jobs.c.lease_token == token)
    values: dict[str, Any] = {"lease_token": None, "error": error, "available_at": _seconds_from_now(delay_seconds)}
    if error is None:
        values["attempts"] = 0
    elif not is_counted:
        values["attempts"] = func.greatest(jobs.c.attempts - 1, 0)
    return bool(connection.execute(statement.values(values)).rowcount)


def finish(
    connection: Connection,
    job_id: UUID,
    token: UUID,
    state: JobState,
    *,
    report: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> bool:
    """End a job; False if the lease is lost. Deletes its input and intermediate data, keeps its output."""
    result = {"state": state, "error": error} | ({} if report is None else {"report": report})
    return _end(connection, job_id, [jobs.c.lease_token == token], result)


def cancel(connection: Connection, job_id: UUID) -> Job | None:
    """Cancel a job: now if it is free, otherwise when its worker next reports progress. Return the job.

    A job that has ended stays as it is. Raises ConflictError while the job writes its result in one transaction.
    """
    connection.execute(text("SET LOCAL lock_timeout = '2s'"))
    try:
        if not _end(connection, job_id, [_IS_OPEN, _IS_FREE], {"state": JobState.CANCELLED}):
            connection.execute(jobs.update().where(jobs.c.id == job_id, _IS_OPEN).values(cancel_asked=True))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise ConflictError("The job is writing its result and can no longer be cancelled.") from None
        raise
    return find(connection, job_id)


def _end(
    connection: Connection, job_id: UUID, conditions: Sequence[ColumnElement[bool]], result: Mapping[str, Any]
) -> bool:
    statement = (
        jobs.update()
        .where(jobs.c.id == job_id, *conditions)
        .values(
            position={},
            parameters=jobs.c.parameters.op("-")(literal(SEALED, Text)),
            finished_at=func.clock_timestamp(),
            lease_token=None,
            **result,
        )
    )
    if not connection.execute(statement).rowcount:
        return False
    connection.execute(job_files.delete().where(job_files.c.job_id == job_id, job_files.c.name != OUTPUT))
    # As text: the table belongs to shared.suppression, which imports this package.
    connection.execute(text("DELETE FROM staged_suppressions WHERE job_id = :job_id"), {"job_id": job_id})
    return True


def _claim(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], token: UUID, lease_seconds: float
) -> Job | None:
    due = (
        select(jobs.c.id)
        .where(_IS_OPEN, *conditions)
        .order_by(jobs.c.available_at, jobs.c.id)
        .limit(1)
        .with_for_update(key_share=True, skip_locked=True)
        .cte("due")
    )
    statement = (
        jobs.update()
        .where(jobs.c.id == select(due.c.id).scalar_subquery())
        .values(
            state=JobState.RUNNING,
            started_at=func.coalesce(jobs.c.started_at, func.clock_timestamp()),
            attempts=jobs.c.attempts + 1,
            lease_token=token,
            available_at=_seconds_from_now(lease_seconds),
        )
    )
    row = connection.execute(statement.returning(*_COLUMNS)).mappings().one_or_none()
    return None if row is None else _job(row)


def _by_ids(connection: Connection, job_ids: Sequence[UUID], tenant: str | None = None) -> list[Job]:
    statement = select(*_COLUMNS).where(jobs.c.id.in_(job_ids)).order_by(jobs.c.id.desc())
    if tenant is not None:
        statement = statement.where(jobs.c.tenant == tenant)
    return [_job(row) for row in connection.execute(statement).mappings()]


def _job(row: RowMapping) -> Job:
    return Job(**{**row, "state": JobState(row["state"])})


def _seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    return func.clock_timestamp() + timedelta(seconds=seconds)
