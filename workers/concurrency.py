"""How many tasks of a kind run at once in a process: those that wait for other people's servers leave room."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Semaphore


class ConcurrencyLimit:
    """At most so many at once; who comes when all are taken leaves the work to those who have one."""

    def __init__(self, most: int) -> None:
        self._left = Semaphore(most)

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Whether there was a turn to be had, which lasts as long as this."""
        is_mine = self._left.acquire(blocking=False)
        try:
            yield is_mine
        finally:
            if is_mine:
                self._left.release()
