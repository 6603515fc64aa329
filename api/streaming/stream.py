"""One event stream: sends changes as fast as the client reads them, until either side disconnects."""

import asyncio
import time
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from api.streaming import sse
from api.streaming.deferred import Follow
from api.streaming.live_log import LiveLog
from api.streaming.log_reader import LogReader
from shared.changes.log import CursorGoneError
from shared.http.wsgi import Send

_LAST_MESSAGE_SECONDS = 1.0


class Stream:
    """A client and its cursor. There is no buffer: what the client has not read stays in the log.

    Recent changes come from the live log, which all streams share; older ones from the database, part by part. Both
    use the same cursor, so nothing is lost or sent twice in between. `sending_since` is when the client was sent what
    it has not read yet.
    """

    def __init__(
        self,
        follow: Follow,
        send: Send,
        live_log: LiveLog,
        reader: LogReader,
        threads: Executor,
        heartbeat_seconds: float,
    ) -> None:
        self.follow = follow
        self.sending_since: float | None = None
        self._send = send
        self._log = live_log
        self._reader = reader
        self._threads = threads
        self._heartbeat_seconds = heartbeat_seconds
        self._cursor = follow.after
        self._sent_at = time.monotonic()
        self._task: asyncio.Task[Any] | None = None
        self._reason: str | None = None

    def disconnect(self, reason: str) -> bool:
        """End the stream, and send the reason if the client still reads. Return False if it had ended already.

        The caller wakes the live log.
        """
        if self._reason is not None:
            return False
        self._reason = reason
        if self.sending_since is not None and self._task is not None:
            self._task.cancel()
        return True

    async def run(self, beginning: bytes) -> None:
        """Send all changes from the cursor on, until the stream is disconnected."""
        self._task = asyncio.current_task()
        with self._log.follow(self.follow.view):
            resets = self._log.resets
            try:
                await self._write(beginning)
                while self._reason is None:
                    await self._send_next()
                    if self._log.resets != resets:
                        self.disconnect("the log was replaced")
            except CursorGoneError as error:
                self.disconnect(str(error))
            except asyncio.CancelledError:
                if self._reason is None:
                    raise
        message = sse.comment(f"{self._reason}; connect again with Last-Event-ID")
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_MESSAGE_SECONDS):
                await self._send({"type": "http.response.body", "body": message, "more_body": False})

    async def _send_next(self) -> None:
        """Send the next part of the log. At its end, wait for changes, and send a heartbeat if one is due."""
        part = self._log.next_part(self._cursor, self.follow.view)
        if part is None and self._log.is_ready:
            loop = asyncio.get_running_loop()
            read = loop.run_in_executor(self._threads, self._reader.part, self._cursor, self.follow.view)
            with suppress(SQLAlchemyError):  # the live log reads as well, and logs the error
                part = await read
        if part is None or (part.end == self._cursor and not part.data):
            if time.monotonic() - self._sent_at >= self._heartbeat_seconds:
                await self._write(sse.heartbeat(self._cursor))
            else:
                await self._log.wait_for_changes()
            return
        if part.data:
            await self._write(part.data)
        self._cursor = part.end

    async def _write(self, data: bytes) -> None:
        self.sending_since = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._sent_at, self.sending_since = time.monotonic(), None
