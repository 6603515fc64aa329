"""Jobs that call a provider's API: reconcile a source, and synchronize its suppression list with ours."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from shared.jobs.store import Job
from shared.providers.api.base import WORKER_RETRIES, ProviderApi, ProviderApiError
from shared.reconciliation import failed_deliveries
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.reconciliation.run import Orders, Run
from shared.sources import provider_api
from shared.sources import store as sources
from shared.sources.source import Source, open_source
from shared.suppression import provider_sync
from shared.suppression.provider_sync import Difference
from workers.context import WorkerContext
from workers.jobs.progress import InterruptionError, JobError, Progress

RUN_SECONDS = 8.0
_MAX_SYNC_TURN_SECONDS = 60.0  # the next turn has to read both lists again
_SETTLE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
_MAX_REASONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePosition:
    """Where the reconciliation of a source continues. Times are RFC 3339; `tick` counts the turns.

    `waits_for` and `waits_until` are shown with the job.
    """

    began_at: str | None = None
    finished_at: str | None = None
    found: int = 0
    resent: int = 0
    listed: bool = False
    tick: int = 0
    waits_for: str | None = None
    waits_until: str | None = None


def reconcile(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Reconcile a source from `since` to `until`, or since the last time. Raises JobError."""
    source, client = _open(ctx, job)
    try:
        provider_api.require_failed_list(source)
    except ProviderApiError as error:
        raise JobError(str(error)) from None
    position = ReconcilePosition(**job.position)
    while position.finished_at is None:
        position = _run_once(ctx, job, progress, source, client, replace(position, tick=position.tick + 1))
        progress.commit(position.resent, None, asdict(position))
    settled_by = datetime.fromisoformat(position.finished_at) + timedelta(seconds=_SETTLE_SECONDS)
    position = replace(position, waits_for="the webhooks that were resent", waits_until=settled_by.isoformat())
    is_waiting = True
    while is_waiting and datetime.now(UTC) < settled_by:
        with ctx.engine.begin() as connection:
            is_waiting = bool(failed_deliveries.settle(connection, source.id))
        position = replace(position, tick=position.tick + 1)
        progress.commit(position.resent, position.resent, asdict(position))
        time.sleep(_PAUSE_SECONDS if is_waiting else 0)
    return _report(ctx, source, position)


def _run_once(
    ctx: WorkerContext,
    job: Job,
    progress: Progress,
    source: Source,
    client: ProviderApi,
    position: ReconcilePosition,
) -> ReconcilePosition:
    """Reconcile for as long as a run may take; the next run continues from the position returned."""
    with ctx.engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        lease = reconciliations.claim(connection, source.id, token=uuid4(), lease_seconds=reconciliation.LEASE_SECONDS)
    if lease is None:  # another worker or a person reconciles this source
        time.sleep(_PAUSE_SECONDS)
        return replace(position, waits_for="another run, which reconciles this source now")
    began_at = lease.started_at if position.began_at is None else datetime.fromisoformat(position.began_at)
    position = replace(position, began_at=began_at.isoformat(), waits_for=None)
    since, until = job.parameters.get("since"), job.parameters.get("until")
    orders = Orders(
        since=since and datetime.fromisoformat(since),
        until=until and datetime.fromisoformat(until),
        due_only=False,
        again=bool(job.parameters.get("given_up")) and not position.listed,
        began_at=began_at,
        listing=not position.listed,
        max_seconds=RUN_SECONDS,
    )

    def record(done: reconciliation.Progress) -> None:
        resent = position.resent + done.resent
        with ctx.engine.begin() as connection:
            progress.record(connection, resent, resent + done.waiting, asdict(position))

    run = Run(engine=ctx.engine, source=source, client=client, lease=lease, orders=orders, on_progress=record)
    try:
        done = run.perform()
    except InterruptionError:
        run.release()
        raise
    position = replace(
        position,
        found=position.found + done.found,
        resent=position.resent + done.resent,
        listed=position.listed or done.listed,
    )
    if done.error is not None:
        raise JobError(str(done.error), _report(ctx, source, position))
    return replace(position, finished_at=datetime.now(UTC).isoformat()) if done.finished else position


def _report(ctx: WorkerContext, source: Source, position: ReconcilePosition) -> Mapping[str, Any]:
    with ctx.engine.begin() as connection:
        began_at = datetime.now(UTC) if position.began_at is None else datetime.fromisoformat(position.began_at)
        touched = failed_deliveries.list_resent(connection, source.id, since=began_at)
        still_open = failed_deliveries.count_open(connection, source.id)
    return {
        "found": position.found,
        "resent": position.resent,
        "recovered": sum(failure.state == "recovered" for failure in touched),
        "new_events": sum(failure.new_events or 0 for failure in touched),
        "still_open": still_open,
        "given_up": [failure.reference for failure in touched if failure.state == "given_up"],
        "reasons": sorted({failure.last_error for failure in touched if failure.last_error})[:_MAX_REASONS],
    }


@dataclass(slots=True, kw_only=True)
class _SyncTurn:
    """One turn of a synchronization: records its progress, and ends in time."""

    ctx: WorkerContext
    progress: Progress
    total: int | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    tick: int = 0
    _until: float = field(default_factory=lambda: time.monotonic() + _MAX_SYNC_TURN_SECONDS)

    def record(self, done: int) -> None:
        """Record the progress. Raises InterruptionError."""
        with self.ctx.engine.begin() as connection:
            self.progress.record(connection, done, self.total, {"tick": self.tick, "done": done}, self.report)
        if time.monotonic() > self._until:
            self.progress.end_turn_if_over()


def push(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Add our entries to the provider's list; with `delete`, remove those that are not ours. Raises JobError."""
    source, client = _open(ctx, job)
    turn = _SyncTurn(ctx=ctx, progress=progress, tick=job.position.get("tick", 0) + 1)
    found = _compare(ctx, source, client, turn)
    if job.parameters.get("dry_run"):
        return turn.report
    going = found.only_there if job.parameters.get("delete") else []
    turn.total = len(found.to_push) + len(going)
    try:
        added = provider_sync.push(client, found.to_push, turn.record)
        removed = provider_sync.delete(client, going, lambda done: turn.record(len(found.to_push) + done))
    except ProviderApiError as error:
        raise JobError(str(error), turn.report) from None
    return {**turn.report, "added": added, "removed": removed}


def pull(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Add the provider's entries to our list. Raises JobError."""
    source, client = _open(ctx, job)
    turn = _SyncTurn(ctx=ctx, progress=progress, tick=job.position.get("tick", 0) + 1)
    found = _compare(ctx, source, client, turn)
    if job.parameters.get("dry_run"):
        return turn.report
    turn.total = len(found.to_pull)
    added = provider_sync.pull(ctx.engine, source, ctx.hasher, found.to_pull, datetime.now(UTC), turn.record)
    return {**turn.report, "added": added}


def _open(ctx: WorkerContext, job: Job) -> tuple[Source, ProviderApi]:
    with ctx.engine.begin() as connection:
        row = sources.find(connection, job.parameters["source"])
    if row is None:
        raise JobError(f"There is no source named {job.parameters['source']!r}.")
    source = open_source(row, ctx.vault)
    try:
        return source, provider_api.open_client(source, WORKER_RETRIES)
    except ProviderApiError as error:
        raise JobError(str(error)) from None


def _compare(ctx: WorkerContext, source: Source, client: ProviderApi, turn: _SyncTurn) -> Difference:
    """Compare both lists, and set the turn's report."""

    def record(count: int) -> None:
        with ctx.engine.begin() as connection:
            turn.progress.record(connection, 0, None, {"tick": turn.tick}, {"read": count})

    try:
        found = provider_sync.compare(ctx.engine, source, client, ctx.hasher, datetime.now(UTC), record)
    except ProviderApiError as error:
        raise JobError(str(error)) from None
    turn.report = found.counts()
    return found


KINDS: Final[Mapping[str, Callable[[WorkerContext, Job, Progress], Mapping[str, Any]]]] = {
    reconciliation.JOB: reconcile,
    provider_sync.PUSH: push,
    provider_sync.PULL: pull,
}
