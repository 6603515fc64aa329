"""The recent end of the change log: read once for all streams of the process, and only while there are any."""

import asyncio
import bisect
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

import structlog

from api.streaming.deferred import View
from api.streaming.log_reader import Entry, LogReader, Part
from shared.changes.filters import ChangeFilter, matches
from shared.changes.log import Cursor, CursorGoneError
from shared.supervision import supervise

_MAX_CHANGES_PER_READ = 500
_MAX_CHANGES = 5000
_MAX_BYTES = 8 * 1024 * 1024
_MAX_PART_BYTES = 64 * 1024

log = structlog.get_logger()

_cursor = attrgetter("cursor")


@dataclass(frozen=True, slots=True, kw_only=True)
class PollingTimes:
    """How often the log is polled, how long changes stay in memory, and how long to pause after a failure; seconds.

    A change that is erased meanwhile may be sent for as long as it stays in memory.
    """

    poll_seconds: float = 0.1
    keep_seconds: float = 10.0
    retry_seconds: float = 1.0


class LiveLog:
    """The log between two cursors, on the event loop; a thread reads it.

    `resets` counts how often the log was replaced by another. Streams of the old one have to start again.
    """

    def __init__(self, reader: LogReader, times: PollingTimes | None = None) -> None:
        self._reader = reader
        self._times = times or PollingTimes()
        self._thread = ThreadPoolExecutor(1, "live log")
        self._task: asyncio.Task[None] | None = None
        self._users = 0
        self._views: Counter[View] = Counter()
        self._changed = asyncio.Event()
        self._start: Cursor | None = None
        self._end: Cursor | None = None
        self._entries: list[Entry] = []
        self._read_at: list[float] = []
        self._bytes = 0
        self._parts: dict[tuple[Cursor, View], Part] = {}
        self.resets = 0

    @property
    def is_ready(self) -> bool:
        """Whether the end of the log is known."""
        return self._start is not None

    @contextmanager
    def follow(self, view: View | None = None) -> Iterator[None]:
        """Follow the log inside this context, and encode its changes for the view."""
        self._users += 1
        if view is not None:
            self._views[view] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(supervise("live log", self._follow))
        try:
            yield
        finally:
            self._users -= 1
            if view is not None:
                self._views[view] -= 1
                if not self._views[view]:
                    del self._views[view]

    async def wait_for_changes(self) -> None:
        """Wait until the log has grown, or until `wake` is called."""
        await self._changed.wait()

    def wake(self) -> None:
        """Wake everything that waits for changes."""
        self._changed.set()
        self._changed = asyncio.Event()

    def next_part(self, after: Cursor, view: View) -> Part | None:
        """Return the next part of a view. None if it has to be read from the database."""
        if self._start is None or after < self._start:
            return None
        known = self._parts.get((after, view))
        if known is not None:
            return known
        events: list[bytes] = []
        size, end = 0, after
        for entry in self._following(after):
            if matches(view.wanted, entry.subject, entry.message_id):
                event = entry.events.get(view.tenant)
                if event is None:  # no stream had this view when the change was read
                    return None
                if events and size + len(event) > _MAX_PART_BYTES:
                    break
                events.append(event)
                size += len(event)
            end = entry.cursor
        part = self._parts[after, view] = Part(data=b"".join(events), end=end)
        return part

    def seek(self, after: Cursor, wanted: ChangeFilter) -> tuple[bool, Cursor] | None:
        """Return whether a matching change follows, and where to continue. None if the database must be read."""
        if self._start is None or self._end is None or after < self._start:
            return None
        for entry in self._following(after):
            if matches(wanted, entry.subject, entry.message_id):
                return True, after
        return False, max(after, self._end)

    async def close(self) -> None:
        """Stop following the log."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.to_thread(self._thread.shutdown)

    async def _follow(self) -> None:
        is_failing = False
        self._clear()
        while self._users:
            try:
                is_more = await self._poll()
                is_failing = False
            except CursorGoneError as error:
                log.warning("the change log was replaced", error=str(error))
                self.resets += 1
                self._clear()
                self.wake()
                await asyncio.sleep(self._times.retry_seconds)
            except Exception as error:
                if not is_failing:
                    log.warning("the change log cannot be read", exc_info=error)
                is_failing = True
                await asyncio.sleep(self._times.retry_seconds)
            else:
                await asyncio.sleep(0 if is_more else self._times.poll_seconds)
        self._clear()

    async def _poll(self) -> bool:
        """Read the changes since the last poll. Return whether there may be more."""
        loop = asyncio.get_running_loop()
        if self._end is None:
            self._start = self._end = await loop.run_in_executor(self._thread, self._reader.end)
            self.wake()
            return True
        views = list(self._views)
        entries, end = await loop.run_in_executor(
            self._thread, self._reader.entries, self._end, views, _MAX_CHANGES_PER_READ
        )
        # Drop changes that are too old or too many.
        dropped = bisect.bisect_left(self._read_at, time.monotonic() - self._times.keep_seconds)
        dropped = max(dropped, len(self._entries) - _MAX_CHANGES)
        self._bytes -= sum(entry.size for entry in self._entries[:dropped])
        while self._bytes > _MAX_BYTES:
            self._bytes -= self._entries[dropped].size
            dropped += 1
        if dropped:
            self._start = self._entries[dropped - 1].cursor
            del self._entries[:dropped], self._read_at[:dropped]
            self._parts.clear()
        if end == self._end:
            return False
        self._entries += entries
        self._read_at += [time.monotonic()] * len(entries)
        self._bytes += sum(entry.size for entry in entries)
        self._end = end
        self._parts.clear()
        self.wake()
        return len(entries) == _MAX_CHANGES_PER_READ

    def _clear(self) -> None:
        self._start = self._end = None
        self._entries, self._read_at, self._bytes = [], [], 0
        self._parts.clear()

    def _following(self, after: Cursor) -> Iterator[Entry]:
        return islice(self._entries, bisect.bisect_right(self._entries, after, key=_cursor), None)
