"""Decisions about failed deliveries: what to list, when to have it resent, and when to give up."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TypeVar

from shared import backoff
from shared.providers.api.base import Contents, FailedDelivery, Span

FIRST_LISTING = timedelta(days=3)
"""How far back the first run lists: MailChannels' own default."""
MAX_LISTING = timedelta(days=31)
"""How far back a run lists after a long pause: the longest range that MailChannels accepts."""
OVERLAP = timedelta(hours=6)
"""Listed again, because a delivery may fail long after it began."""

MAX_ATTEMPTS = 20
FAILURES_IN_A_ROW = 3
"""After this many, our own receiver seems to be down or to refuse valid requests, and resending is useless."""

_STEP = timedelta(days=1)
_EVERY = timedelta(minutes=15)
_FRESH = timedelta(minutes=10)
_WHILE_RECEIVER_IS_DOWN = timedelta(minutes=5)
_LONGEST_PAUSE_SECONDS = 4 * 3600.0
_CLOCKS_DIFFER = timedelta(minutes=1)
_GOOD = range(200, 300)

T = TypeVar("T")


def span_to_list(
    reconciled_until: datetime | None, now: datetime, *, since: datetime | None = None, until: datetime | None = None
) -> Span:
    """Return what to list: what a person asked for, else from some time before the last run until now."""
    if since is None:
        known = _unless_future(reconciled_until, now)
        since = now - FIRST_LISTING if known is None else known - OVERLAP
        since = max(since, now - MAX_LISTING)
    return Span(since=since, until=min(until or now, now))


def is_fresh(reconciled_until: datetime | None, now: datetime) -> bool:
    """Return whether the provider was asked so recently that this run need not list again."""
    known = _unless_future(reconciled_until, now)
    return known is not None and now - known < _FRESH


def steps(span: Span) -> Iterator[Span]:
    """Split the span into days, the oldest first, so that an interrupted run does not list everything again."""
    since = span.since
    while since < span.until:
        until = min(since + _STEP, span.until)
        yield Span(since=since, until=until)
        since = until


def listed_until(reconciled_until: datetime | None, listed: Span, now: datetime) -> datetime | None:
    """Return the time until which everything has been listed without a gap, at most until now."""
    known = _unless_future(reconciled_until, now)
    begin = now - FIRST_LISTING if known is None else max(known, now - MAX_LISTING)
    if listed.since > begin:
        return known
    until = min(listed.until, now)
    return until if known is None else max(known, until)


def _unless_future(reconciled_until: datetime | None, now: datetime) -> datetime | None:
    """Return None for a time in the future, which only a wrong clock can have left."""
    return None if reconciled_until is not None and reconciled_until > now else reconciled_until


def is_accepted(status_code: int | None) -> bool:
    """Return whether our receiver accepted the request; a status of None means that it did not answer."""
    return status_code in _GOOD


def retry_delay(attempts: int) -> timedelta | None:
    """Return how long to wait after this many failed attempts to have a delivery resent; None to give up."""
    if attempts >= MAX_ATTEMPTS:
        return None
    return timedelta(seconds=backoff.RESENDS.delay_seconds(attempts))


def next_run(now: datetime, *, failures: int, stopped: bool, finished: bool, asked_seconds: float | None) -> datetime:
    """Return when to reconcile a source again. `failures` counts runs in a row that could not reach the provider.

    `stopped`: resent deliveries did not arrive. `asked_seconds`: how long the provider asked us to wait.
    """
    if failures:
        pause = backoff.RECONCILIATION_RUNS.delay_seconds(failures)
        return now + timedelta(seconds=max(pause, min(asked_seconds or 0, _LONGEST_PAUSE_SECONDS)))
    if stopped:
        return now + _WHILE_RECEIVER_IS_DOWN
    return now + _EVERY if finished else now


def most_similar(delivery: FailedDelivery, candidates: Iterable[tuple[T, Contents]]) -> T | None:
    """Return which of the requests that arrived during a resend is that delivery; None if none can be.

    The provider does not say what a batch contains, only how many events and when it was made. The candidate must have
    as many events, none later than the batch; of several, the one whose last event is closest to the batch is best.
    """
    best: tuple[timedelta, T] | None = None
    for candidate, contents in candidates:
        latest_at = contents.latest_at
        if contents.events != delivery.events:
            continue
        if latest_at is not None and latest_at > delivery.failed_at + _CLOCKS_DIFFER:
            continue
        distance = timedelta.max if latest_at is None else abs(delivery.failed_at - latest_at)
        if best is None or distance < best[0]:
            best = distance, candidate
    return best and best[1]
