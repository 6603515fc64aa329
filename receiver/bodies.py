"""The bodies of posts, read on the event loop: whoever sends slowly, or much, holds nothing that others need."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from receiver.deadlines import Deadlines
from receiver.refused import Refused
from shared.asgi.protocol import Receive
from shared.providers.webhooks.base import StatusCodes
from shared.vocabulary import RefusalReason

_LOOK_SECONDS = 0.5
_END_SECONDS = 2.0
"""So long bodies are waited for when the process is to end. The server kills one that takes longer to end than its
`--workers-kill-timeout`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A body has `grace_seconds`, and besides as long as it would take at `bytes_per_second`.

    All together hold `most_held_bytes` at most, from when they come until they are answered.
    """

    grace_seconds: float = 10.0
    bytes_per_second: int = 64 * 1024
    most_held_bytes: int = 128 * 1024 * 1024


class Bodies:
    """All that are under way in this process."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.deadlines = Deadlines(_LOOK_SECONDS)
        self.coming: set[Body] = set()
        self.held = 0

    def one(self, codes: StatusCodes, limit: int) -> "Body":
        """A body that is to be read, of at most `limit` bytes. It counts until its context ends."""
        return Body(self, codes, limit)

    def make_room(self, size: int, asking: "Body") -> bool:
        """Give up others that are still coming, those first that come slowest, until there is room for so much."""
        now = asyncio.get_running_loop().time()
        slowest = sorted((body for body in self.coming if body is not asking), key=lambda body: body.pace(now))
        for body in slowest:
            if self.held + size <= self.bounds.most_held_bytes:
                break
            body.give_up()
        return self.held + size <= self.bounds.most_held_bytes

    def end(self) -> None:
        """The process is to end soon: those who are about to come to their end still may."""
        asyncio.get_running_loop().call_later(_END_SECONDS, self._give_up_all)

    def _give_up_all(self) -> None:
        for body in list(self.coming):
            body.give_up()


class Body:
    """One body, which counts among the others within its context."""

    def __init__(self, among: Bodies, codes: StatusCodes, limit: int) -> None:
        self._among = among
        self._codes = codes
        self._limit = limit
        self._size = 0
        self._held = 0
        self._begun_at = asyncio.get_running_loop().time()
        self._is_given_up = False
        self._task = asyncio.current_task()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    async def read(self, receive: Receive, length: int | None) -> bytes:
        """The body to its end; `length` is what was announced. Raises Refused."""
        if length is not None and length > self._limit:
            raise self._too_large(length)
        self._among.coming.add(self)
        try:
            return await self._read(receive, length)
        except asyncio.CancelledError:
            if not self._is_given_up or self._task is None:
                raise
            self._task.uncancel()
            raise self._given_up() from None
        finally:
            self._among.coming.discard(self)
            self._among.deadlines.release(self)

    def pace(self, now: float) -> float:
        """Bytes a second, so far."""
        return self._size / max(now - self._begun_at, 0.001)

    def give_up(self) -> None:
        """Wait for no more of it."""
        if self._task is not None and not self._is_given_up:
            self._is_given_up = True
            self._task.cancel()
            self._let_go()

    async def _read(self, receive: Receive, length: int | None) -> bytes:
        bounds = self._among.bounds
        pieces: list[bytes] = []
        is_over = False
        while not is_over:
            granted = bounds.grace_seconds + self._size / bounds.bytes_per_second
            self._among.deadlines.set(self, self._begun_at + granted)
            message = await receive()
            piece: bytes = message.get("body", b"")
            pieces.append(piece)
            self._grow(len(piece))
            is_over = not message.get("more_body", False)
            if message["type"] == "http.disconnect" or (is_over and length not in (None, self._size)):
                raise Refused(400, RefusalReason.UNREADABLE, "the body ended before its announced length")
        return b"".join(pieces)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise self._too_large(self._size)
        if self._among.held + size > self._among.bounds.most_held_bytes and not self._among.make_room(size, self):
            said = "as many bodies are under way as this process holds; send it again"
            raise Refused(self._codes.unavailable, RefusalReason.UNAVAILABLE, said, size=self._size)
        self._held += size
        self._among.held += size

    def _let_go(self) -> None:
        self._among.held -= self._held
        self._held = 0

    def _given_up(self) -> Refused:
        seconds = asyncio.get_running_loop().time() - self._begun_at
        said = f"the body took too long to come: {self._size} bytes in {seconds:.0f} s; send it again"
        # Not 408, which to some providers is an answer for good.
        return Refused(self._codes.unavailable, RefusalReason.UNREADABLE, said, size=self._size)

    def _too_large(self, size: int) -> Refused:
        said = f"the body is larger than {self._limit} bytes"
        return Refused(self._codes.too_large, RefusalReason.TOO_LARGE, said, size=size)
