"""One reconciliation run for one source: list what its provider could not deliver, and have it resent.

A run holds the source's lease. It commits every step, so that the next run continues wherever this one ends.
Having a request resent twice does no harm, because a duplicate changes nothing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Connection, Engine

from shared.errors import LeaseLostError
from shared.providers.api.base import (
    ApiErrorKind,
    ProviderApi,
    ProviderApiError,
    ResendResult,
    Span,
)
from shared.reconciliation import failed_deliveries, matching, webhook_registration
from shared.reconciliation import policy as reconciliation_policy
from shared.reconciliation import store as reconciliations
from shared.reconciliation.failed_deliveries import KnownFailure
from shared.reconciliation.policy import FAILURES_IN_A_ROW
from shared.reconciliation.store import Lease
from shared.sources.source import Source

JOB: Final = "reconcile"

LEASE_SECONDS = 150.0
"""Longer than one call of the API with its retries. After that, another run continues what a killed one began."""

_BATCH = 100
_PAUSE_SECONDS = 0.1
_CHECK_WEBHOOKS_EVERY = timedelta(hours=1)
_SETTLE_PAUSE_SECONDS = 0.2

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a run does; the defaults are those of a worker.

    A person may limit it to `since` and `until`. Unless `due_only`, it also tries failures that are not due yet, and
    with `again` those that were given up, but nothing that was tried since `began_at`. Without `listing` it does not
    ask the provider for new failures. It resends nothing after `max_seconds`, and waits up to `settle_seconds` until
    workers have processed what arrived.
    """

    since: datetime | None = None
    until: datetime | None = None
    due_only: bool = True
    again: bool = False
    began_at: datetime | None = None
    listing: bool = True
    max_seconds: float = float("inf")
    settle_seconds: float = 0.0

    @property
    def span(self) -> Span | None:
        """The time that the run is limited to; None if it is not limited."""
        if self.since is None and self.until is None:
            return None
        return Span(
            since=self.since or datetime.min.replace(tzinfo=UTC), until=self.until or datetime.max.replace(tzinfo=UTC)
        )


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a run has done so far. `new` of the failures `found` were not known; `waiting` are still to be resent.

    `stopped` is the error that ended the resending, because too many in a row did not arrive.
    """

    found: int = 0
    new: int = 0
    waiting: int = 0
    resent: int = 0
    recovered: int = 0
    listed: bool = False
    finished: bool = False
    stopped: str | None = None
    error: ProviderApiError | None = None


def sleep_and_renew(
    engine: Engine, lease: Lease, sleep: Callable[[float], None] = time.sleep
) -> Callable[[float], None]:
    """Return a `sleep` that renews the lease first, for a client that retries for longer than the lease lasts.

    It raises LeaseLostError.
    """

    def wait(seconds: float) -> None:
        with engine.begin() as connection:
            _renew(connection, lease)
        sleep(seconds)

    return wait


@dataclass(kw_only=True)
class Run:
    """One run. `on_progress` is called whenever the progress has changed."""

    engine: Engine
    source: Source
    client: ProviderApi
    lease: Lease
    orders: Orders = field(default_factory=Orders)
    on_progress: Callable[[Progress], None] = lambda _: None
    sleep: Callable[[float], None] = time.sleep
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.orders.max_seconds

    def perform(self) -> Progress:
        """List failures, check our webhooks, have the failures resent, and release the lease. Raises LeaseLostError."""
        try:
            self.progress.listed = self._list()
            self._check_webhooks()
            self.progress.finished = self._resend_open() and self.progress.listed
        except ProviderApiError as error:
            self.progress.error = error
        settle_until = time.monotonic() + self.orders.settle_seconds
        while True:
            with self.engine.begin() as connection:
                waiting = failed_deliveries.settle(connection, self.source.id)
            if not waiting or time.monotonic() >= settle_until:
                break
            self.sleep(_SETTLE_PAUSE_SECONDS)
        self.release()
        return self.progress

    def release(self) -> None:
        """Release the source for other runs, also after an interruption."""
        error, stopped = self.progress.error, self.progress.stopped
        failures = self.lease.failures + 1 if error else 0
        next_at = reconciliation_policy.next_run(
            datetime.now(UTC),
            failures=failures,
            stopped=stopped is not None,
            finished=self.progress.finished,
            asked_seconds=error.after_seconds if error else None,
        )
        with self.engine.begin() as connection:
            reconciliations.release(
                connection,
                self.lease,
                next_at=next_at,
                error=str(error) if error else stopped,
                failures=failures,
                finished=self.progress.finished,
            )

    def _list(self) -> bool:
        """Store what the provider could not deliver; return whether there was time for all of it."""
        if not self.source.provider.lists_failed:
            return True
        now = datetime.now(UTC)
        until = self.lease.reconciled_until
        if not self.orders.listing or (self.orders.due_only and reconciliation_policy.is_fresh(until, now)):
            return True
        span = reconciliation_policy.span_to_list(until, now, since=self.orders.since, until=self.orders.until)
        for step in reconciliation_policy.steps(span):
            for page in self.client.failed(step):
                with self._transaction() as connection:
                    self.progress.new += failed_deliveries.add(connection, self.source.id, page)
                self.progress.found += len(page)
                self.on_progress(self.progress)
            until = reconciliation_policy.listed_until(until, step, now)
            with self._transaction() as connection:
                reconciliations.advance(connection, self.source.id, until)
            if self.orders.due_only and time.monotonic() >= self._deadline:  # the next run continues from here
                return step.until == span.until
        return True

    def _check_webhooks(self) -> None:
        """Check, every hour and when something seems wrong, whether the provider posts to us at all."""
        now = datetime.now(UTC)

        def is_due(checked_at: datetime | None) -> bool:
            return checked_at is None or now - checked_at > _CHECK_WEBHOOKS_EVERY

        is_asked, has_failed = not self.orders.due_only, bool(self.progress.new)
        is_in_doubt = has_failed or self.lease.validated is False
        test_is_due = is_in_doubt and (is_asked or is_due(self.lease.validated_at))
        if not (is_asked or has_failed or test_is_due or is_due(self.lease.checked_at)):
            return
        try:
            webhooks = webhook_registration.list_webhooks(self.engine, self.source, self.client)
            ours = webhook_registration.own(self.source, webhooks)
            provider = self.source.provider
            if test_is_due and ours and provider.sends_tests and not provider.tests_look_real:
                webhook_registration.validate(self.engine, self.source, self.client, ours)
        except ProviderApiError as error:  # only diagnosis needs this: failures can be resent without it
            if error.kind is ApiErrorKind.DENIED:
                raise
            log.warning("webhooks could not be checked", source=self.source.slug, error=str(error))

    def _resend_open(self) -> bool:
        """Have open failures resent until our receiver seems to be down; return whether there was time for all."""
        if self.orders.again:
            with self._transaction() as connection:
                failed_deliveries.reopen(connection, self.source.id, span=self.orders.span)
        failures = 0
        while True:
            with self._transaction() as connection:
                batch = failed_deliveries.list_open(
                    connection,
                    self.source.id,
                    span=self.orders.span,
                    before=self.orders.began_at or self.lease.started_at,
                    due_only=self.orders.due_only,
                    limit=_BATCH,
                )
                self.progress.waiting = failed_deliveries.count_open(connection, self.source.id, span=self.orders.span)
            self.on_progress(self.progress)
            if not batch:
                return True
            for failure in batch:
                if time.monotonic() >= self._deadline:
                    return False
                error = self._resend(failure)
                failures = failures + 1 if error else 0
                self.progress.waiting -= 1
                self.on_progress(self.progress)
                if failures == FAILURES_IN_A_ROW:
                    self.progress.stopped = error
                    return True
                self.sleep(_PAUSE_SECONDS)

    def _resend(self, failure: KnownFailure) -> str | None:
        """Have one failure resent, unless we have it; return the error if it did not arrive."""
        source_id, reference = self.source.id, failure.reference
        with self._transaction() as connection:
            transaction = failed_deliveries.start_attempt(connection, source_id, reference)
        began_at = datetime.now(UTC)
        try:
            sent = self.client.sent(failure)
            if sent is not None:
                with self.engine.connect() as connection:
                    is_processed, receipt_id = matching.find_existing(connection, self.source, failure, sent)
                if is_processed:
                    with self._transaction() as connection:
                        failed_deliveries.mark_recovered(connection, source_id, reference, receipt_id)
                    self.progress.recovered += 1
                    return None
            self.progress.resent += 1
            resent = self.client.resend(failure)
        except ProviderApiError as error:
            if error.kind is ApiErrorKind.GONE:
                with self._transaction() as connection:
                    reason = f"The provider no longer has it: {error}"
                    failed_deliveries.give_up(connection, source_id, reference, reason=reason)
                return None
            if error.kind in {ApiErrorKind.RATE_LIMITED, ApiErrorKind.DENIED}:
                with self._transaction() as connection:
                    failed_deliveries.cancel_attempt(connection, source_id, reference, error=str(error))
                raise
            return self._retry_later(failure, str(error))
        return self._record_answer(failure, resent, began_at, transaction)

    def _record_answer(
        self, failure: KnownFailure, resent: ResendResult, began_at: datetime, transaction: str
    ) -> str | None:
        """Record how our receiver answered the resent request; return the error if it was not accepted."""
        source_id, reference = self.source.id, failure.reference
        if resent.record is not None and resent.record != reference:
            with self._transaction() as connection:
                failed_deliveries.record_resend(connection, source_id, resent.record, reference)
        if resent.status_code is None:
            return self._retry_later(failure, "The provider got no answer from our receiver.")
        if not reconciliation_policy.is_accepted(resent.status_code):
            return self._retry_later(failure, f"Our receiver answered the provider with {resent.status_code}.")
        with self.engine.connect() as connection:
            receipt_id = matching.find_receipt(
                connection, self.source, self.client, failure, resent, began_at=began_at, transaction=transaction
            )
        with self._transaction() as connection:
            failed_deliveries.mark_recovered(connection, source_id, reference, receipt_id)
        self.progress.recovered += 1
        return None

    def _retry_later(self, failure: KnownFailure, error: str) -> str:
        source_id, reference, attempts = self.source.id, failure.reference, failure.attempts + 1
        delay = reconciliation_policy.retry_delay(attempts)
        with self._transaction() as connection:
            if delay is None:
                reason = f"Gave up after {attempts} attempts: {error}"
                failed_deliveries.give_up(connection, source_id, reference, reason=reason)
            else:
                next_at = datetime.now(UTC) + delay
                failed_deliveries.retry(connection, source_id, reference, error=error, next_attempt_at=next_at)
        return error

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Begin a transaction that renews the lease. Raises LeaseLostError."""
        with self.engine.begin() as connection:
            _renew(connection, self.lease)
            yield connection


def _renew(connection: Connection, lease: Lease) -> None:
    if not reconciliations.renew(connection, lease, lease_seconds=LEASE_SECONDS):
        raise LeaseLostError("Another process reconciles this source now.")
