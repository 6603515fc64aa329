"""Threads and tasks that run for as long as their process. They are restarted when they fail, and /healthz names them.

A loop handles the errors that it expects. An error that it does not expect, or one in its own error handling, must not
end it silently: the process would look alive and do nothing.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

RESTART_SECONDS: Final = 1.0

log = structlog.get_logger()

_failed: Counter[str] = Counter()


class SupervisedThread(threading.Thread):
    """A daemon thread that calls `loop` again, a second later, until it returns without an error."""

    def __init__(self, name: str, loop: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._loop = loop

    def run(self) -> None:
        """Run the loop to its normal end."""
        while True:
            try:
                return self._loop()
            except BaseException as error:  # noqa: BLE001 - SystemExit would end the thread without a word
                with _reported(self.name, error):
                    time.sleep(RESTART_SECONDS)


async def supervise(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Await the coroutine function `loop` again, a second later, until it returns without an error or is cancelled."""
    while True:
        try:
            return await loop()
        except Exception as error:  # noqa: BLE001 - a bug must not end the loop
            with _reported(name, error):
                await asyncio.sleep(RESTART_SECONDS)


def failed_loops() -> list[str]:
    """Return the names of the loops of this process that have failed and not been restarted yet."""
    return sorted(+_failed)


@contextmanager
def _reported(name: str, error: BaseException) -> Iterator[None]:
    _failed[name] += 1
    log.error("a loop failed and will be restarted", loop=name, exc_info=error)
    try:
        yield
    finally:
        _failed[name] -= 1
