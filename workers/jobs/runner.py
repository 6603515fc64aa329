"""Working on jobs: each a slice at a time, so that nothing else has to wait for long work.

A job goes on from its last position after its worker was killed. What fails is tried again after a while; what
keeps failing, or keeps killing its worker, without getting on ends as `failed`, with the reason.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import DBAPIError

from shared import backoff
from shared.broker import ASK_PROVIDERS, JOBS
from shared.deliveries import jobs as delivery_jobs
from shared.jobs import store as jobs
from shared.jobs.store import Advance, Job
from shared.suppression import jobs as suppression_jobs
from shared.vocabulary import JobState
from workers.context import WorkerContext
from workers.jobs import (
    abandon,
    erase,
    export_suppressions,
    import_suppressions,
    recover,
    replay,
)
from workers.jobs import (
    provider as provider_jobs,
)
from workers.jobs.progress import LEASE_SECONDS, CancelledError, JobError, LeaseLostError, Progress, TurnOverError

SLICE_SECONDS = 4.0

Run = Callable[[WorkerContext, Job, Progress], Mapping[str, Any]]
"""Does a job from its position on, calls the progress as it gets on, and returns the report. Raises JobError."""

KINDS: dict[str, Run] = {
    suppression_jobs.IMPORT: import_suppressions.run,
    suppression_jobs.EXPORT: export_suppressions.run,
    suppression_jobs.ERASE: erase.run,
    delivery_jobs.REPLAY: replay.run,
    delivery_jobs.RECOVER: recover.run,
    delivery_jobs.ABANDON: abandon.run,
    **provider_jobs.KINDS,
}

log = structlog.get_logger()


def work(ctx: WorkerContext, *, slice_seconds: float = SLICE_SECONDS, at_providers: bool = False) -> None:
    """Work on what has waited longest, until it is other tasks' turn; then ring again for what is left.

    What asks providers, and waits for their answers, is apart from what does not.
    """
    until = time.monotonic() + slice_seconds
    kinds = [kind for kind in KINDS if (kind in provider_jobs.KINDS) is at_providers]
    while time.monotonic() < until:
        token = uuid4()
        with ctx.engine.begin() as connection:
            job = jobs.claim(connection, kinds=kinds, token=token, lease_seconds=LEASE_SECONDS)
        if job is None:
            return
        _go_on(ctx, job, token, until)
    with ctx.engine.begin() as connection:
        more = jobs.is_due(connection, kinds)
    if more:
        ctx.notifier.notify(ASK_PROVIDERS if at_providers else JOBS)


def work_on(ctx: WorkerContext, job_id: UUID, watch: Callable[[Advance], None]) -> bool:
    """Work on this job until it is over or waits for another try; False if somebody else holds it."""
    token = uuid4()
    with ctx.engine.begin() as connection:
        job = jobs.claim_one(connection, job_id, token=token, lease_seconds=LEASE_SECONDS)
    if job is None:
        return False
    try:
        _go_on(ctx, job, token, float("inf"), watch)
    except KeyboardInterrupt:
        with ctx.engine.begin() as connection:
            jobs.release(connection, job_id, token)
        raise
    return True


def _go_on(
    ctx: WorkerContext, job: Job, token: UUID, until: float, watch: Callable[[Advance], None] = lambda _advance: None
) -> None:
    if job.attempts > ctx.settings.max_attempts:
        error = f"{job.attempts - 1} attempts ended without a word: each may have killed its worker"
        _finish(ctx, job, token, JobState.FAILED, error=error)
        return
    progress = Progress(engine=ctx.engine, job_id=job.id, token=token, until=until, watch=watch)
    try:
        report = KINDS[job.kind](ctx, job, progress)
    except TurnOverError:
        with ctx.engine.begin() as connection:
            jobs.release(connection, job.id, token)
    except CancelledError:
        _finish(ctx, job, token, JobState.CANCELLED)
    except LeaseLostError:
        log.info("a job was taken over", job=str(job.id), kind=job.kind)
    except JobError as error:
        _finish(ctx, job, token, JobState.FAILED, report=error.report, error=str(error))
    except Exception as error:  # whatever it was: another try, and in the end a reason that can be read
        log.exception("a job failed for now", job=str(job.id), kind=job.kind)
        _give_back(ctx, job, token, error)
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
        held = jobs.finish(connection, job.id, token, state, report=report, error=error)
    if held:
        log.info("a job is over", job=str(job.id), kind=job.kind, state=state, error=error)


def _give_back(ctx: WorkerContext, job: Job, token: UUID, error: Exception) -> None:
    reason = _sentence(error)
    with ctx.engine.begin() as connection:
        now = jobs.find(connection, job.id)  # it may have got on since it was claimed
    attempts = job.attempts if now is None else max(1, now.attempts)
    if attempts >= ctx.settings.max_attempts:
        _finish(ctx, job, token, JobState.FAILED, error=reason)
        return
    with ctx.engine.begin() as connection:
        jobs.release(connection, job.id, token, delay_seconds=backoff.JOBS.delay_seconds(attempts), error=reason)


def _sentence(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return f"{type(cause).__name__}: {cause}".partition("\n")[0]
