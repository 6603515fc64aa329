"""How often one may ask: token buckets, kept in this process and by no other."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

_MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it may be done now; how often more, and in how many seconds as often as ever, or once if it may not."""

    allowed: bool
    remaining: int
    seconds: int


class Buckets:
    """One bucket for each name: `burst` tokens, of which `rate` come back a second. A rate of 0 limits nobody.

    Of very many names those that asked longest ago are forgotten, so that nobody can fill the memory.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    @property
    def window_seconds(self) -> int:
        """In how much time an empty bucket is full."""
        return max(1, math.ceil(self.burst / self.rate)) if self.rate else 1

    def take(self, name: str, now: float, cost: int = 1) -> Verdict:
        """Take a token, or with `cost` 0 only look; `now` is in seconds, of a clock that never goes back."""
        if not self.rate:
            return Verdict(allowed=True, remaining=self.burst, seconds=0)
        with self._lock:
            level = self._level(name, now)
            allowed = level >= cost
            level -= cost if allowed else 0
            self._levels[name] = (level, now)
            self._levels.move_to_end(name)
            if len(self._levels) > _MOST_BUCKETS:
                self._levels.popitem(last=False)
        missing = self.burst - level if allowed else 1 - level
        return Verdict(allowed=allowed, remaining=int(level), seconds=math.ceil(missing / self.rate))

    def is_empty(self, name: str, now: float) -> bool:
        """Whether there is no token left."""
        with self._lock:
            return bool(self.rate) and self._level(name, now) < 1

    def _level(self, name: str, now: float) -> float:
        level, at = self._levels.get(name, (float(self.burst), now))
        return min(float(self.burst), level + (now - at) * self.rate)
