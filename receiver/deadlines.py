"""Ends what takes too long, by one timer for all."""

import asyncio
from typing import Protocol


class Waiting(Protocol):
    """Something that may be given up."""

    def give_up(self) -> None:
        """Wait no longer."""


class Deadlines:
    """Looks at what waits every so many seconds, on the event loop; what is late by less is let be.

    A timer for each request would be cancelled nearly always, and would cost a twentieth of all that is done for it.
    """

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._due: dict[Waiting, float] = {}
        self._is_looking = False

    def set(self, waiting: Waiting, at: float) -> None:
        """Have it given up at that time of the loop, unless it is released before. It may be set anew."""
        self._due[waiting] = at
        if not self._is_looking:
            self._look_later()

    def release(self, waiting: Waiting) -> None:
        """Leave it alone."""
        self._due.pop(waiting, None)

    def _look_later(self) -> None:
        self._is_looking = True
        asyncio.get_running_loop().call_later(self._every_seconds, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for waiting in [waiting for waiting, at in self._due.items() if at <= now]:
            self.release(waiting)
            waiting.give_up()
        self._is_looking = False
        if self._due:
            self._look_later()
