"""Request bodies, read on the event loop, so that slow or large ones do not block other requests.

Small bodies are read before the application is called. The application reads larger ones as a stream, after it has
decided to accept the request.
"""

import asyncio
import io
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from shared.errors import TidingsError
from shared.http import greenlets
from shared.http.timeouts import TimeoutWheel
from shared.http.wsgi import Receive, Scope

_CHECK_SECONDS = 0.5
_MAX_DRAINED_BYTES = 64 << 20
_MAX_DRAIN_SECONDS = 5.0
_SHUTDOWN_SECONDS = 2.0
"""How long bodies may arrive after a stop signal. It must be less than the server's `--workers-kill-timeout`."""


class BodyFailure(StrEnum):
    """Why a body was not read to its end."""

    TOO_SLOW = "too_slow"
    TOO_MANY = "too_many"
    INCOMPLETE = "incomplete"


class RequestBodyError(TidingsError):
    """A body that was not read to its end. `size` is the number of bytes that arrived."""

    def __init__(self, failure: BodyFailure, message: str, *, size: int) -> None:
        super().__init__(message)
        self.failure = failure
        self.size = size


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """Limits on the bodies that one process reads at the same time.

    Bodies of up to `small_bytes` are read before the application is called, and held until the response. Larger ones
    are streamed, at most `max_streams` at once; with `holds_streams` they are held too. All held bodies together have
    at most `max_held_bytes`. A body must arrive within `grace_seconds`, plus its size divided by `bytes_per_second`.
    """

    small_bytes: int
    grace_seconds: float
    bytes_per_second: int
    max_held_bytes: int = 128 << 20
    max_streams: int | None = None
    holds_streams: bool = False


class RequestBodyBudget:
    """All bodies that one process is reading or holding. Only the event loop's thread may use it."""

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        self.reading: TimeoutWheel[RequestBody] = TimeoutWheel(_CHECK_SECONDS)
        self.held_bytes = 0
        self.streams = threading.BoundedSemaphore(limits.max_streams) if limits.max_streams else None

    async def open(self, scope: Scope, receive: Receive) -> "RequestBody":
        """Return the body of a request, and read it if it is small. The caller closes it after the response."""
        body = RequestBody(self, scope["headers"], receive)
        try:
            await body.read_small()
        except RequestBodyError as error:  # raised when the application reads the body
            body.error = error
        except BaseException:
            body.close()
            raise
        return body

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes, if necessary by cancelling the slowest bodies; return whether that succeeded."""
        if self.held_bytes + size > self.limits.max_held_bytes:
            now = asyncio.get_running_loop().time()
            for slowest in sorted(self.reading.waiting, key=lambda other: other.bytes_per_second(now)):
                slowest.cancel()
                if self.held_bytes + size <= self.limits.max_held_bytes:
                    break
            else:
                return False
        self.held_bytes += size
        return True

    def shut_down(self) -> None:
        """Cancel all bodies that have not arrived in two seconds: the process is about to stop."""
        asyncio.get_running_loop().call_later(_SHUTDOWN_SECONDS, self._cancel_all)

    def _cancel_all(self) -> None:
        for body in self.reading.waiting:
            body.cancel()


class RequestBody:
    """The body of one request."""

    def __init__(self, budget: RequestBodyBudget, headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> None:
        self.error: RequestBodyError | None = None
        self.received_bytes = 0
        self.held_bytes = 0
        self.loop = asyncio.get_running_loop()
        self._budget = budget
        self._receive = receive
        self._length: int | None = None
        self._is_complete = True
        for name, value in headers:  # the server has checked both
            if name == b"content-length":
                self._length = int(value)
                self._is_complete = False
            elif name == b"transfer-encoding":
                self._is_complete = False
        self._started_at = self.loop.time()
        self._buffered = b""
        self._has_stream = False
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    @property
    def input(self) -> io.BytesIO | io.BufferedReader:
        """The `wsgi.input` of the request. Reading it raises RequestBodyError."""
        if self._is_complete and self.error is None:
            return io.BytesIO(self._buffered)
        return io.BufferedReader(_BodyStream(self))

    async def read_small(self) -> None:
        """Read the body up to the limit for small ones. Raises RequestBodyError."""
        limit = self._budget.limits.small_bytes
        if self._length is not None and self._length > limit:
            return
        chunks: list[bytes] = []
        while not self._is_complete and self.received_bytes <= limit:
            chunks.append(await self._next_chunk(is_held=True))
        self._buffered = chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def take_chunk(self) -> bytes:
        """Return the next chunk, empty at the end of the body. Called by the application. Raises RequestBodyError."""
        if self.error is not None:
            raise self.error
        if self._buffered:
            chunk, self._buffered = self._buffered, b""
            return chunk
        self._acquire_stream()
        while not self._is_complete:
            reading = self._next_chunk(is_held=self._budget.limits.holds_streams)
            if greenlets.is_on_loop():
                chunk = greenlets.wait_for(reading)
            else:
                chunk = asyncio.run_coroutine_threadsafe(reading, self.loop).result()
            if chunk:
                return chunk
        return b""

    def bytes_per_second(self, now: float) -> float:
        """Return how fast the body has arrived so far."""
        return self.received_bytes / max(now - self._started_at, 0.001)

    def cancel(self) -> None:
        """Stop reading. The call that waits for the next chunk raises RequestBodyError."""
        if self._task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._task.cancel()
            self._release()

    def close(self) -> None:
        """Release the body's part of the budget, after the response."""
        self._release()
        if self._has_stream and self._budget.streams is not None:
            self._has_stream = False
            self._budget.streams.release()

    async def drain(self) -> None:
        """Drop what the application has not read, up to a limit. Call it when the response has been sent.

        The server then closes the connection. To a client that sends its whole body before it reads, closing earlier
        would look like a broken connection instead of a 413 or a 404.
        """
        if self._is_complete or self.error is not None or self._is_cancelled:
            return
        end = self.received_bytes + _MAX_DRAINED_BYTES
        with suppress(RequestBodyError, TimeoutError):
            async with asyncio.timeout(_MAX_DRAIN_SECONDS):
                while not self._is_complete and self.received_bytes < end:
                    await self._next_chunk(is_held=False)

    async def _next_chunk(self, *, is_held: bool) -> bytes:
        budget, limits = self._budget, self._budget.limits
        deadline = self._started_at + limits.grace_seconds + self.received_bytes / limits.bytes_per_second
        self._task = asyncio.current_task(self.loop)
        budget.reading.set(self, deadline)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._is_cancelled or self._task is None:
                raise
            self._task.uncancel()
            raise self._too_slow() from None
        finally:
            budget.reading.remove(self)
            self._task = None
        chunk: bytes = message.get("body", b"")
        self.received_bytes += len(chunk)
        # A server may say only later that nothing follows. Waiting for that would be another turn of the loop.
        self._is_complete = self.received_bytes == self._length or not message.get("more_body", False)
        if message["type"] == "http.disconnect" or (
            self._is_complete and self._length not in (None, self.received_bytes)
        ):
            raise RequestBodyError(
                BodyFailure.INCOMPLETE,
                "The request body ended before its announced length.",
                size=self.received_bytes,
            )
        if is_held:
            if not budget.reserve(len(chunk)):
                raise self._too_many("Too many request bodies are being received; retry later.")
            self.held_bytes += len(chunk)
        return chunk

    def _acquire_stream(self) -> None:
        if self._has_stream or self._budget.streams is None:
            return
        if not self._budget.streams.acquire(blocking=False):
            raise self._too_many("Too many large uploads are in progress; retry later.")
        self._has_stream = True

    def _release(self) -> None:
        self._budget.held_bytes -= self.held_bytes
        self.held_bytes = 0

    def _too_many(self, message: str) -> RequestBodyError:
        return RequestBodyError(BodyFailure.TOO_MANY, message, size=self.received_bytes)

    def _too_slow(self) -> RequestBodyError:
        seconds = self.loop.time() - self._started_at
        return RequestBodyError(
            BodyFailure.TOO_SLOW,
            f"The request body arrived too slowly: {self.received_bytes} bytes in {seconds:.0f} s; send it again.",
            size=self.received_bytes,
        )


class BodyRequest(Request):
    """A Flask request that returns its complete body, or raises an error.

    werkzeug truncates a chunked body at `max_content_length` without an error, and wraps each body in three streams.
    """

    _body: bytes | None = None

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:  # noqa: ARG002
        """Return the body. Raises RequestEntityTooLarge, ClientDisconnected, RequestBodyError."""
        if self._body is None:
            self._body = self._read()
        return self._body.decode("utf-8", "replace") if as_text else self._body

    def _read(self) -> bytes:
        header = self.environ.get("CONTENT_LENGTH")
        length = int(header) if header else None
        limit = self.max_content_length
        if length is None and not self.environ.get("wsgi.input_terminated"):
            return b""
        if length is not None and limit is not None and length > limit:
            raise RequestEntityTooLarge
        max_bytes = length if length is not None else -1 if limit is None else limit + 1
        body: bytes = self.environ["wsgi.input"].read(max_bytes)
        if length is not None and len(body) != length:
            raise ClientDisconnected
        if limit is not None and len(body) > limit:
            raise RequestEntityTooLarge
        return body


class _BodyStream(io.RawIOBase):
    """A body as a file, read chunk by chunk."""

    def __init__(self, body: RequestBody) -> None:
        self._body = body
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for the next chunk if none is left. Raises RequestBodyError."""
        if not self._chunk:
            self._chunk = memoryview(self._body.take_chunk())
        size = min(len(buffer), len(self._chunk))
        buffer[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size
