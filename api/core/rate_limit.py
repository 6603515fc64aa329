"""Rate limits with token buckets, per process."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

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
        """Whether no token is left."""
        with self._lock:
            return bool(self.rate) and self._level(name, now) < 1

    def _level(self, name: str, now: float) -> float:
        level, at = self._levels.get(name, (float(self.burst), now))
        return min(float(self.burst), level + (now - at) * self.rate)
