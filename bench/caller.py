"""One connection on which requests are sent one after the other, when a single answer is what matters."""

import socket
import time
from types import TracebackType
from typing import NamedTuple, Self

from bench import load

_TIMEOUT_SECONDS = 10.0


class Answer(NamedTuple):
    """Status (0: none), head and body, and seconds from sending to the end of the answer."""

    status: int
    head: bytes
    body: bytes
    seconds: float

    @property
    def seconds_inside(self) -> float:
        """Return the application's own duration, from Server-Timing."""
        return float(self.head.lower().partition(b"\r\nserver-timing: app;dur=")[2].partition(b"\r")[0]) / 1000


class Caller:
    """A keep-alive connection, which is opened again when the server has closed it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, request: bytes) -> Answer:
        """Send a request as it goes over the wire, and wait for the answer."""
        begin = time.perf_counter()
        try:
            received = self._exchange(request)
        except OSError:
            self.close()
            return Answer(load.NO_ANSWER, b"", b"", time.perf_counter() - begin)
        head, _, body = received.partition(b"\r\n\r\n")
        return Answer(int(received[9:12]), head, body, time.perf_counter() - begin)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=_TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        received = b""
        while not load.is_whole(received):
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            received += chunk
        return received


def get(path: str, host: str, bearer: str) -> bytes:
    """Return a GET as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode()
