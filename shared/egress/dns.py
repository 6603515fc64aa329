"""From names to addresses, in threads of our own.

libcurl looks names up in about twenty threads, and a name server that says nothing holds each of them long after the
call has ended; so whoever has such a name could stop the calls to everybody else. Here a name that hangs costs one
thread, however many calls wait for it.
"""

import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Lookup = Callable[[str], Sequence[str]]
"""From a name to its addresses, best first. Raises OSError or UnicodeError, and may take as long as it likes."""

_KNOWN_SECONDS = 20.0
_UNKNOWN_SECONDS = 5.0
_MOST_AT_ONCE = 200
_MOST_STRANGERS_AT_ONCE = 150
"""Of these, looked up for names that had no answer yet: whoever makes up names that hang leaves room for the others."""
_MOST_KEPT = 10_000
_MOST_ADDRESSES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a lookup came to, and until when that is good (monotonic); without addresses, `error` says why."""

    name: str
    until: float
    addresses: Sequence[str] = ()
    error: str = ""


def look_up(name: str) -> Sequence[str]:
    """The addresses that this machine's resolver gives. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def look_up_within(name: str, seconds: float, lookup: Lookup = look_up) -> Sequence[str]:
    """The same, waited for no longer than this. Raises OSError (TimeoutError too) or UnicodeError."""
    answers: queue.SimpleQueue[Found] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_ask(name, lookup)), name="lookup", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if not found.addresses:
        raise OSError(found.error)
    return found.addresses


class Resolver:
    """Looks names up, each once at a time, and remembers what it heard for some seconds.

    `tell` is called by other threads, once for each lookup that `find` began, and must neither wait nor raise.
    """

    def __init__(self, tell: Callable[[Found], None], lookup: Lookup = look_up) -> None:
        self._tell = tell
        self._lookup = lookup
        self._lock = threading.Lock()
        self._known: dict[str, Found] = {}
        self._under_way: set[str] = set()
        self._acquainted: deque[str] = deque()
        self._strangers: deque[str] = deque()
        self._threads = 0
        self._closed = False

    def find(self, name: str) -> Found | None:
        """What is known of a name; None: it is being looked up, and will be told."""
        with self._lock:
            known = self._known.get(name)
            if known is not None and time.monotonic() < known.until:
                return known
            if name not in self._under_way:
                self._under_way.add(name)
                (self._acquainted if known is not None and known.addresses else self._strangers).append(name)
        self._send_out()
        return None

    def close(self) -> None:
        """Tell nothing more. Threads that hang end when their lookups do."""
        with self._lock:
            self._closed = True
            self._acquainted.clear()
            self._strangers.clear()

    def _send_out(self) -> None:
        with self._lock:
            name = self._next()
            self._threads += name is not None
        if name is None:
            return
        try:
            threading.Thread(target=self._work, args=(name,), name="lookup", daemon=True).start()
        except RuntimeError as error:  # the machine has no more threads
            self._end(Found(name=name, until=time.monotonic(), error=str(error)))

    def _work(self, name: str | None) -> None:
        while name is not None:
            self._end(_ask(name, self._lookup))
            with self._lock:
                name = self._next()
                self._threads += name is not None

    def _next(self) -> str | None:
        """Whose turn it is, if there is room; the lock is held."""
        if self._acquainted and self._threads < _MOST_AT_ONCE:
            return self._acquainted.popleft()
        if self._strangers and self._threads < _MOST_STRANGERS_AT_ONCE:
            return self._strangers.popleft()
        return None

    def _end(self, found: Found) -> None:
        with self._lock:
            self._threads -= 1
            self._under_way.discard(found.name)
            self._known.pop(found.name, None)  # so that the oldest are in front
            self._known[found.name] = found
            if len(self._known) > _MOST_KEPT:
                del self._known[next(iter(self._known))]
            if not self._closed:
                self._tell(found)


def _ask(name: str, lookup: Lookup) -> Found:
    error = "it has no address"
    addresses: Sequence[str] = ()
    try:
        # An address with a zone is nobody's to reach, and libcurl would stumble over it.
        addresses = [address for address in lookup(name) if "%" not in address][:_MOST_ADDRESSES]
    except Exception as failure:  # noqa: BLE001 - a name that is never told of would be under way for ever
        error = getattr(failure, "strerror", None) or str(failure)
    good_for = _KNOWN_SECONDS if addresses else _UNKNOWN_SECONDS
    return Found(name=name, until=time.monotonic() + good_for, addresses=addresses, error="" if addresses else error)
