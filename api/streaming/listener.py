"""One listener: what it is sent, as fast as it takes it, until it leaves or is cut off."""

import asyncio
import time
from concurrent.futures import Executor
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from api.streaming import frames
from api.streaming.handover import Follow
from api.streaming.reader import LogReader, Part
from api.streaming.tail import Tail
from shared.asgi.protocol import Send
from shared.changes.log import GoneError

_LAST_WORDS_SECONDS = 1.0


class Listener:
    """Who listens, and how far it has got. It has no buffer: what it has not taken stays where it is, in the log.

    Near the end it is sent what all read together, further back what it reads of the log itself, a part at a time. Both
    go by the same cursor, so there is no seam. `sending_since` is when it was sent what it has not taken yet.
    """

    def __init__(
        self,
        follow: Follow,
        send: Send,
        tail: Tail,
        reader: LogReader,
        threads: Executor,
        heartbeat_seconds: float,
    ) -> None:
        self.follow = follow
        self.sending_since: float | None = None
        self._send = send
        self._tail = tail
        self._reader = reader
        self._threads = threads
        self._heartbeat_seconds = heartbeat_seconds
        self._at = follow.after
        self._sent_at = time.monotonic()
        self._task: asyncio.Task[Any] | None = None
        self._reason: str | None = None

    def cut(self, reason: str) -> bool:
        """End it, and say why if it still listens; False if it was ended before. Whoever calls this wakes the tail."""
        if self._reason is not None:
            return False
        self._reason = reason
        if self.sending_since is not None and self._task is not None:
            self._task.cancel()
        return True

    async def run(self, beginning: bytes) -> None:
        """Send what there is and what comes, until it is cut off."""
        self._task = asyncio.current_task()
        with self._tail.used(self.follow.sight):
            resets = self._tail.resets
            try:
                await self._put(beginning)
                while self._reason is None:
                    await self._step()
                    if self._tail.resets != resets:
                        self.cut("the log is not what it was")
            except GoneError as error:
                self.cut(str(error))
            except asyncio.CancelledError:
                if self._reason is None:
                    raise
        await self._end()

    async def _step(self) -> None:
        part = self._tail.part(self._at, self.follow.sight)
        if part is None and self._tail.is_ready:
            part = await self._read()
        if part is None or (part.end == self._at and not part.data):
            await self._rest()
            return
        if part.data:
            await self._put(part.data)
        self._at = part.end

    async def _read(self) -> Part | None:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._reader.part, self._at, self.follow.sight)
        except SQLAlchemyError:  # the tail, which reads too, says so in the log
            return None

    async def _rest(self) -> None:
        """Wait for something to happen; if nothing was sent for long, show that there is life, and how far it is."""
        if time.monotonic() - self._sent_at >= self._heartbeat_seconds:
            await self._put(frames.heartbeat(self._at))
        else:
            await self._tail.news()

    async def _put(self, data: bytes) -> None:
        self.sending_since = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._sent_at, self.sending_since = time.monotonic(), None

    async def _end(self) -> None:
        words = frames.comment(f"{self._reason}; connect again with Last-Event-ID")
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self._send({"type": "http.response.body", "body": words, "more_body": False})
        except TimeoutError:
            return
