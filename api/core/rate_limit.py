"""Rate limits with token buckets, and shares of what few may use at the same time; both per process."""

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from shared.auth.keys import Caller

_MAX_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class RateLimitResult:
    """The result: tokens left, and seconds until the bucket is full or, if refused, until the next token."""

    allowed: bool
    remaining: int
    seconds: int


class TokenBuckets:
    """A bucket per name: `burst` tokens, refilled at `rate` per second. A rate of 0 means no limit.

    The number of buckets is bounded; the least recently used are dropped.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    @property
    def window_seconds(self) -> int:
        """Return the seconds in which an empty bucket fills."""
        return max(1, math.ceil(self.burst / self.rate)) if self.rate else 1

    def take(self, name: str, now: float, cost: int = 1) -> RateLimitResult:
        """Take a token, or none with `cost` 0; `now` is a monotonic time in seconds."""
        if not self.rate:
            return RateLimitResult(allowed=True, remaining=self.burst, seconds=0)
        with self._lock:
            level = self._level(name, now)
            allowed = level >= cost
            level -= cost if allowed else 0
            self._levels[name] = (level, now)
            self._levels.move_to_end(name)
            if len(self._levels) > _MAX_BUCKETS:
                self._levels.popitem(last=False)
        missing = self.burst - level if allowed else 1 - level
        return RateLimitResult(allowed=allowed, remaining=int(level), seconds=math.ceil(missing / self.rate))

    def is_empty(self, name: str, now: float) -> bool:
        """Return whether no token is left."""
        with self._lock:
            return bool(self.rate) and self._level(name, now) < 1

    def _level(self, name: str, now: float) -> float:
        level, at = self._levels.get(name, (float(self.burst), now))
        return min(float(self.burst), level + (now - at) * self.rate)


class Shares:
    """Places that callers use at the same time, such as open streams.

    A key may not hold more places than are free, nor may all keys of a tenant together: one caller gets half of them,
    and leaves the next one half of the rest.
    """

    def __init__(self, places: int, of: str) -> None:
        self.places = places
        self._of = of
        self.taken = 0
        self._held: Counter[str] = Counter()
        self._lock = Lock()

    @property
    def free(self) -> int:
        """The number of free places."""
        return self.places - self.taken

    def exceeded(self, caller: Caller) -> str | None:
        """Return a sentence that names the limit if the caller may not take another place now, else None."""
        for holder, name in _holders(caller).items():
            if self._held[holder] >= self.free:
                return (
                    f"{name} holds {self._held[holder]} of the {self.places} places for {self._of} of this process;"
                    f" {self.free} are free, and it may not hold more than that. Close one, or try again later."
                )
        return None

    @contextmanager
    def hold(self, caller: Caller) -> Iterator[None]:
        """Hold a place for the duration of the context."""
        holders = _holders(caller)
        with self._lock:
            self.taken += 1
            self._held.update(holders.keys())
        try:
            yield
        finally:
            with self._lock:
                self.taken -= 1
                self._held.subtract(holders.keys())
                self._held = +self._held


def _holders(caller: Caller) -> dict[str, str]:
    """Return the names of the limits that a caller uses, each with the words for an error message."""
    holders = {caller.actor: "Your key"}
    return holders if caller.tenant is None else {**holders, f"tenant:{caller.tenant}": f"Tenant {caller.tenant!r}"}
