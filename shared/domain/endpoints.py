"""How an endpoint fares, and when it is left alone: a breaker that uses up no attempts."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

STRIKES = 5
"""Attempts in a row without an answer, or with one that says later: then the breaker opens."""
FIRST_REST_SECONDS = 10.0
LONGEST_REST_SECONDS = 600.0
DISABLED_AFTER = timedelta(days=5)
"""Of nothing but failure."""
LEAST_FAILURES = 10
"""Fewer than these prove nothing, however far apart they are."""

_JITTER = 0.2
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How an endpoint fares. `failures` of any kind since the last success; `strikes` in a row, of those that tell of

    the endpoint rather than of one request; `openings` of the breaker in a row: while there are any, one delivery at a
    time is tried. Nothing is tried before `open_until`.
    """

    failures: int = 0
    strikes: int = 0
    openings: int = 0
    failing_since: datetime | None = None
    open_until: datetime | None = None

    @property
    def is_good(self) -> bool:
        """Whether a success would change nothing."""
        return not self.failures and not self.openings and self.open_until is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What some attempts at one endpoint came to, all known at the same time."""

    successes: int = 0
    rejections: int = 0
    setbacks: int = 0
    rest_seconds: float | None = None

    def plus(self, *, success: bool, setback: bool, rest_seconds: float | None) -> "Tally":
        """One more attempt."""
        rests = [rest for rest in (self.rest_seconds, rest_seconds) if rest is not None]
        return Tally(
            successes=self.successes + success,
            rejections=self.rejections + (not success and not setback),
            setbacks=self.setbacks + setback,
            rest_seconds=max(rests, default=None),
        )


def fare(health: Health, tally: Tally, now: datetime, *, jitter: float = 0.0) -> Health:
    """How an endpoint fares after these attempts. `jitter` is from -1 to 1.

    A success closes the breaker, but does not end a rest that the endpoint asked for. What was under way when the
    breaker opened does not open it any further.
    """
    failed = tally.rejections + tally.setbacks
    if tally.successes:
        asked_for = health.open_until if not health.openings else None
        after = Health(open_until=asked_for if asked_for and asked_for > now else None)
    else:
        after = replace(
            health,
            failures=health.failures + failed,
            failing_since=health.failing_since or (now if failed else None),
            strikes=health.strikes + tally.setbacks if tally.setbacks else 0,
        )
        after = _judge(after, tally, now, jitter)
    if tally.rest_seconds is not None:
        until = now + timedelta(seconds=tally.rest_seconds)
        after = replace(after, open_until=max(until, after.open_until or until))
    return after


def is_hopeless(health: Health, now: datetime) -> bool:
    """Whether nothing but failure came for days: its subscription is to be disabled."""
    since = health.failing_since
    return since is not None and now - since >= DISABLED_AFTER and health.failures >= LEAST_FAILURES


def _judge(health: Health, tally: Tally, now: datetime, jitter: float) -> Health:
    if health.open_until is not None and health.open_until > now:
        return health
    if tally.setbacks and (health.openings or health.strikes >= STRIKES):
        doublings = min(health.openings, _MOST_DOUBLINGS)
        rest = min(FIRST_REST_SECONDS * 2**doublings, LONGEST_REST_SECONDS) * (1 + _JITTER * jitter)
        return replace(health, openings=health.openings + 1, open_until=now + timedelta(seconds=rest))
    return replace(health, openings=0, open_until=None)  # whoever says no is there
