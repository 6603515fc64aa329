"""Many timeouts that share one timer of the event loop."""

import asyncio
from typing import Generic, Protocol, TypeVar


class Cancellable(Protocol):
    """An object that can time out."""

    def cancel(self) -> None:
        """Stop waiting: the time is up."""


_Waiting = TypeVar("_Waiting", bound=Cancellable)


class TimeoutWheel(Generic[_Waiting]):
    """Checks all deadlines every `interval_seconds`, so a timeout may be late by that much.

    One timer per request would take 5 % of its time, although nearly all are cancelled before they fire.
    """

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._deadlines: dict[_Waiting, float] = {}
        self._is_scheduled = False

    @property
    def waiting(self) -> list[_Waiting]:
        """The objects that have a deadline."""
        return list(self._deadlines)

    def set(self, waiting: _Waiting, at: float) -> None:
        """Set or replace a deadline, in the event loop's time. Then `waiting` is cancelled, unless removed before."""
        self._deadlines[waiting] = at
        if not self._is_scheduled:
            self._schedule()

    def remove(self, waiting: _Waiting) -> None:
        """Remove the deadline."""
        self._deadlines.pop(waiting, None)

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_later(self._interval_seconds, self._check)

    def _check(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            for waiting in [waiting for waiting, at in self._deadlines.items() if at <= now]:
                self.remove(waiting)
                waiting.cancel()
        finally:  # one that cannot be cancelled must not stop the timer of all others
            self._is_scheduled = False
            if self._deadlines:
                self._schedule()
