"""Asking a provider what it could not deliver, and having it sent again: one run, for one source.

Whoever runs it holds the source's lease. Every step is committed, so that a run that ends at any moment is gone on
with by the next; that something is sent again twice does no harm, because a repetition changes nothing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine

from shared.errors import TidingsError
from shared.providers.api.base import (
    DeniedError,
    GoneError,
    ProviderApi,
    ProviderApiError,
    RateLimitedError,
    ResendResult,
    Span,
)
from shared.reconciliation import failed_deliveries, matching, webhook_registration
from shared.reconciliation import policy as reconciliation_policy
from shared.reconciliation import store as reconciliations
from shared.reconciliation.failed_deliveries import KnownFailure
from shared.reconciliation.matching import Attempt, Here
from shared.reconciliation.policy import FAILURES_IN_A_ROW, GiveUp, TryLater
from shared.reconciliation.store import Lease
from shared.sources.source import Source

JOB: Final = "reconcile"

LEASE_SECONDS = 150.0
"""Longer than a step of a worker's run takes, or a try of a person's; what was killed is gone on with after that."""

_AT_ONCE = 100
_PAUSE_SECONDS = 0.1
_LOOK_EVERY = timedelta(hours=1)
_SETTLE_PAUSE_SECONDS = 0.2

log = structlog.get_logger()


class TakenOverError(TidingsError):
    """Somebody else reconciles this source by now; what this run was about to write is not written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a run is to do; as it stands, what a worker does.

    `since` and `until` are what a person asked for, `due_only` false tries also what is to wait, and `again` what
    was given up, but nothing that was tried since `began_at`. Without `listing` the provider is not asked what is new.
    It sends nothing more after `longest_seconds`, and waits up to `settle_seconds` for the workers to process what
    arrived.
    """

    since: datetime | None = None
    until: datetime | None = None
    due_only: bool = True
    again: bool = False
    began_at: datetime | None = None
    listing: bool = True
    longest_seconds: float = float("inf")
    settle_seconds: float = 0.0

    @property
    def span(self) -> Span | None:
        """What it is bounded to; None if it is about everything that is open."""
        if self.since is None and self.until is None:
            return None
        return Span(
            since=self.since or datetime.min.replace(tzinfo=UTC), until=self.until or datetime.max.replace(tzinfo=UTC)
        )


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a run has done so far: of those `found`, `new` were not known; `waiting` are still to be sent again.

    `stopped` is why it did not try them all: so many in a row did not arrive.
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


def holding(engine: Engine, lease: Lease, sleep: Callable[[float], None] = time.sleep) -> Callable[[float], None]:
    """Waits between the tries of a call, as `sleep` does, and makes the lease outlast all of them.

    For a client whose patience is longer than the lease. Raises TakenOverError.
    """

    def wait(seconds: float) -> None:
        with engine.begin() as connection:
            _hold(connection, lease)
        sleep(seconds)

    return wait


@dataclass(kw_only=True)
class Run:
    """One run; `tell` is called with its progress whenever that has changed."""

    engine: Engine
    source: Source
    client: ProviderApi
    lease: Lease
    orders: Orders = field(default_factory=Orders)
    tell: Callable[[Progress], None] = lambda _: None
    sleep: Callable[[float], None] = time.sleep
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.orders.longest_seconds

    def perform(self) -> Progress:
        """List, look, resend, count, and give the lease back. Raises TakenOverError."""
        try:
            self.progress.listed = self._list()
            self._look_at_webhooks()
            self.progress.finished = self._resend() and self.progress.listed
        except ProviderApiError as error:
            self.progress.error = error
        self._settle()
        self.give_back()
        return self.progress

    def _list(self) -> bool:
        """Keep what the provider could not deliver; whether there was time for all of it."""
        now = datetime.now(UTC)
        until = self.lease.reconciled_until
        if not self.orders.listing or (self.orders.due_only and reconciliation_policy.is_fresh(until, now)):
            return True
        span = reconciliation_policy.span_to_list(until, now, since=self.orders.since, until=self.orders.until)
        for step in reconciliation_policy.steps(span):
            for page in self.client.failed(step):
                with self._holding() as connection:
                    self.progress.new += failed_deliveries.add(connection, self.source.id, page)
                self.progress.found += len(page)
                self.tell(self.progress)
            until = reconciliation_policy.listed_until(until, step, now)
            with self._holding() as connection:
                reconciliations.advance(connection, self.source.id, until)
            if self.orders.due_only and self._is_late():  # it goes on from there the next time
                return step.until == span.until
        return True

    def _look_at_webhooks(self) -> None:
        """Now and then, and when something is amiss, see whether the provider posts to us at all."""
        asked, failed = not self.orders.due_only, bool(self.progress.new)
        is_in_doubt = failed or self.lease.validated is False
        test_is_due = is_in_doubt and (asked or _is_past(self.lease.validated_at))
        if not (asked or failed or test_is_due or _is_past(self.lease.checked_at)):
            return
        try:
            webhooks = webhook_registration.look(self.engine, self.source, self.client)
            ours = webhook_registration.own(self.source, webhooks)
            if test_is_due and ours and self.client.TEST_IS_HARMLESS:
                webhook_registration.validate(self.engine, self.source, self.client, ours)
        except DeniedError:
            raise
        except ProviderApiError as error:  # it is for diagnosis only: what is missing can be had without it
            log.warning("the enrolment could not be looked at", source=self.source.slug, error=str(error))

    def _resend(self) -> bool:
        """Have all that is open sent again, until our receiver is evidently down; whether there was time for it."""
        if self.orders.again:
            with self._holding() as connection:
                failed_deliveries.reopen(connection, self.source.id, span=self.orders.span)
        failures = 0
        for failure in self._open_ones():
            if self._is_late():
                return False
            sentence = self._resend_one(failure)
            failures = failures + 1 if sentence else 0
            self.progress.waiting -= 1
            self.tell(self.progress)
            if failures == FAILURES_IN_A_ROW:
                self.progress.stopped = sentence
                break
            self.sleep(_PAUSE_SECONDS)
        return True

    def _open_ones(self) -> Iterator[KnownFailure]:
        while True:
            with self._holding() as connection:
                found = failed_deliveries.open_ones(
                    connection,
                    self.source.id,
                    span=self.orders.span,
                    before=self.orders.began_at or self.lease.started_at,
                    due_only=self.orders.due_only,
                    limit=_AT_ONCE,
                )
                count = failed_deliveries.count_open(connection, self.source.id, span=self.orders.span)
            self.progress.waiting = count
            self.tell(self.progress)
            if not found:
                return
            yield from found

    def _resend_one(self, failure: KnownFailure) -> str | None:
        """Have one sent again, unless it is here; what our receiver, or the provider, said if it did not work."""
        source_id, reference = self.source.id, failure.reference
        with self._holding() as connection:
            transaction = failed_deliveries.attempt(connection, source_id, reference)
        attempt = Attempt(began_at=datetime.now(UTC), transaction=transaction)
        try:
            if here := self._look_up(failure):
                self._note_recovery(failure, here.receipt_id)
                return None
            self.progress.resent += 1
            resent = self.client.resend(failure)
        except GoneError as error:
            with self._holding() as connection:
                reason = f"the provider has it no more: {error}"
                failed_deliveries.give_up(connection, source_id, reference, reason=reason)
            return None
        except (RateLimitedError, DeniedError) as error:
            with self._holding() as connection:
                failed_deliveries.take_back(connection, source_id, reference, error=str(error))
            raise
        except ProviderApiError as error:
            return self._put_off(failure, str(error))
        return self._decide(failure, resent, attempt)

    def _look_up(self, failure: KnownFailure) -> Here | None:
        sent = self.client.sent(failure)
        if sent is None:
            return None
        with self.engine.connect() as connection:
            return matching.look_up(connection, self.source, failure, sent)

    def _note_recovery(self, failure: KnownFailure, receipt_id: UUID | None) -> None:
        with self._holding() as connection:
            failed_deliveries.recovered(connection, self.source.id, failure.reference, receipt_id)
        self.progress.recovered += 1

    def _decide(self, failure: KnownFailure, resent: ResendResult, attempt: Attempt) -> str | None:
        source_id, reference = self.source.id, failure.reference
        if resent.record is not None and resent.record != reference:
            with self._holding() as connection:
                failed_deliveries.note_record(connection, source_id, resent.record, reference)
        if reconciliation_policy.was_taken(resent.status_code):
            with self.engine.connect() as connection:
                receipt_id = matching.find(connection, self.source, self.client, failure, resent, attempt)
            self._note_recovery(failure, receipt_id)
            return None
        if resent.status_code is None:
            return self._put_off(failure, "the provider got no answer from our receiver")
        return self._put_off(failure, f"our receiver answered the provider with {resent.status_code}")

    def _put_off(self, failure: KnownFailure, error: str) -> str:
        source_id, reference, attempts = self.source.id, failure.reference, failure.attempts + 1
        with self._holding() as connection:
            match reconciliation_policy.after_failure(attempts):
                case GiveUp():
                    reason = f"after {attempts} attempts: {error}"
                    failed_deliveries.give_up(connection, source_id, reference, reason=reason)
                case TryLater(delay=delay):
                    next_at = datetime.now(UTC) + delay
                    failed_deliveries.retry(connection, source_id, reference, error=error, next_attempt_at=next_at)
        return error

    def _settle(self) -> None:
        """Count what had been missing, as far as it is processed by now."""
        until = time.monotonic() + self.orders.settle_seconds
        while True:
            with self.engine.begin() as connection:
                left = failed_deliveries.settle(connection, self.source.id)
            if not left or time.monotonic() >= until:
                return
            self.sleep(_SETTLE_PAUSE_SECONDS)

    def give_back(self) -> None:
        """Let others have the source; for whoever interrupts a run."""
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

    @contextmanager
    def _holding(self) -> Iterator[Connection]:
        """A transaction in which the lease is ours, and made to last. Raises TakenOverError."""
        with self.engine.begin() as connection:
            _hold(connection, self.lease)
            yield connection

    def _is_late(self) -> bool:
        return time.monotonic() >= self._until


def _hold(connection: Connection, lease: Lease) -> None:
    if not reconciliations.hold(connection, lease, lease_seconds=LEASE_SECONDS):
        raise TakenOverError("Somebody else reconciles this source by now.")


def _is_past(moment: datetime | None) -> bool:
    return moment is None or datetime.now(UTC) - moment > _LOOK_EVERY
