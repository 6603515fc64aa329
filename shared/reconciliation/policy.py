"""What a provider could not deliver to us: what to look for, when to have it sent again, and when to give up."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from shared import backoff
from shared.providers.api.base import Contents, FailedDelivery, Span

FIRST_LOOK = timedelta(days=3)
"""How far back a source is looked at for the first time: what MailChannels lists unless it is told otherwise."""
LONGEST_LOOK = timedelta(days=31)
"""How far back it is looked at after a long pause: the longest range that MailChannels lists at once."""
OVERLAP = timedelta(hours=6)
"""Looked at again, because a delivery may be known to have failed only long after it was begun."""

MOST_ATTEMPTS = 20
FAILURES_IN_A_ROW = 3
"""After so many our own receiver is evidently down, or does not accept what it should: it is no use to go on."""

_STEP = timedelta(days=1)
_EVERY = timedelta(minutes=15)
_FRESH = timedelta(minutes=10)
_WHILE_RECEIVER_IS_DOWN = timedelta(minutes=5)
_LONGEST_PAUSE_SECONDS = 4 * 3600.0
_CLOCKS_DIFFER = timedelta(minutes=1)
_GOOD = range(200, 300)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TryLater:
    """It did not work this time."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It is not tried again by itself."""


def span_to_list(
    reconciled_until: datetime | None, now: datetime, *, since: datetime | None = None, until: datetime | None = None
) -> Span:
    """What has to be listed, unless a person says what: since the last time, and some time before; never the future."""
    if since is None:
        known = _unless_future(reconciled_until, now)
        since = now - FIRST_LOOK if known is None else known - OVERLAP
        since = max(since, now - LONGEST_LOOK)
    return Span(since=since, until=min(until or now, now))


def is_fresh(reconciled_until: datetime | None, now: datetime) -> bool:
    """Whether the provider was asked so lately that a run which goes on with another need not ask again."""
    known = _unless_future(reconciled_until, now)
    return known is not None and now - known < _FRESH


def steps(span: Span) -> Iterator[Span]:
    """The span in parts of a day, the oldest first: what was listed before an interruption is not listed again."""
    since = span.since
    while since < span.until:
        until = min(since + _STEP, span.until)
        yield Span(since=since, until=until)
        since = until


def listed_until(reconciled_until: datetime | None, listed: Span, now: datetime) -> datetime | None:
    """Up to when everything has been listed that should be; what lies behind a gap, or is to come, does not count."""
    known = _unless_future(reconciled_until, now)
    begin = now - FIRST_LOOK if known is None else max(known, now - LONGEST_LOOK)
    if listed.since > begin:
        return known
    until = min(listed.until, now)
    return until if known is None else max(known, until)


def _unless_future(reconciled_until: datetime | None, now: datetime) -> datetime | None:
    """Nobody can have listed what has not failed yet: a clock was wrong, and how far it was is not known."""
    return None if reconciled_until is not None and reconciled_until > now else reconciled_until


def was_taken(status_code: int | None) -> bool:
    """Whether that is how our receiver answers what it takes; None: not at all."""
    return status_code in _GOOD


def after_failure(attempts: int) -> TryLater | GiveUp:
    """The decision after so many attempts at having one sent again, none of which our receiver took."""
    if attempts >= MOST_ATTEMPTS:
        return GiveUp()
    return TryLater(timedelta(seconds=backoff.RESENDS.delay_seconds(attempts)))


def next_run(now: datetime, *, failures: int, stopped: bool, finished: bool, asked_seconds: float | None) -> datetime:
    """When to look at a source again. `failures` are its runs in a row that could not ask the provider.

    `stopped`: what was sent again did not arrive; `asked_seconds`: how long the provider asked to be left alone.
    """
    if failures:
        pause = backoff.RECONCILIATION_RUNS.delay_seconds(failures)
        return now + timedelta(seconds=max(pause, min(asked_seconds or 0, _LONGEST_PAUSE_SECONDS)))
    if stopped:
        return now + _WHILE_RECEIVER_IS_DOWN
    return now + _EVERY if finished else now


def most_alike(delivery: FailedDelivery, candidates: Iterable[tuple[T, Contents]]) -> T | None:
    """Which of the requests that came while a delivery was sent again is that delivery; None if none can be.

    The provider does not tell what is in a batch, only how much and since when: it has as many events, none of them
    later than the batch, and of several the batch was made closest to the last of its events.
    """
    best: tuple[timedelta, T] | None = None
    for candidate, contents in candidates:
        distance = _distance(delivery, contents)
        if distance is not None and (best is None or distance < best[0]):
            best = distance, candidate
    return best and best[1]


def _distance(delivery: FailedDelivery, contents: Contents) -> timedelta | None:
    if contents.events != delivery.events:
        return None
    if contents.latest_at is None:
        return timedelta.max
    if contents.latest_at > delivery.failed_at + _CLOCKS_DIFFER:
        return None
    return abs(delivery.failed_at - contents.latest_at)
