"""Makes hundreds of calls at once in one thread, on connections that are kept open."""

import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import pycurl

from shared.egress import ssrf
from shared.egress.dns import Found, Lookup, Resolver, look_up
from shared.egress.handle import Line
from shared.egress.pending_lookups import Waiting, WaitingRoom
from shared.egress.ssrf import Network
from shared.egress.types import Call, Outcome
from shared.errors import TidingsError

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

    def __init__(self, allow: Sequence[Network] = (), lookup: Lookup = look_up) -> None:
        self._done: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._wire = _Wire(allow, lookup, self._done)
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
        self._wire.abandon()

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

    def __init__(self, allow: Sequence[Network], lookup: Lookup, done: queue.SimpleQueue[Outcome | None]) -> None:
        super().__init__(name="egress", daemon=True)
        self.fault: BaseException | None = None
        self._allow = allow
        self._done = done
        self._orders: deque[Callable[[], None]] = deque()
        self._resolver = Resolver(self._hear_of, lookup)
        self._waiting = WaitingRoom()
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

    def take(self, calls: Sequence[Call]) -> None:
        """Have these calls made; their time runs from now."""
        self._order(partial(self._admit, calls, time.monotonic()))

    def abandon(self) -> None:
        """Have all that is under way broken off."""
        self._order(self._break_off)

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
            self._resolver.close()
            self._break_off()
            self._multi.close()
            for line in self._idle:
                line.close()
            self._selector.close()
            self._ear.close()
            self._bell.close()

    def _turn(self) -> None:
        for key, events in self._selector.select(self._patience()):
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
        for waiting in self._waiting.send_away(time.monotonic()):
            self._give_up(waiting, f" within {waiting.call.timeout_seconds:g} s")
        self._reap()

    def _patience(self) -> float | None:
        times = [due for due in (self._due, self._waiting.next_deadline()) if due is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass
        while self._orders:
            self._orders.popleft()()

    def _admit(self, calls: Sequence[Call], since: float) -> None:
        for call in calls:
            named = ssrf.name_in(call.url)
            if named is None:
                self._begin(call)
                continue
            waiting = Waiting(call=call, name=named[0], port=named[1], since=since)
            found = self._resolver.find(waiting.name)
            if found is None:
                self._waiting.admit(waiting)
            else:
                self._let_go(waiting, found)

    def _hear_of(self, found: Found) -> None:
        """Called by the threads of the resolver."""
        self._order(partial(self._call_in, found))

    def _call_in(self, found: Found) -> None:
        for waiting in self._waiting.call_in(found.name):
            self._let_go(waiting, found)

    def _let_go(self, waiting: Waiting, found: Found) -> None:
        if found.addresses:
            place = f"{waiting.name}:{waiting.port}:{','.join(found.addresses)}"
            self._begin(waiting.call, place, time.monotonic() - waiting.since)
        else:
            self._give_up(waiting, f": {found.error}")

    def _give_up(self, waiting: Waiting, why: str) -> None:
        latency_ms = round((time.monotonic() - waiting.since) * 1000)
        reason = f"the name {waiting.name} could not be resolved{why}"
        self._done.put(Outcome(key=waiting.call.key, http_status=0, latency_ms=latency_ms, network_error=reason))

    def _begin(self, call: Call, place: str = "", waited_seconds: float = 0) -> None:
        line = self._idle.pop() if self._idle else Line(self._allow)
        try:
            line.begin(call, place, waited_seconds)
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
        self._waiting.clear()
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

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        self._ring()

    def _ring(self) -> None:
        with suppress(OSError):  # it has been rung already, or nobody hears it any more
            self._bell.send(b"!")
