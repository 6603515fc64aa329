"""The bodies of requests: nobody who sends slowly holds what others need.

Small ones are read on the event loop, before a thread is taken. Large ones are read by the thread, once the caller has
been let in, and only a few at once.
"""

import asyncio
import io
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import ClientDisconnected

from api.core.errors import ProblemError
from shared.asgi.protocol import Receive, Scope

_RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is read, and how long it may take.

    Bodies of at most `small_bytes` are read before a thread is taken, together never more than `most_held_bytes` of
    them; of larger ones `most_large` at once. A body has `grace_seconds`, and besides as long as it would take at
    `bytes_per_second`.
    """

    small_bytes: int = 1 << 20
    most_held_bytes: int = 128 << 20
    most_large: int = 4
    grace_seconds: float = 30.0
    bytes_per_second: int = 256 << 10


class Bodies:
    """All that are under way. But for the streams, everything here happens on the event loop."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._held = 0
        self._room = threading.BoundedSemaphore(self._bounds.most_large)

    async def begin(self, scope: Scope, receive: Receive) -> "Body":
        """The body of a request, read as far as it is small. Raises ClientDisconnected."""
        is_there, length = _announced(scope["headers"])
        body = Body()
        if not is_there:
            return body
        pieces = _Pieces(receive, length, self._bounds)
        if length is not None and length > self._bounds.small_bytes:
            body.stream = body.large = _Large(b"", pieces, self._room)
            return body
        try:
            await self._read(body, pieces)
        except ProblemError as problem:  # the application says so, to whom it lets in
            body.stream = _Refused(problem)
        except ClientDisconnected:
            self.end(body)
            raise
        return body

    def end(self, body: "Body") -> None:
        """Forget a body: its request is answered."""
        self._held -= body.held
        body.held = 0
        if body.large is not None:
            body.large.leave()

    async def _read(self, body: "Body", pieces: "_Pieces") -> None:
        read: list[bytes] = []
        while not pieces.is_over and pieces.received <= self._bounds.small_bytes:
            piece = await pieces.next()
            read.append(piece)
            self._held += len(piece)
            body.held += len(piece)
            if self._held > self._bounds.most_held_bytes:
                raise _busy()
        beginning = read[0] if len(read) == 1 else b"".join(read)
        if pieces.is_over:
            body.stream = io.BytesIO(beginning)
        else:  # its length was not told
            body.stream = body.large = _Large(beginning, pieces, self._room)


class Body:
    """The body of one request. `stream` is what the application reads; `held` bytes of it are in memory."""

    def __init__(self) -> None:
        self.stream: io.BytesIO | _Large | _Refused = io.BytesIO()
        self.held = 0
        self.large: _Large | None = None


class _Pieces:
    """A body as it comes, on the event loop."""

    def __init__(self, receive: Receive, length: int | None, bounds: Bounds) -> None:
        self.received = 0
        self.is_over = False
        self.loop = asyncio.get_running_loop()
        self._receive = receive
        self._length = length
        self._bounds = bounds
        self._begun_at = self.loop.time()

    async def next(self) -> bytes:
        """The next piece, which may be empty. Raises ProblemError (408), ClientDisconnected."""
        granted = self._bounds.grace_seconds + self.received / self._bounds.bytes_per_second
        try:
            async with asyncio.timeout_at(self._begun_at + granted):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError(
                408, f"The body took too long to come: {self.received} bytes in {granted:.0f} s."
            ) from None
        piece: bytes = message.get("body", b"")
        self.received += len(piece)
        self.is_over = not message.get("more_body", False)
        if message["type"] == "http.disconnect" or (
            self.is_over and self._length is not None and self.received != self._length
        ):
            raise ClientDisconnected
        return piece


class _Large(io.RawIOBase):
    """A body that is fetched when it is read, and only then. Read by one thread."""

    def __init__(self, beginning: bytes, pieces: _Pieces, room: threading.Semaphore) -> None:
        self._piece = memoryview(beginning)
        self._pieces = pieces
        self._room = room
        self._is_in = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for what comes next. Raises ProblemError (408, 503), ClientDisconnected."""
        self._enter()
        while not self._piece and not self._pieces.is_over:
            coming = asyncio.run_coroutine_threadsafe(self._pieces.next(), self._pieces.loop)
            self._piece = memoryview(coming.result())
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    def leave(self) -> None:
        """Let another in."""
        if self._is_in:
            self._is_in = False
            self._room.release()

    def _enter(self) -> None:
        if not self._is_in:
            if not self._room.acquire(blocking=False):
                raise _busy()
            self._is_in = True


class _Refused(io.RawIOBase):
    """A body that was not read."""

    def __init__(self, problem: ProblemError) -> None:
        self._problem = problem

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, _buffer: Any) -> int:
        """Raise ProblemError."""
        raise self._problem


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bool, int | None]:
    """Whether there is a body, and how long it is, if that is told. The server has seen to it that these are right."""
    is_there, length = False, None
    for name, value in headers:
        if name == b"content-length":
            is_there, length = True, int(value)
        elif name == b"transfer-encoding":
            is_there = True
    return is_there, length


def _busy() -> ProblemError:
    return ProblemError(
        503,
        "As many large bodies are being read as this process can.",
        headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
    )
