"""Runs jobs, each for a turn of a few seconds, so that a long job does not delay others.

A job continues from its last position, even after its worker was killed. A failed job is retried later. A job that
keeps failing or crashing its worker without progress becomes `failed`, with the reason. While the database's condition
is the reason, such as a full disk, it waits.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import DBAPIError

from shared import backoff
from shared.broker import CALL_PROVIDERS, JOBS
from shared.deliveries import jobs as delivery_jobs
from shared.errors import first_line
from shared.jobs import store as jobs
from shared.jobs.store import Advance, Job
from shared.postgres.engine import is_database_fault
from shared.receipts import jobs as receipt_jobs
from shared.suppression import jobs as suppression_jobs
from shared.vocabulary import JobState
from workers import maintenance
from workers.context import WorkerContext
from workers.jobs import (
    abandon,
    erase,
    recover,
    replay,
    reprocess,
    suppression_files,
)
from workers.jobs import (
    provider as provider_jobs,
)
from workers.jobs.progress import LEASE_SECONDS, Interruption, InterruptionError, JobError, Progress

TURN_SECONDS = 4.0
_DATABASE_RETRY_SECONDS = 30.0

Run = Callable[[WorkerContext, Job, Progress], Mapping[str, Any]]
"""Runs a job from its position, reports progress, and returns the job's report. Raises JobError."""

KINDS: dict[str, Run] = {
    suppression_jobs.IMPORT: suppression_files.import_list,
    suppression_jobs.EXPORT: suppression_files.export_list,
    suppression_jobs.ERASE: erase.run,
    delivery_jobs.REPLAY: replay.run,
    delivery_jobs.RECOVER: recover.run,
    delivery_jobs.ABANDON: abandon.run,
    receipt_jobs.REPROCESS: reprocess.run,
    maintenance.REWRITE_ADDRESSES: maintenance.rewrite_addresses,
    **provider_jobs.KINDS,
}

log = structlog.get_logger()


def run_due(ctx: WorkerContext, *, turn_seconds: float = TURN_SECONDS, at_providers: bool = False) -> None:
    """Run due jobs, the longest waiting first, one at least; when the time is up, wake another task for the rest.

    Jobs that call providers' APIs run in a separate task (`at_providers`), because they wait for responses.
    """
    deadline = time.monotonic() + turn_seconds
    kinds = [kind for kind in KINDS if (kind in provider_jobs.KINDS) is at_providers]
    while True:
        token = uuid4()
        with ctx.engine.begin() as connection:
            job = jobs.claim(connection, kinds=kinds, token=token, lease_seconds=LEASE_SECONDS)
        if job is None:
            return
        run_claimed(ctx, job, token, deadline)
        if time.monotonic() >= deadline:
            break
    with ctx.engine.begin() as connection:
        is_due = jobs.is_due(connection, kinds)
    if is_due:
        ctx.notifier.notify(CALL_PROVIDERS if at_providers else JOBS)


def run_one(ctx: WorkerContext, job_id: UUID, watch: Callable[[Advance], None]) -> bool:
    """Run one job until it ends or must be retried. Return False if another worker holds it."""
    token = uuid4()
    with ctx.engine.begin() as connection:
        job = jobs.claim_one(connection, job_id, token=token, lease_seconds=LEASE_SECONDS)
    if job is None:
        return False
    try:
        run_claimed(ctx, job, token, float("inf"), watch)
    except KeyboardInterrupt:
        with ctx.engine.begin() as connection:
            jobs.release(connection, job_id, token)
        raise
    return True


def run_claimed(
    ctx: WorkerContext, job: Job, token: UUID, deadline: float, watch: Callable[[Advance], None] = lambda _advance: None
) -> None:
    """Run a claimed job until it ends or its turn is over."""
    max_attempts = ctx.settings.max_attempts
    if job.attempts > max_attempts:
        error = (
            f"Gave up after {job.attempts - 1} attempts that ended without an error; each may have crashed its worker."
        )
        _finish(ctx, job, token, JobState.FAILED, error=error)
        return
    progress = Progress(engine=ctx.engine, job_id=job.id, token=token, until=deadline, watch=watch)
    try:
        report = KINDS[job.kind](ctx, job, progress)
    except InterruptionError as interruption:
        match interruption.reason:
            case Interruption.TURN_OVER:
                with ctx.engine.begin() as connection:
                    jobs.release(connection, job.id, token)
            case Interruption.CANCELLED:
                _finish(ctx, job, token, JobState.CANCELLED)
            case Interruption.TAKEN_OVER:
                log.info("job taken over", job=str(job.id), kind=job.kind)
    except JobError as error:
        _finish(ctx, job, token, JobState.FAILED, report=error.report, error=str(error))
    except Exception as error:  # retried, whatever it is; the job shows the last one
        log.exception("job failed, may be retried", job=str(job.id), kind=job.kind)
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = f"{type(cause).__name__}: {first_line(error)}"
        is_counted = not is_database_fault(error)
        with ctx.engine.begin() as connection:
            current = jobs.find(connection, job.id)  # progress since the claim resets the attempts
        attempts = job.attempts if current is None else max(1, current.attempts)
        if is_counted and attempts >= max_attempts:
            _finish(ctx, job, token, JobState.FAILED, error=reason)
            return
        with ctx.engine.begin() as connection:
            delay = backoff.JOBS.delay_seconds(attempts) if is_counted else _DATABASE_RETRY_SECONDS
            jobs.release(connection, job.id, token, delay_seconds=delay, error=reason, is_counted=is_counted)
    else:
        _finish(ctx, job, token, JobState.DONE, report=report)


def _finish(
    ctx: WorkerContext,
    job: Job,
    token: UUID,
    state: JobState,
    *,
    report: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> None:
    with ctx.engine.begin() as connection:
        is_held = jobs.finish(connection, job.id, token, state, report=report, error=error)
    if is_held:
        log.info("job ended", job=str(job.id), kind=job.kind, state=state, error=error)
