"""A load generator: prepared requests over keep-alive connections, one process, one thread, epoll.

Costs some twenty microseconds of CPU a request, so that most of the machine is left to what is measured.
"""

import contextlib
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

NO_ANSWER = 0
"""The status of a request whose connection ended without one."""

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"
_BUFFER_BYTES = 65536
_TICK_SECONDS = 0.001
_CONNECT_TIMEOUT_SECONDS = 5.0


@dataclass(slots=True)
class Outcome:
    """The outcome of a run: answers by status code, and how long each took, in seconds.

    `cpu_seconds` is the processor time of this process. `exhausted` says that the requests ran out before the time.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    sent: int = 0
    exhausted: bool = False

    @property
    def accepted(self) -> int:
        """Return the number of requests answered 200."""
        return self.statuses[200]

    @property
    def rate(self) -> float:
        """Return the requests answered 200 per second."""
        return self.accepted / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency within which this share (0 to 1) of the answers arrived, in seconds."""
        return percentile(self.latencies, share)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value at or below which this share (0 to 1) of the values is; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    begun_at: float = 0.0
    received: bytes = b""
    busy: bool = False


@dataclass(slots=True, kw_only=True)
class _Drive:
    """One run under way."""

    address: tuple[str, int]
    source: Iterator[bytes]
    selector: selectors.BaseSelector
    rate: float | None
    may_send: Callable[[], bool]
    outcome: Outcome
    idle: list[_Connection] = field(default_factory=list)
    busy: int = 0


def run(
    address: tuple[str, int],
    requests: Iterable[bytes],
    *,
    connections: int,
    seconds: float | None = None,
    rate: float | None = None,
    may_send: Callable[[], bool] = lambda: True,
    outcome: Outcome | None = None,
) -> Outcome:
    """Send each request once, as fast as they are answered or at `rate` a second, for at most `seconds`.

    At a rate, latency counts from when a request was due. While `may_send` is false, nothing new is sent: it is
    called before every round, and must be quick. `outcome` is updated during the run, for callers that watch.
    """
    begin, cpu_begin = time.perf_counter(), time.process_time()
    with selectors.DefaultSelector() as selector:
        drive = _Drive(
            address=address,
            source=iter(requests),
            selector=selector,
            rate=rate,
            may_send=may_send,
            outcome=outcome or Outcome(),
        )
        try:
            for _ in range(connections):
                _connect(drive)
            _run(drive, begin, begin + seconds if seconds else None)
        finally:
            for key in list(selector.get_map().values()):
                key.data.socket.close()
    drive.outcome.seconds = time.perf_counter() - begin
    drive.outcome.cpu_seconds = time.process_time() - cpu_begin
    return drive.outcome


def _run(drive: _Drive, begin: float, until: float | None) -> None:
    outcome, idle, select = drive.outcome, drive.idle, drive.selector.select
    ended = False
    while True:
        now = time.perf_counter()
        ended = ended or (until is not None and now >= until)
        if idle and not ended and drive.may_send():
            due = len(idle)
            if drive.rate is not None:
                due = min(due, int((now - begin) * drive.rate) - outcome.sent)
            for _ in range(due):
                request = next(drive.source, None)
                if request is None:
                    ended = True
                    outcome.exhausted = until is not None
                    break
                begun_at = now if drive.rate is None else begin + outcome.sent / drive.rate
                _send(drive, idle.pop(), request, begun_at)
        if ended and not drive.busy:
            return
        for key, _ in select(_TICK_SECONDS if idle else 0.1):
            _receive(drive, key.data)


def _send(drive: _Drive, connection: _Connection, request: bytes, begun_at: float) -> None:
    connection.begun_at = begun_at
    connection.busy = True
    drive.busy += 1
    drive.outcome.sent += 1
    try:
        sent = connection.socket.send(request)
        if sent < len(request):  # larger than the socket's buffer
            connection.socket.setblocking(True)
            connection.socket.sendall(memoryview(request)[sent:])
            connection.socket.setblocking(False)
    except OSError:
        _lose(drive, connection)


def _receive(drive: _Drive, connection: _Connection) -> None:
    """Take what has come, and the connection back when the answer is whole."""
    try:
        chunk = connection.socket.recv(_BUFFER_BYTES)
    except BlockingIOError:
        return
    except OSError:
        chunk = b""
    if not chunk:
        _lose(drive, connection)
        return
    received = connection.received + chunk if connection.received else chunk
    if not is_whole(received):
        connection.received = received
        return
    outcome = drive.outcome
    outcome.statuses[int(received[9:12])] += 1
    outcome.latencies.append(time.perf_counter() - connection.begun_at)
    connection.received = b""
    connection.busy = False
    drive.busy -= 1
    drive.idle.append(connection)


def is_whole(received: bytes) -> bool:
    """Return whether these bytes are a whole answer, as long as its Content-Length says."""
    head_end = received.find(_END_OF_HEAD)
    if head_end < 0:
        return False
    head = received[:head_end].lower()
    at = head.find(_LENGTH)
    length = int(head[at + len(_LENGTH) :].partition(b"\r")[0]) if at >= 0 else 0
    return len(received) >= head_end + len(_END_OF_HEAD) + length


def _connect(drive: _Drive) -> None:
    connected = socket.create_connection(drive.address, timeout=_CONNECT_TIMEOUT_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setblocking(False)
    connection = _Connection(connected)
    drive.selector.register(connected, selectors.EVENT_READ, connection)
    drive.idle.append(connection)


def _lose(drive: _Drive, connection: _Connection) -> None:
    """Replace a connection that the server closed. An answer that was awaited never came."""
    drive.selector.unregister(connection.socket)
    connection.socket.close()
    with contextlib.suppress(ValueError):
        drive.idle.remove(connection)
    if connection.busy:
        connection.busy = False
        drive.busy -= 1
        drive.outcome.statuses[NO_ANSWER] += 1
    _connect(drive)
