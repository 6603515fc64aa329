"""Reconciling sources as they come due: what their providers could not deliver is asked for, and sent again."""

import time
from uuid import uuid4

import structlog

from shared.errors import TidingsError
from shared.providers.api.base import WORKER_RETRIES
from shared.reconciliation import failed_deliveries
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.reconciliation.run import Orders, Progress, Run, TakenOverError
from shared.reconciliation.store import Lease
from shared.sources import provider_api
from shared.sources.provider_api import NoApiError
from shared.sources.source import Source
from workers.context import WorkerContext

_LONGEST_SECONDS = 8.0  # others wait for their turn

log = structlog.get_logger()


def reconcile_due(ctx: WorkerContext, *, longest_seconds: float = _LONGEST_SECONDS) -> None:
    """Reconcile the sources that are due, each as far as there is time; what is left is gone on with the next time."""
    until = time.monotonic() + longest_seconds
    with ctx.engine.begin() as connection:
        failed_deliveries.settle(connection)
        reconciliations.ensure_for(connection, provider_api.APIS)
    while (left := until - time.monotonic()) > 0:
        with ctx.engine.begin() as connection:
            lease = reconciliations.claim_due(connection, token=uuid4(), lease_seconds=reconciliation.LEASE_SECONDS)
        if lease is None:
            return
        _reconcile(ctx, lease, left)


def _reconcile(ctx: WorkerContext, lease: Lease, longest_seconds: float) -> None:
    with ctx.engine.connect() as connection:
        source = ctx.source_cache.of(connection, [lease.source_id])[lease.source_id]
    if not isinstance(source, Source):
        _leave(ctx, lease, source)
        return
    try:
        client = provider_api.open_client(source, WORKER_RETRIES)
    except NoApiError:  # nothing to be done, and nothing that anybody need mend
        _leave(ctx, lease, None)
        return
    orders = Orders(longest_seconds=longest_seconds)
    try:
        progress = Run(engine=ctx.engine, source=source, client=client, lease=lease, orders=orders).perform()
    except TakenOverError as error:
        log.info("a reconciliation was taken over", source=source.slug, error=str(error))
    else:
        _say(source, progress)


def _leave(ctx: WorkerContext, lease: Lease, error: TidingsError | None) -> None:
    with ctx.engine.begin() as connection:
        reconciliations.postpone(connection, lease, error=None if error is None else str(error))


def _say(source: Source, progress: Progress) -> None:
    if progress.error is not None:
        log.warning(
            "a provider could not be asked what it failed to deliver", source=source.slug, error=str(progress.error)
        )
    if progress.stopped is not None:
        log.warning("what is sent again does not arrive", source=source.slug, error=progress.stopped)
    if progress.new or progress.resent:
        log.info(
            "reconciled", source=source.slug, new=progress.new, resent=progress.resent, recovered=progress.recovered
        )
