"""Reconcile due sources: list the webhooks that their providers could not deliver, and have them resent."""

import time
from uuid import uuid4

import structlog

from shared.errors import LeaseLostError
from shared.providers.api.base import WORKER_RETRIES, ProviderApiError
from shared.reconciliation import failed_deliveries
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.reconciliation.run import Orders, Run
from shared.reconciliation.store import Lease
from shared.sources import provider_api
from shared.sources import store as source_store
from shared.sources.source import Source
from workers.context import ConcurrencyLimit, WorkerContext
from workers.jobs import runner

_MAX_SECONDS = 8.0
_ONE_AT_A_TIME = ConcurrencyLimit(1)

log = structlog.get_logger()


def call_providers(ctx: WorkerContext) -> None:
    """Run the jobs and reconciliations that call providers' APIs. Return at once if another thread is doing so.

    Only one thread of a process calls providers, so that slow providers do not block deliveries.
    """
    with _ONE_AT_A_TIME.try_acquire() as is_acquired:
        if is_acquired:
            runner.run_due(ctx, at_providers=True)
            reconcile_due(ctx)


def reconcile_due(ctx: WorkerContext) -> None:
    """Reconcile due sources until none is left or the time is up. The next task continues."""
    deadline = time.monotonic() + _MAX_SECONDS
    with ctx.engine.begin() as connection:
        failed_deliveries.settle(connection)
        reconciliations.ensure_for(connection, provider_api.APIS)
    while (seconds_left := deadline - time.monotonic()) > 0:
        with ctx.engine.begin() as connection:
            lease = reconciliations.claim_due(connection, token=uuid4(), lease_seconds=reconciliation.LEASE_SECONDS)
        if lease is None:
            return
        _reconcile(ctx, lease, seconds_left)


def _reconcile(ctx: WorkerContext, lease: Lease, max_seconds: float) -> None:
    with ctx.engine.connect() as connection:
        versions = source_store.versions_of(connection, [lease.source_id])
        source = ctx.source_cache.of(connection, versions)[lease.source_id]
    error = None if isinstance(source, Source) else str(source)
    try:
        client = provider_api.open_client(source, WORKER_RETRIES) if isinstance(source, Source) else None
    except ProviderApiError:  # no error, because no action is needed
        client = None
    if not isinstance(source, Source) or client is None:
        with ctx.engine.begin() as connection:
            reconciliations.postpone(connection, lease, error=error)
        return
    orders = Orders(max_seconds=max_seconds)
    try:
        done = Run(engine=ctx.engine, source=source, client=client, lease=lease, orders=orders).perform()
    except LeaseLostError as lost:
        log.info("reconciliation taken over", source=source.slug, error=str(lost))
        return
    if done.error is not None:
        log.warning("failed deliveries could not be listed or resent", source=source.slug, error=str(done.error))
    if done.stopped is not None:
        log.warning("resent deliveries do not arrive", source=source.slug, error=done.stopped)
    if done.new or done.resent:
        log.info("reconciled", source=source.slug, new=done.new, resent=done.resent, recovered=done.recovered)
