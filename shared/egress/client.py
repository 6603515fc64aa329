"""Makes hundreds of HTTP calls at once in one thread, on connections that are kept open."""

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
from shared.egress.dns import Lookup, LookupResult, PendingCall, PendingLookups, Resolver, look_up
from shared.egress.handle import CurlHandle
from shared.egress.ssrf import Network
from shared.egress.types import Call, Outcome
from shared.errors import TidingsError

_MAX_OPEN_CONNECTIONS = 1000
_MAX_IDLE_HANDLES = 500
_BATCH_SECONDS = 0.004
_SELECTOR_EVENTS = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}


class EgressClientError(TidingsError):
    """The thread that makes the calls has ended. Calls in flight may or may not have arrived."""


class EgressClient:
    """Accepts calls and returns their outcomes. A thread makes the calls with libcurl's multi interface."""

    def __init__(self, allow: Sequence[Network] = (), lookup: Lookup = look_up) -> None:
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._thread = _CurlThread(allow, lookup, self._outcomes)
        self._thread.start()

    def submit(self, calls: Sequence[Call]) -> None:
        """Start these calls; their timeouts run from now. Raises EgressClientError."""
        self._require_thread()
        self._thread.start_calls(calls)

    def collect(self, timeout_seconds: float) -> list[Outcome]:
        """Return the outcomes since the last call; wait up to the timeout for the first. Raises EgressClientError."""
        found: list[Outcome | None] = []
        with suppress(queue.Empty):
            found.append(self._outcomes.get(timeout=timeout_seconds))
            # Outcomes that arrive at nearly the same time are returned together.
            until = time.monotonic() + _BATCH_SECONDS
            while any(found) and (left := until - time.monotonic()) > 0:
                found.append(self._outcomes.get(timeout=left))
        with suppress(queue.Empty):
            while True:
                found.append(self._outcomes.get_nowait())
        self._require_thread()
        return [outcome for outcome in found if outcome is not None]

    def wake(self) -> None:
        """End the wait of `collect`; from any thread."""
        self._outcomes.put(None)

    def abandon(self) -> None:
        """Cancel every call in flight; they have no outcome."""
        self._thread.cancel_calls()

    def close(self) -> None:
        """Cancel every call in flight and end the thread."""
        self._thread.stop()

    def _require_thread(self) -> None:
        if not self._thread.is_alive():
            raise EgressClientError(f"the sending thread has ended: {self._thread.fault}") from self._thread.fault


class _CurlThread(threading.Thread):
    """The event loop: the selector reports sockets that are ready, and libcurl says when its next timer is due."""

    def __init__(self, allow: Sequence[Network], lookup: Lookup, outcomes: queue.SimpleQueue[Outcome | None]) -> None:
        super().__init__(name="egress", daemon=True)
        self.fault: BaseException | None = None
        self._allow = allow
        self._outcomes = outcomes
        self._commands: deque[Callable[[], None]] = deque()
        self._resolver = Resolver(lambda result: self._run_in_thread(partial(self._resume, result)), lookup)
        self._pending = PendingLookups()
        self._stopping = False
        self._busy: dict[pycurl.Curl, CurlHandle] = {}
        self._idle: list[CurlHandle] = []
        self._timer_at: float | None = None
        self._selector = selectors.DefaultSelector()
        self._wakeup_r, self._wakeup_w = socket.socketpair()
        for end in (self._wakeup_r, self._wakeup_w):
            end.setblocking(False)
        self._selector.register(self._wakeup_r, selectors.EVENT_READ)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, _MAX_OPEN_CONNECTIONS)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)

    def start_calls(self, calls: Sequence[Call]) -> None:
        """Start these calls; their timeouts run from now."""
        self._run_in_thread(partial(self._start_calls, calls, time.monotonic()))

    def cancel_calls(self) -> None:
        """Cancel every call in flight."""
        self._run_in_thread(self._cancel_calls)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping = True
        self._wake()
        self.join()

    def run(self) -> None:
        """Run until `stop` is called."""
        try:
            while not self._stopping:
                self._run_once()
        except Exception as error:  # noqa: BLE001 - `collect` raises it
            self.fault = error
            self._outcomes.put(None)
        finally:
            self._resolver.close()
            self._cancel_calls()
            self._multi.close()
            for handle in self._idle:
                handle.close()
            self._selector.close()
            self._wakeup_r.close()
            self._wakeup_w.close()

    def _run_once(self) -> None:
        due = [at for at in (self._timer_at, self._pending.next_deadline()) if at is not None]
        for key, events in self._selector.select(max(0.0, min(due) - time.monotonic()) if due else None):
            if key.fileobj is self._wakeup_r:
                with suppress(BlockingIOError):
                    while self._wakeup_r.recv(4096):
                        pass
                while self._commands:
                    self._commands.popleft()()
            else:
                flags = (events & selectors.EVENT_READ and pycurl.CSELECT_IN) | (
                    events & selectors.EVENT_WRITE and pycurl.CSELECT_OUT
                )
                self._multi.socket_action(key.fd, flags)
        if self._timer_at is not None and time.monotonic() >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for waiting in self._pending.expire(time.monotonic()):
            self._fail_lookup(waiting, f" within {waiting.call.timeout_seconds:g} s")
        more = 1
        while more:
            more, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._finish(curl, None)
            for curl, number, message in failed:
                self._finish(curl, (number, message))

    def _start_calls(self, calls: Sequence[Call], since: float) -> None:
        for call in calls:
            target = ssrf.name_to_resolve(call.url)
            if target is None:
                self._begin(call)
                continue
            waiting = PendingCall(call=call, name=target[0], port=target[1], since=since)
            result = self._resolver.find(waiting.name)
            if result is None:
                self._pending.add(waiting)
            else:
                self._begin_resolved(waiting, result)

    def _resume(self, result: LookupResult) -> None:
        for waiting in self._pending.resolve(result.name):
            self._begin_resolved(waiting, result)

    def _begin_resolved(self, waiting: PendingCall, result: LookupResult) -> None:
        if result.addresses:
            resolve = f"{waiting.name}:{waiting.port}:{','.join(result.addresses)}"
            self._begin(waiting.call, resolve, time.monotonic() - waiting.since)
        else:
            self._fail_lookup(waiting, f": {result.error}")

    def _fail_lookup(self, waiting: PendingCall, reason: str) -> None:
        latency_ms = round((time.monotonic() - waiting.since) * 1000)
        error = f"the name {waiting.name} could not be resolved{reason}"
        self._outcomes.put(Outcome(key=waiting.call.key, http_status=0, latency_ms=latency_ms, network_error=error))

    def _begin(self, call: Call, resolve: str = "", waited_seconds: float = 0) -> None:
        handle = self._idle.pop() if self._idle else CurlHandle(self._allow)
        try:
            handle.prepare(call, resolve, waited_seconds)
            self._multi.add_handle(handle.curl)
        except (pycurl.error, ValueError) as error:
            reason = f"the request cannot be made: {error}"
            self._outcomes.put(Outcome(key=call.key, http_status=0, latency_ms=0, network_error=reason))
            handle.close()
        else:
            self._busy[handle.curl] = handle

    def _finish(self, curl: pycurl.Curl, error: tuple[int, str] | None) -> None:
        handle = self._busy.pop(curl)
        self._multi.remove_handle(curl)
        self._outcomes.put(handle.finish(error))
        if len(self._idle) < _MAX_IDLE_HANDLES:
            self._idle.append(handle)
        else:
            handle.close()

    def _cancel_calls(self) -> None:
        self._pending.clear()
        for handle in self._busy.values():
            self._multi.remove_handle(handle.curl)
            handle.close()
        self._busy.clear()

    def _on_socket(self, event: int, descriptor: int, _multi: object, _data: object) -> None:
        registered = descriptor in self._selector.get_map()
        if event == pycurl.POLL_REMOVE:
            if registered:
                self._selector.unregister(descriptor)
        elif registered:
            self._selector.modify(descriptor, _SELECTOR_EVENTS[event])
        else:
            self._selector.register(descriptor, _SELECTOR_EVENTS[event])

    def _on_timer(self, milliseconds: int) -> None:
        self._timer_at = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _run_in_thread(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # the buffer is full of earlier wake-ups, or the thread has ended
            self._wakeup_w.send(b"!")
