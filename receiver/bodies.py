"""The bodies of posts, read on the event loop: whoever sends slowly, or much, holds nothing that others need."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from receiver.deadlines import Deadlines
from receiver.refused import Refused
from shared.asgi.protocol import Receive
from shared.domain.vocabulary import RefusalReason
from shared.providers.base import StatusCodes

LARGE_BYTES = 64 * 1024
"""What is larger is counted while it is held, and worked on beside the event loop."""

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A body has `grace_seconds`, and besides as long as it would take at `bytes_per_second`.

    Large ones together hold `most_held_bytes` at most, from when they grow large until they are answered.
    """

    grace_seconds: float = 10.0
    bytes_per_second: int = LARGE_BYTES
    most_held_bytes: int = 64 * 1024 * 1024


class Bodies:
    """All that are under way in this process."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.deadlines = Deadlines(_LOOK_SECONDS)
        self.held = 0

    def one(self, codes: StatusCodes, limit: int) -> "Body":
        """A body that is to be read, of at most `limit` bytes. It counts until its context ends."""
        return Body(self, codes, limit)


class Body:
    """One body, which counts among the others within its context."""

    def __init__(self, among: Bodies, codes: StatusCodes, limit: int) -> None:
        self._among = among
        self._codes = codes
        self._limit = limit
        self._held = 0
        self._size = 0
        self._is_late = False
        self._task = asyncio.current_task()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._among.held -= self._held

    async def read(self, receive: Receive, length: int | None) -> bytes:
        """The body to its end; `length` is what was announced. Raises Refused."""
        if length is not None and length > self._limit:
            raise self._too_large(length)
        begun_at = asyncio.get_running_loop().time()
        pieces: list[bytes] = []
        is_over = False
        while not is_over:
            message = await self._next(receive, begun_at)
            piece: bytes = message.get("body", b"")
            pieces.append(piece)
            self._grow(len(piece))
            is_over = not message.get("more_body", False)
            if message["type"] == "http.disconnect" or (is_over and length not in (None, self._size)):
                raise Refused(400, RefusalReason.UNREADABLE, "the body ended before its announced length")
        return b"".join(pieces)

    def give_up(self) -> None:
        """Wait for no more of it."""
        if self._task is not None:
            self._is_late = True
            self._task.cancel()

    async def _next(self, receive: Receive, begun_at: float) -> Mapping[str, Any]:
        bounds, deadlines = self._among.bounds, self._among.deadlines
        granted = bounds.grace_seconds + self._size / bounds.bytes_per_second
        deadlines.set(self, begun_at + granted)
        try:
            return await receive()
        except asyncio.CancelledError:
            if not self._is_late or self._task is None:
                raise
            self._task.uncancel()
            said = f"the body took too long to come: {self._size} bytes in {granted:.0f} s; send it again"
            # Not 408, which to some providers is an answer for good.
            raise Refused(self._codes.unavailable, RefusalReason.UNREADABLE, said, size=self._size) from None
        finally:
            deadlines.release(self)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise self._too_large(self._size)
        if self._size <= LARGE_BYTES:
            return
        grown = self._size - self._held
        if self._among.held + grown > self._among.bounds.most_held_bytes:
            said = "as many large bodies are under way as this process holds; send it again"
            raise Refused(self._codes.unavailable, RefusalReason.UNAVAILABLE, said, size=self._size)
        self._held += grown
        self._among.held += grown

    def _too_large(self, size: int) -> Refused:
        said = f"the body is larger than {self._limit} bytes"
        return Refused(self._codes.too_large, RefusalReason.TOO_LARGE, said, size=size)
