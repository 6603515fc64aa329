"""Jobs that ask a source's provider: reconciling it, and learning from its suppression list or teaching it ours."""

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
from shared.reconciliation.store import Lease
from shared.sources import provider_api
from shared.sources import store as sources
from shared.sources.source import Source, open_source
from shared.suppression import provider_sync
from shared.suppression.provider_sync import Difference
from workers.context import WorkerContext
from workers.jobs.progress import InterruptionError, JobError, Progress

_SLICE_SECONDS = 8.0
_LONGEST_TURN_SECONDS = 60.0  # both lists have to be read again in the next one
_SETTLE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
_MOST_REASONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far the reconciliation of a source has got. Times are of RFC 3339; `tick` counts the turns."""

    began_at: str | None = None
    finished_at: str | None = None
    found: int = 0
    resent: int = 0
    listed: bool = False
    tick: int = 0


def reconcile(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Reconcile a source from `since` to `until`, or since the last time. Raises JobError."""
    source, client = _open(ctx, job)
    place = Place(**job.position)
    while place.finished_at is None:
        place = _go_on(ctx, job, progress, source, client, replace(place, tick=place.tick + 1))
        progress(place.resent, None, asdict(place))
    waiting = True
    while waiting and datetime.now(UTC) - _moment(place.finished_at) < timedelta(seconds=_SETTLE_SECONDS):
        with ctx.engine.begin() as connection:
            waiting = bool(failed_deliveries.settle(connection, source.id))
        place = replace(place, tick=place.tick + 1)
        progress(place.resent, place.resent, asdict(place))
        time.sleep(_PAUSE_SECONDS if waiting else 0)
    return _report(ctx, source, place)


def _go_on(
    ctx: WorkerContext, job: Job, progress: Progress, source: Source, client: ProviderApi, place: Place
) -> Place:
    """One run, as long as there is time; what there was not time for is left to the next."""
    lease = _lease(ctx, source)
    if lease is None:  # a worker is at it, or a person
        time.sleep(_PAUSE_SECONDS)
        return place
    began_at = lease.started_at if place.began_at is None else _moment(place.began_at)
    place = replace(place, began_at=began_at.isoformat())
    orders = Orders(
        since=_moment_if_any(job.parameters.get("since")),
        until=_moment_if_any(job.parameters.get("until")),
        due_only=False,
        again=bool(job.parameters.get("given_up")) and not place.listed,
        began_at=began_at,
        listing=not place.listed,
        longest_seconds=_SLICE_SECONDS,
    )

    def tell(done: reconciliation.Progress) -> None:
        resent = place.resent + done.resent
        with ctx.engine.begin() as connection:
            progress.note(connection, resent, resent + done.waiting, asdict(place))

    run = Run(engine=ctx.engine, source=source, client=client, lease=lease, orders=orders, tell=tell)
    try:
        done = run.perform()
    except InterruptionError:
        run.give_back()
        raise
    listed = place.listed or done.listed
    place = replace(place, found=place.found + done.found, resent=place.resent + done.resent, listed=listed)
    if done.error is not None:
        raise JobError(str(done.error), _report(ctx, source, place))
    return replace(place, finished_at=datetime.now(UTC).isoformat()) if done.finished else place


def _lease(ctx: WorkerContext, source: Source) -> Lease | None:
    with ctx.engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        return reconciliations.claim(connection, source.id, token=uuid4(), lease_seconds=reconciliation.LEASE_SECONDS)


def _report(ctx: WorkerContext, source: Source, place: Place) -> Mapping[str, Any]:
    with ctx.engine.begin() as connection:
        began_at = datetime.now(UTC) if place.began_at is None else _moment(place.began_at)
        touched = failed_deliveries.touched(connection, source.id, since=began_at)
        still_open = failed_deliveries.count_open(connection, source.id)
    return {
        "found": place.found,
        "resent": place.resent,
        "recovered": sum(failure.state == "recovered" for failure in touched),
        "new_events": sum(failure.new_events or 0 for failure in touched),
        "still_open": still_open,
        "given_up": [failure.reference for failure in touched if failure.state == "given_up"],
        "reasons": sorted({failure.last_error for failure in touched if failure.last_error})[:_MOST_REASONS],
    }


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One turn at a long change: it tells how far it has got, and ends when it has been long."""

    ctx: WorkerContext
    progress: Progress
    total: int | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    tick: int = 0
    _until: float = field(default_factory=lambda: time.monotonic() + _LONGEST_TURN_SECONDS)

    def tell(self, done: int) -> None:
        """Note how far it is, and give way in time. Raises InterruptionError."""
        with self.ctx.engine.begin() as connection:
            self.progress.note(connection, done, self.total, {"tick": self.tick, "done": done}, self.report)
        if time.monotonic() > self._until:
            self.progress.give_way()


def push(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Put on the provider's list what is on ours, and with `delete` take off it what is not. Raises JobError."""
    source, client = _open(ctx, job)
    turn = _Turn(ctx=ctx, progress=progress, tick=job.position.get("tick", 0) + 1)
    found = _compare(ctx, source, client, turn)
    if job.parameters.get("dry_run"):
        return turn.report
    going = found.only_there if job.parameters.get("delete") else []
    turn.total = len(found.to_push) + len(going)
    try:
        added = provider_sync.push(client, found.to_push, turn.tell)
        removed = provider_sync.delete(client, going, lambda done: turn.tell(len(found.to_push) + done))
    except ProviderApiError as error:
        raise JobError(str(error), turn.report) from None
    return {**turn.report, "added": added, "removed": removed}


def pull(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Put on our list what is on the provider's. Raises JobError."""
    source, client = _open(ctx, job)
    turn = _Turn(ctx=ctx, progress=progress, tick=job.position.get("tick", 0) + 1)
    found = _compare(ctx, source, client, turn)
    if job.parameters.get("dry_run"):
        return turn.report
    turn.total = len(found.to_pull)
    added = provider_sync.pull(ctx.engine, source, ctx.hasher, found.to_pull, datetime.now(UTC), turn.tell)
    return {**turn.report, "added": added}


def _open(ctx: WorkerContext, job: Job) -> tuple[Source, ProviderApi]:
    with ctx.engine.begin() as connection:
        row = sources.find(connection, job.parameters["source"])
    if row is None:
        raise JobError(f"There is no source called {job.parameters['source']!r}.")
    source = open_source(row, ctx.vault)
    try:
        return source, provider_api.open_client(source, WORKER_RETRIES)
    except ProviderApiError as error:
        raise JobError(str(error)) from None


def _compare(ctx: WorkerContext, source: Source, client: ProviderApi, turn: _Turn) -> Difference:
    """How the lists differ; from here on the turn reports it."""

    def note(count: int) -> None:
        with ctx.engine.begin() as connection:
            turn.progress.note(connection, 0, None, {"tick": turn.tick}, {"read": count})

    try:
        found = provider_sync.compare(ctx.engine, source, client, ctx.hasher, datetime.now(UTC), note)
    except ProviderApiError as error:
        raise JobError(str(error)) from None
    turn.report = {
        "here": found.here,
        "there": found.there,
        "only_here": len(found.only_here),
        "only_there": len(found.only_there),
        "differing": len(found.differing),
        "kept_here": found.kept_here,
        "unreadable": found.unreadable,
    }
    return found


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _moment_if_any(text: str | None) -> datetime | None:
    return None if text is None else _moment(text)


KINDS: Final[Mapping[str, Callable[[WorkerContext, Job, Progress], Mapping[str, Any]]]] = {
    reconciliation.JOB: reconcile,
    provider_sync.PUSH: push,
    provider_sync.PULL: pull,
}
