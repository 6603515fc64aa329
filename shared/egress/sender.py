"""Makes hundreds of calls at once in one thread, on connections that are kept open."""

import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import pycurl

from shared.domain.errors import TidingsError
from shared.egress.call import Call, Outcome
from shared.egress.guard import Network
from shared.egress.line import Line

_KEPT_CONNECTIONS = 1000
_KEPT_LINES = 500
_LINGER_SECONDS = 0.004
_FOLLOWED = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}


class SenderError(TidingsError):
    """The thread that makes the calls has ended; what it had under way may or may not have arrived."""


class Sender:
    """Takes calls, and gives back what came of them. A thread of its own makes them, with libcurl's multi interface."""

    def __init__(self, allow: Sequence[Network] = ()) -> None:
        self._done: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._wire = _Wire(allow, self._done)
        self._wire.start()

    def submit(self, calls: Sequence[Call]) -> None:
        """Begin these calls. Raises SenderError."""
        self._check()
        self._wire.take(calls)

    def collect(self, timeout_seconds: float) -> list[Outcome]:
        """What has ended since the last time; waits until something has, but not longer. Raises SenderError."""
        found: list[Outcome] = []
        with suppress(queue.Empty):
            self._gather(found, self._done.get(timeout=timeout_seconds))
            # What comes in the same moment is worked on together.
            until = time.monotonic() + _LINGER_SECONDS
            while found and (left := until - time.monotonic()) > 0:
                self._gather(found, self._done.get(timeout=left))
        with suppress(queue.Empty):
            while True:
                self._gather(found, self._done.get_nowait())
        self._check()
        return found

    def wake(self) -> None:
        """End the waiting of `collect`; from any thread."""
        self._done.put(None)

    def abandon(self) -> None:
        """Break off all that is under way; nothing more is told of it."""
        self._wire.take(None)

    def close(self) -> None:
        """Break off, and end the thread."""
        self._wire.stop()

    def _gather(self, found: list[Outcome], outcome: Outcome | None) -> None:
        if outcome is not None:
            found.append(outcome)

    def _check(self) -> None:
        if not self._wire.is_alive():
            raise SenderError(f"the thread that sends has ended: {self._wire.fault}") from self._wire.fault


class _Wire(threading.Thread):
    """The thread: told by its selector which sockets have something for libcurl, and when libcurl's next time is."""

    def __init__(self, allow: Sequence[Network], done: queue.SimpleQueue[Outcome | None]) -> None:
        super().__init__(name="egress", daemon=True)
        self.fault: BaseException | None = None
        self._allow = allow
        self._done = done
        self._orders: deque[Sequence[Call] | None] = deque()
        self._stopping = False
        self._busy: dict[pycurl.Curl, Line] = {}
        self._idle: list[Line] = []
        self._due: float | None = None
        self._selector = selectors.DefaultSelector()
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell):
            end.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, _KEPT_CONNECTIONS)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._follow)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    def take(self, calls: Sequence[Call] | None) -> None:
        """Have these calls made; None: have all that is under way broken off."""
        self._orders.append(calls)
        self._ring()

    def stop(self) -> None:
        """Have the thread end, and wait for it."""
        self._stopping = True
        self._ring()
        self.join()

    def run(self) -> None:
        """Until told to stop."""
        try:
            while not self._stopping:
                self._turn()
        except Exception as error:  # noqa: BLE001 - told to whoever comes for the outcomes
            self.fault = error
            self._done.put(None)
        finally:
            self._break_off()
            self._multi.close()
            for line in self._idle:
                line.close()
            self._selector.close()
            self._ear.close()
            self._bell.close()

    def _turn(self) -> None:
        patience = None if self._due is None else max(0.0, self._due - time.monotonic())
        for key, events in self._selector.select(patience):
            if key.fileobj is self._ear:
                self._hear()
            else:
                flags = (events & selectors.EVENT_READ and pycurl.CSELECT_IN) | (
                    events & selectors.EVENT_WRITE and pycurl.CSELECT_OUT
                )
                self._multi.socket_action(key.fd, flags)
        if self._due is not None and time.monotonic() >= self._due:
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._reap()

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass
        while self._orders:
            calls = self._orders.popleft()
            if calls is None:
                self._break_off()
            for call in calls or ():
                self._begin(call)

    def _begin(self, call: Call) -> None:
        line = self._idle.pop() if self._idle else Line(self._allow)
        try:
            line.begin(call)
            self._multi.add_handle(line.curl)
        except (pycurl.error, ValueError) as error:
            reason = f"the request cannot be made: {error}"
            self._done.put(Outcome(key=call.key, http_status=0, latency_ms=0, network_error=reason))
            line.close()
        else:
            self._busy[line.curl] = line

    def _reap(self) -> None:
        more = 1
        while more:
            more, good, bad = self._multi.info_read()
            for curl in good:
                self._end(curl, None)
            for curl, number, words in bad:
                self._end(curl, (number, words))

    def _end(self, curl: pycurl.Curl, error: tuple[int, str] | None) -> None:
        line = self._busy.pop(curl)
        self._multi.remove_handle(curl)
        self._done.put(line.end(error))
        if len(self._idle) < _KEPT_LINES:
            self._idle.append(line)
        else:
            line.close()

    def _break_off(self) -> None:
        for line in self._busy.values():
            self._multi.remove_handle(line.curl)
            line.close()
        self._busy.clear()

    def _follow(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        known = descriptor in self._selector.get_map()
        if what == pycurl.POLL_REMOVE:
            if known:
                self._selector.unregister(descriptor)
        elif known:
            self._selector.modify(descriptor, _FOLLOWED[what])
        else:
            self._selector.register(descriptor, _FOLLOWED[what])

    def _set_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            self._bell.send(b"!")
