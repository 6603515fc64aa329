"""Circuit breaker: suspends requests to a failing endpoint. Meanwhile its deliveries use up no attempts."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from shared import backoff

MAX_ENDPOINT_FAILURES: Final = 5
"""After this many attempts in a row with no response or a retryable one, the breaker opens."""
DISABLE_AFTER: Final = timedelta(days=5)
"""An endpoint that has failed for this long without a success is disabled."""
MIN_FAILURES: Final = 10
"""With fewer failures, an endpoint is not disabled, however old the first one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """The health of an endpoint.

    `failures` counts all failures since the last success. `consecutive_failures` counts failures of the endpoint in a
    row (no response, or a retryable one); a rejection of a single request resets it. `trip_count` says how many times
    in a row the breaker has opened; while it is not zero, only one delivery at a time is sent. Nothing is sent before
    `open_until`.
    """

    failures: int = 0
    consecutive_failures: int = 0
    trip_count: int = 0
    failing_since: datetime | None = None
    open_until: datetime | None = None


def next_state(
    health: EndpointHealth,
    now: datetime,
    *,
    successes: int = 0,
    rejections: int = 0,
    endpoint_failures: int = 0,
    pause_seconds: float | None = None,
    jitter: float = 0.0,
) -> EndpointHealth:
    """Return the health after some attempts that ended at the same time. `jitter` is random, from -1 to 1.

    Endpoint failures can open the breaker; a rejection shows that the endpoint works. A success closes the breaker, but
    does not end a pause that the endpoint requested (`pause_seconds`). Requests that were in flight when the breaker
    opened do not open it again.
    """
    failed = rejections + endpoint_failures
    if successes:
        requested_pause = health.open_until if not health.trip_count else None
        after = EndpointHealth(open_until=requested_pause if requested_pause and requested_pause > now else None)
    else:
        after = replace(
            health,
            failures=health.failures + failed,
            failing_since=health.failing_since or (now if failed else None),
            consecutive_failures=health.consecutive_failures + endpoint_failures if endpoint_failures else 0,
        )
        is_open = after.open_until is not None and after.open_until > now
        if (
            not is_open
            and endpoint_failures
            and (after.trip_count or after.consecutive_failures >= MAX_ENDPOINT_FAILURES)
        ):
            trip_count = after.trip_count + 1
            rest = timedelta(seconds=backoff.CIRCUIT_BREAKER.delay_seconds(trip_count, jitter=jitter))
            after = replace(after, trip_count=trip_count, open_until=now + rest)
        elif not is_open:
            after = replace(after, trip_count=0, open_until=None)
    if pause_seconds is not None:
        until = now + timedelta(seconds=pause_seconds)
        after = replace(after, open_until=max(until, after.open_until or until))
    return after


def should_disable(health: EndpointHealth, now: datetime) -> bool:
    """Return whether the endpoint has failed for so long that its subscription must be disabled."""
    since = health.failing_since
    return since is not None and now - since >= DISABLE_AFTER and health.failures >= MIN_FAILURES
