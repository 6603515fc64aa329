"""Circuit breaker of an endpoint: when requests to it are suspended. That uses up no attempts of its deliveries."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from shared import backoff

MAX_STRIKES: Final = 5
"""Attempts in a row without a response, or with one that asks for a retry; then the breaker opens."""
DISABLE_AFTER: Final = timedelta(days=5)
"""Of nothing but failures."""
MIN_FAILURES: Final = 10
"""Fewer failures than these prove nothing, however far apart they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """The health of an endpoint.

    `failures` counts failures of any kind since the last success, `strikes` those in a row that concern the endpoint
    rather than one request. `trip_count` says how many times in a row the breaker has opened; while it is not zero, one
    delivery at a time is tried. Nothing is tried before `open_until`.
    """

    failures: int = 0
    strikes: int = 0
    trip_count: int = 0
    failing_since: datetime | None = None
    open_until: datetime | None = None


def next_state(
    health: EndpointHealth,
    now: datetime,
    *,
    successes: int = 0,
    rejections: int = 0,
    setbacks: int = 0,
    rest_seconds: float | None = None,
    jitter: float = 0.0,
) -> EndpointHealth:
    """Return the health after some attempts that ended at the same time. `jitter` is random, from -1 to 1.

    Setbacks are strikes; a rejection shows that the endpoint is there. A success closes the breaker, but does not end
    a pause that the endpoint requested (`rest_seconds`). Requests that were in flight when the breaker opened do not
    open it further.
    """
    failed = rejections + setbacks
    if successes:
        asked_for = health.open_until if not health.trip_count else None
        after = EndpointHealth(open_until=asked_for if asked_for and asked_for > now else None)
    else:
        after = replace(
            health,
            failures=health.failures + failed,
            failing_since=health.failing_since or (now if failed else None),
            strikes=health.strikes + setbacks if setbacks else 0,
        )
        is_open = after.open_until is not None and after.open_until > now
        if not is_open and setbacks and (after.trip_count or after.strikes >= MAX_STRIKES):
            trip_count = after.trip_count + 1
            rest = timedelta(seconds=backoff.CIRCUIT_BREAKER.delay_seconds(trip_count, jitter=jitter))
            after = replace(after, trip_count=trip_count, open_until=now + rest)
        elif not is_open:
            after = replace(after, trip_count=0, open_until=None)
    if rest_seconds is not None:
        until = now + timedelta(seconds=rest_seconds)
        after = replace(after, open_until=max(until, after.open_until or until))
    return after


def should_disable(health: EndpointHealth, now: datetime) -> bool:
    """Return whether the endpoint has failed for so long that its subscription is to be disabled."""
    since = health.failing_since
    return since is not None and now - since >= DISABLE_AFTER and health.failures >= MIN_FAILURES
