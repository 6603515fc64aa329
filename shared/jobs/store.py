"""Long work: who asked for it, how far it has got, and who holds it.

A job is worked on in slices. Whoever works on it holds it by a lease: `available_at` is when the lease ends and
`lease_token` tells whose it is. Everything that the holder writes names the token, so that one who has lost the
lease writes nothing. Between two slices nobody holds it, and it waits for its turn.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from shared import ids
from shared.errors import TidingsError
from shared.postgres.pagination import Page, Position, Walk

SEALED = "sealed"
"""The parameter that is encrypted (`shared.encryption`): never shown, and gone when the job has ended."""


_LOCK_NOT_AVAILABLE = "55P03"


class TooLateError(TidingsError):
    """The job is writing its result in one transaction, and cannot be cancelled any more."""


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. `total` is None until it is known; `attempts` counts those since it last got on, this one included.

    `has_file` is whether it made something for whoever asked for it (`shared.jobs.files`).
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

    @property
    def is_given_up(self) -> bool:
        """Whether it was cancelled, or its holder was asked to stop."""
        return self.cancel_asked or self.state is JobState.CANCELLED

    @property
    def shown_parameters(self) -> dict[str, Any]:
        """What was asked for, as far as everybody may see it."""
        return {name: value for name, value in self.parameters.items() if name != SEALED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """How far a job has got: `position` is where to go on, `report` what it says of itself so far."""

    done: int
    total: int | None
    position: Mapping[str, Any]
    report: Mapping[str, Any]


_COLUMNS = ", ".join(entry.name for entry in fields(Job)).replace(
    "has_file", "EXISTS (SELECT FROM job_files WHERE job_id = jobs.id AND name = 'output') AS has_file"
)
_OPEN = "state IN ('queued', 'running')"
_UNHELD = "(lease_token IS NULL OR available_at <= now())"

_CLAIM = f"""
WITH due AS (
    SELECT id FROM jobs WHERE {_OPEN} AND {{which}} ORDER BY available_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobs SET state = 'running', started_at = coalesce(started_at, clock_timestamp()), attempts = attempts + 1,
    lease_token = %(token)s, available_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
WHERE id = (SELECT id FROM due) RETURNING {_COLUMNS}
"""

_ADVANCE = """
UPDATE jobs SET done = %(done)s, total = %(total)s, position = %(position)s::jsonb, report = %(report)s::jsonb,
    attempts = CASE WHEN position = %(position)s::jsonb THEN attempts ELSE 0 END,
    available_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
WHERE id = %(id)s AND lease_token = %(token)s RETURNING cancel_asked
"""

_FINISH = f"""
UPDATE jobs SET state = %(state)s, error = %(error)s, report = coalesce(%(report)s::jsonb, report), position = '{{}}',
    parameters = parameters - '{SEALED}', finished_at = clock_timestamp(), lease_token = NULL
"""


def create(
    connection: Connection,
    *,
    kind: str,
    parameters: Mapping[str, Any],
    asked_by: str,
    tenant: str | None = None,
    now: datetime,
) -> UUID:
    """Ask for a job, and get its id. Whoever calls rings for the workers, after the commit.

    `tenant` is whose job it is: that tenant's keys see it, and may cancel it. None is nobody's in particular.
    """
    job_id = ids.receipt_id(now)
    connection.exec_driver_sql(
        "INSERT INTO jobs (id, kind, state, parameters, asked_by, tenant, created_at, available_at)"
        " VALUES (%(id)s, %(kind)s, 'queued', %(parameters)s::jsonb, %(asked_by)s, %(tenant)s, %(now)s, %(now)s)",
        {
            "id": job_id,
            "kind": kind,
            "parameters": json.dumps(parameters),
            "asked_by": asked_by,
            "tenant": tenant,
            "now": now,
        },
    )
    return job_id


def find(connection: Connection, job_id: UUID, *, tenant: str | None = None) -> Job | None:
    """One job; of a tenant's, where one is given."""
    found = _by_ids(connection, [job_id], tenant)
    return found[0] if found else None


def listed(
    connection: Connection,
    *,
    kind: str | None = None,
    state: JobState | None = None,
    tenant: str | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Job]:
    """Jobs, the newest first."""
    walk = Walk(table="jobs", keys=("id",))
    if tenant is not None:
        walk.bound("tenant = %(tenant)s", tenant=tenant)
    if kind is not None:
        walk.pick("kind = %(kind)s", kind=kind)
    if state is not None:
        walk.pick("state = %(state)s", state=state)
    walk.after(after)
    found = walk.page(connection, limit)
    return Page(_by_ids(connection, [position[0] for position in found.items], tenant), found.next)


def claim(connection: Connection, *, kinds: Sequence[str], token: UUID, lease_seconds: float) -> Job | None:
    """Take the job that has waited longest of those that nobody holds, and count the attempt; None if there is none.

    The claim has to be committed before the work: an attempt that kills its worker must count too.
    """
    return _claimed(
        connection,
        "available_at <= now() AND kind = ANY(%(kinds)s)",
        {"kinds": list(kinds), "token": token, "lease_seconds": lease_seconds},
    )


def claim_one(connection: Connection, job_id: UUID, *, token: UUID, lease_seconds: float) -> Job | None:
    """Take this job, if it is open and nobody holds it."""
    return _claimed(
        connection, f"id = %(id)s AND {_UNHELD}", {"id": job_id, "token": token, "lease_seconds": lease_seconds}
    )


def is_due(connection: Connection, kinds: Sequence[str]) -> bool:
    """Whether there is a job to be claimed."""
    return bool(
        connection.exec_driver_sql(
            f"SELECT EXISTS (SELECT FROM jobs WHERE {_OPEN} AND available_at <= now() AND kind = ANY(%(kinds)s))",
            {"kinds": list(kinds)},
        ).scalar_one()
    )


def advance(
    connection: Connection, job_id: UUID, token: UUID, advance: Advance, *, lease_seconds: float
) -> bool | None:
    """Note how far a job has got, and hold it longer; whether cancelling was asked for, None if the lease is lost.

    Until the transaction ends nobody else can claim it, however long that takes.
    """
    asked: bool | None = connection.exec_driver_sql(
        _ADVANCE,
        {
            "id": job_id,
            "token": token,
            "done": advance.done,
            "total": advance.total,
            "position": json.dumps(advance.position),
            "report": json.dumps(advance.report),
            "lease_seconds": lease_seconds,
        },
    ).scalar()
    return asked


def release(
    connection: Connection, job_id: UUID, token: UUID, *, delay_seconds: float = 0, error: str | None = None
) -> bool:
    """Give a job back, to be claimed when the delay has passed; False if the lease is lost.

    Without an error the attempt is not counted: it is only others' turn.
    """
    return bool(
        connection.exec_driver_sql(
            "UPDATE jobs SET lease_token = NULL, error = %(error)s,"
            " available_at = clock_timestamp() + make_interval(secs => %(delay)s),"
            " attempts = CASE WHEN %(error)s::text IS NULL THEN 0 ELSE attempts END"
            " WHERE id = %(id)s AND lease_token = %(token)s",
            {"id": job_id, "token": token, "delay": delay_seconds, "error": error},
        ).rowcount
    )


def finish(
    connection: Connection,
    job_id: UUID,
    token: UUID,
    state: JobState,
    *,
    report: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> bool:
    """End a job; False if the lease is lost. What it read and noted on its way goes, what it made stays."""
    ended = connection.exec_driver_sql(
        f"{_FINISH} WHERE id = %(id)s AND lease_token = %(token)s",
        {
            "id": job_id,
            "token": token,
            "state": state,
            "error": error,
            "report": None if report is None else json.dumps(report),
        },
    ).rowcount
    if ended:
        _tidy(connection, job_id)
    return bool(ended)


def cancel(connection: Connection, job_id: UUID) -> Job | None:
    """Have a job stop: at once where nobody holds it, else when its holder next tells how far it has got.

    The job as it is then; one that is over stays as it is. Raises TooLateError.
    """
    connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
    try:
        _cancel(connection, job_id)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise TooLateError("The job is writing its result, and cannot be cancelled any more.") from None
        raise
    return find(connection, job_id)


def _cancel(connection: Connection, job_id: UUID) -> None:
    ended = connection.exec_driver_sql(
        f"{_FINISH} WHERE id = %(id)s AND {_OPEN} AND {_UNHELD}",
        {"id": job_id, "state": JobState.CANCELLED, "error": None, "report": None},
    ).rowcount
    if ended:
        _tidy(connection, job_id)
    else:
        connection.exec_driver_sql(f"UPDATE jobs SET cancel_asked = true WHERE id = %(id)s AND {_OPEN}", {"id": job_id})


def _tidy(connection: Connection, job_id: UUID) -> None:
    connection.exec_driver_sql("DELETE FROM job_files WHERE job_id = %(id)s AND name <> 'output'", {"id": job_id})
    connection.exec_driver_sql("DELETE FROM staged_suppressions WHERE job_id = %(id)s", {"id": job_id})


def _claimed(connection: Connection, which: str, values: Mapping[str, Any]) -> Job | None:
    row = connection.exec_driver_sql(_CLAIM.format(which=which), dict(values)).mappings().one_or_none()
    return None if row is None else Job(**{**row, "state": JobState(row["state"])})


def _by_ids(connection: Connection, job_ids: Sequence[UUID], tenant: str | None = None) -> list[Job]:
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM jobs WHERE id = ANY(%(ids)s)"
        " AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s) ORDER BY id DESC",
        {"ids": list(job_ids), "tenant": tenant},
    ).mappings()
    return [Job(**{**row, "state": JobState(row["state"])}) for row in rows]
