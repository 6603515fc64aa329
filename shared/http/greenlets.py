"""Runs synchronous requests on an event loop.

Each request runs in a greenlet. While the request waits, its greenlet is suspended, and the loop serves others.
SQLAlchemy's asyncio extension works the same way. Under a threaded WSGI server, the same code blocks its thread.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from greenlet import getcurrent, greenlet

from shared.http.timeouts import TimeoutWheel

_MAX_IDLE = 256

_T = TypeVar("_T")


class _Worker(greenlet):
    """A greenlet that runs one call after another, and switches to its parent, the loop, after each.

    It switches with an awaitable while the call waits, and with None when the call has ended.
    """

    call: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
    result: Any = None
    failure: BaseException | None = None

    def run(self) -> None:
        """Run calls for as long as the greenlet lives."""
        while True:
            self._run_once()
            self.parent.switch(None)  # type: ignore[union-attr]

    def _run_once(self) -> None:
        if self.call is None:
            return
        (function, args), self.call = self.call, None
        try:
            self.result = function(*args)
        except BaseException as error:  # noqa: BLE001 - the coroutine that started the call raises it again
            self.failure = error

    def take(self) -> Any:
        """Return the result of the call, or raise its error, and keep no reference to either."""
        result, failure, self.result, self.failure = self.result, self.failure, None, None
        try:
            if failure is not None:
                raise failure
            return result
        finally:
            del failure  # its traceback refers to this frame


class GreenletPool:
    """The greenlets of one event loop. They are reused: creating one takes 12 µs, reusing one takes 1 µs."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    async def run(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call the function in a greenlet of the running loop, and return its result."""
        worker = self._idle.pop() if self._idle else _Worker()
        worker.call = function, args
        awaitable = worker.switch()
        while awaitable is not None:
            try:
                value = await awaitable
            except BaseException as error:  # noqa: BLE001 - raised where the greenlet waits
                awaitable = worker.throw(error)
            else:
                awaitable = worker.switch(value)
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(worker)
        return worker.take()  # type: ignore[no-any-return]


def is_on_loop() -> bool:
    """Return whether this code runs in a greenlet of an event loop, where it must not block."""
    return isinstance(getcurrent(), _Worker)


def wait_for(awaitable: Awaitable[_T]) -> _T:
    """Suspend the current greenlet until the awaitable is done, and return its result."""
    return getcurrent().parent.switch(awaitable)  # type: ignore[union-attr, no-any-return]


def run_in_thread(function: Callable[[], _T]) -> _T:
    """Call a slow function: in another thread if this one runs an event loop, otherwise in this one."""
    if not is_on_loop():
        return function()
    return wait_for(asyncio.get_running_loop().run_in_executor(None, function))


class Pause:
    """Lets requests wait, at most `limit` of them at once. Further ones do not wait."""

    def __init__(self, limit: int) -> None:
        self._places = threading.BoundedSemaphore(limit)

    def wait(self, seconds: float) -> bool:
        """Wait, if there is room; return whether it waited."""
        if not seconds or not self._places.acquire(blocking=False):
            return False
        try:
            if is_on_loop():
                wait_for(asyncio.sleep(seconds))
            else:
                time.sleep(seconds)
        finally:
            self._places.release()
        return True


class Completion(Generic[_T]):
    """The outcome of work that another thread does for a request. The waiting request must create it."""

    __slots__ = ("_future", "_is_set", "_lock", "_outcome", "_timeouts", "is_abandoned", "loop")

    def __init__(self, timeouts: "TimeoutWheel[Completion[Any]]") -> None:
        self._timeouts = timeouts
        self._outcome: _T | Exception | None = None
        self._is_set = False
        self.is_abandoned = False
        self.loop: asyncio.AbstractEventLoop | None = None
        if is_on_loop():
            self.loop = asyncio.get_running_loop()
            self._future: asyncio.Future[None] = self.loop.create_future()
        else:
            self._lock = threading.Lock()
            self._lock.acquire()

    def wait(self, seconds: float) -> _T:
        """Return the outcome, or raise it if it is an error. Raises TimeoutError, after which it is abandoned."""
        try:
            if self.loop is None:
                if not self._lock.acquire(timeout=seconds):
                    raise TimeoutError
            else:
                self._timeouts.set(self, self.loop.time() + seconds)
                wait_for(self._future)
        except BaseException:
            self.is_abandoned = True
            raise
        finally:
            self._timeouts.remove(self)
        outcome = self._outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome  # type: ignore[return-value]

    def cancel(self) -> None:
        """End the wait on the event loop after the timeout. An outcome that was set in time is still returned."""
        if self._is_set:
            self.wake()
        elif not self._future.done():
            self._future.set_exception(TimeoutError())

    def set_outcome(self, outcome: _T | Exception) -> None:
        """Set the outcome, and wake the request if it waits in a thread. On a loop, call `wake` afterwards."""
        self._outcome = outcome
        self._is_set = True
        if self.loop is None:
            self._lock.release()

    def wake(self) -> None:
        """Wake the request, on its loop."""
        if not self._future.done():
            self._future.set_result(None)


def complete(outcomes: Iterable[tuple[Completion[_T], _T | Exception]]) -> None:
    """Set the outcomes of requests and wake them.

    Requests of one event loop are woken together: waking a loop from another thread takes half as long as a request.
    """
    on_loops: dict[asyncio.AbstractEventLoop, list[Completion[_T]]] = {}
    for completion, outcome in outcomes:
        completion.set_outcome(outcome)
        if completion.loop is not None:
            on_loops.setdefault(completion.loop, []).append(completion)
    for loop, completions in on_loops.items():
        with suppress(RuntimeError):  # the loop is closed, so no request waits any more
            loop.call_soon_threadsafe(_wake_all, completions)


def _wake_all(completions: Iterable[Completion[Any]]) -> None:
    for completion in completions:
        completion.wake()
