"""Resolves names to addresses in threads of this process, and keeps the calls that wait for them.

libcurl looks names up in about twenty threads, and a name server that does not answer blocks each of them long after
the call has ended. One subscriber with such a name could stop the calls to all others. Here a name that hangs blocks
one thread, however many calls wait for it.
"""

import heapq
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.egress.types import Call

Lookup = Callable[[str], Sequence[str]]
"""From a name to its addresses, best first. Raises OSError or UnicodeError, and may block for any time."""

RESOLVED_TTL_SECONDS = 20.0
_FAILED_TTL_SECONDS = 5.0
_MAX_THREADS = 200
MAX_COLD_THREADS = 150
"""For names that have not been resolved before, so that made-up names leave threads for known ones."""
MAX_CACHED = 10_000
_MAX_ADDRESSES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupResult:
    """The result of a lookup, valid until `until` (monotonic). Without addresses, `error` gives the reason."""

    name: str
    until: float
    addresses: Sequence[str] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCall:
    """A call that waits for the address of its name since `since` (monotonic)."""

    call: Call
    name: str
    port: int
    since: float

    @property
    def deadline(self) -> float:
        """When the whole call must be over, the lookup included."""
        return self.since + self.call.timeout_seconds


class PendingLookups:
    """Calls that wait for a lookup, each until its deadline. For use by one thread."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[UUID, PendingCall]] = {}
        self._deadlines: list[tuple[float, UUID, str]] = []  # includes calls that wait no longer

    def add(self, pending: PendingCall) -> None:
        """Add a call."""
        self._by_name.setdefault(pending.name, {})[pending.call.key] = pending
        heapq.heappush(self._deadlines, (pending.deadline, pending.call.key, pending.name))

    def resolve(self, name: str) -> Sequence[PendingCall]:
        """Remove and return the calls that wait for this name."""
        return list(self._by_name.pop(name, {}).values())

    def next_deadline(self) -> float | None:
        """Return when `expire` is due next."""
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now: float) -> Sequence[PendingCall]:
        """Remove and return the calls whose deadline has passed."""
        late: list[PendingCall] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, key, name = heapq.heappop(self._deadlines)
            pending = self._by_name.get(name, {}).pop(key, None)
            if pending is not None:
                late.append(pending)
        return late

    def clear(self) -> None:
        """Remove every call."""
        self._by_name.clear()
        self._deadlines.clear()


def look_up(name: str) -> Sequence[str]:
    """Return the addresses that this machine's resolver knows. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def look_up_within(name: str, seconds: float, lookup: Lookup = look_up) -> Sequence[str]:
    """Return the same within this time. Raises OSError (TimeoutError too) or UnicodeError."""
    answers: queue.SimpleQueue[LookupResult] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_resolve(name, lookup)), name="lookup", daemon=True).start()
    try:
        result = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if not result.addresses:
        raise OSError(result.error)
    return result.addresses


class Resolver:
    """Looks each name up once at a time and caches the results for some seconds.

    Other threads call `on_result` once for each lookup that `find` began. It must neither block nor raise.
    """

    def __init__(self, on_result: Callable[[LookupResult], None], lookup: Lookup = look_up) -> None:
        self._on_result = on_result
        self._lookup = lookup
        self._lock = threading.Lock()
        self._cache: dict[str, LookupResult] = {}
        self._in_flight: set[str] = set()
        self._warm: deque[str] = deque()  # names that had an address before; they go first
        self._cold: deque[str] = deque()
        self._threads = 0
        self._closed = False

    def find(self, name: str) -> LookupResult | None:
        """Return the cached result. None: a lookup is in flight, and `on_result` will be called."""
        with self._lock:
            cached = self._cache.get(name)
            if cached is not None and time.monotonic() < cached.until:
                return cached
            if name not in self._in_flight:
                self._in_flight.add(name)
                (self._warm if cached is not None and cached.addresses else self._cold).append(name)
            next_name = self._take_name()
        if next_name is not None:
            try:
                threading.Thread(target=self._work, args=(next_name,), name="lookup", daemon=True).start()
            except RuntimeError as error:  # the machine has no more threads
                self._finish(LookupResult(name=next_name, until=time.monotonic(), error=str(error)))
        return None

    def close(self) -> None:
        """Report no more results. A thread that hangs ends when its lookup does."""
        with self._lock:
            self._closed = True
            self._warm.clear()
            self._cold.clear()

    def _work(self, name: str | None) -> None:
        while name is not None:
            self._finish(_resolve(name, self._lookup))
            with self._lock:
                name = self._take_name()

    def _take_name(self) -> str | None:
        """Return the next name if a thread may look it up now, and count that thread. The caller holds the lock."""
        if self._warm and self._threads < _MAX_THREADS:
            self._threads += 1
            return self._warm.popleft()
        if self._cold and self._threads < MAX_COLD_THREADS:
            self._threads += 1
            return self._cold.popleft()
        return None

    def _finish(self, result: LookupResult) -> None:
        with self._lock:
            self._threads -= 1
            self._in_flight.discard(result.name)
            self._cache.pop(result.name, None)  # so that the oldest entries come first
            self._cache[result.name] = result
            if len(self._cache) > MAX_CACHED:
                del self._cache[next(iter(self._cache))]
            if not self._closed:
                self._on_result(result)


def _resolve(name: str, lookup: Lookup) -> LookupResult:
    error = "it has no address"
    addresses: Sequence[str] = ()
    try:
        # No host on the internet has an address with a zone, and libcurl cannot parse one.
        addresses = [address for address in lookup(name) if "%" not in address][:_MAX_ADDRESSES]
    except Exception as failure:  # noqa: BLE001 - without a result the name would stay in flight for ever
        error = getattr(failure, "strerror", None) or str(failure)
    ttl = RESOLVED_TTL_SECONDS if addresses else _FAILED_TTL_SECONDS
    return LookupResult(name=name, until=time.monotonic() + ttl, addresses=addresses, error="" if addresses else error)
