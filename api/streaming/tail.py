"""The live end of the log: read once for all who listen in this process, and only while somebody does."""

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

from api.streaming.handover import Sight
from api.streaming.reader import Entry, LogReader, Part
from shared.changes.filters import ChangeFilter, fits
from shared.changes.log import Cursor, GoneError

_CHANGES_AT_ONCE = 500
_MOST_KEPT = 5000
_MOST_BYTES = 8 * 1024 * 1024
_MOST_PART_BYTES = 64 * 1024

log = structlog.get_logger()

_place = attrgetter("cursor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often the end is looked at, how long what was read is kept, how long to rest after a failure; seconds.

    What is erased meanwhile is sent no longer than it is kept.
    """

    look_seconds: float = 0.1
    keep_seconds: float = 10.0
    recover_seconds: float = 1.0


class Tail:
    """The log from `begin` to `end`. Everything here happens on the event loop, but for the reading.

    `resets` counts how often the log turned out to be another one than before: whoever went on from the old one has to
    begin anew.
    """

    def __init__(self, reader: LogReader, pace: Pace | None = None) -> None:
        self._reader = reader
        self._pace = pace or Pace()
        self._thread = ThreadPoolExecutor(1, "tail")
        self._task: asyncio.Task[None] | None = None
        self._users = 0
        self._sights: Counter[Sight] = Counter()
        self._news = asyncio.Event()
        self._begin: Cursor | None = None
        self._end: Cursor | None = None
        self._entries: list[Entry] = []
        self._read_at: list[float] = []
        self._bytes = 0
        self._parts: dict[tuple[Cursor, Sight], Part] = {}
        self.resets = 0

    @property
    def is_ready(self) -> bool:
        """Whether the end of the log is known."""
        return self._begin is not None

    @contextmanager
    def used(self, sight: Sight | None = None) -> Iterator[None]:
        """Follow the log for as long as this lasts; with a sight, have at hand what it shows."""
        self._users += 1
        if sight is not None:
            self._sights[sight] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._users -= 1
            if sight is not None:
                self._sights[sight] -= 1
                if not self._sights[sight]:
                    del self._sights[sight]

    async def news(self) -> None:
        """Wait until the log has grown, or somebody called `wake`."""
        await self._news.wait()

    def wake(self) -> None:
        """Let all who wait look around."""
        self._news.set()
        self._news = asyncio.Event()

    def part(self, after: Cursor, sight: Sight) -> Part | None:
        """What one who sees this is shown next. None where only the log itself can tell."""
        if self._begin is None or after < self._begin:
            return None
        known = self._parts.get((after, sight)) or self._assemble(after, sight)
        if known is not None:
            self._parts[after, sight] = known
        return known

    def seek(self, after: Cursor, wanted: ChangeFilter) -> tuple[bool, Cursor] | None:
        """Whether something that is wanted follows, and from where to go on. None where only the log can tell."""
        if self._begin is None or self._end is None or after < self._begin:
            return None
        for entry in self._following(after):
            if fits(wanted, entry.subject, entry.message_id):
                return True, after
        return False, max(after, self._end)

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.to_thread(self._thread.shutdown)

    async def _follow(self) -> None:
        is_lost = False
        self._forget()
        while self._users:
            try:
                is_more = await self._look()
                is_lost = False
            except GoneError as error:
                log.warning("the log of changes is not the one that was followed", error=str(error))
                self.resets += 1
                self._forget()
                self.wake()
                await asyncio.sleep(self._pace.recover_seconds)
            except Exception as error:
                if not is_lost:
                    log.warning("the log of changes cannot be read", exc_info=error)
                is_lost = True
                await asyncio.sleep(self._pace.recover_seconds)
            else:
                await asyncio.sleep(0 if is_more else self._pace.look_seconds)
        self._forget()

    async def _look(self) -> bool:
        """See whether the log has grown. Whether it may have by even more."""
        loop = asyncio.get_running_loop()
        if self._end is None:
            self._begin = self._end = await loop.run_in_executor(self._thread, self._reader.end)
            self.wake()
            return True
        sights = list(self._sights)
        found, end = await loop.run_in_executor(self._thread, self._reader.entries, self._end, sights, _CHANGES_AT_ONCE)
        self._let_go()
        if end == self._end:
            return False
        self._entries += found
        self._read_at += [time.monotonic()] * len(found)
        self._bytes += sum(map(_size, found))
        self._end = end
        self._parts.clear()
        self.wake()
        return len(found) == _CHANGES_AT_ONCE

    def _let_go(self) -> None:
        """Drop what is too old, and what is too much."""
        number = bisect.bisect_left(self._read_at, time.monotonic() - self._pace.keep_seconds)
        number = max(number, len(self._entries) - _MOST_KEPT)
        self._bytes -= sum(map(_size, self._entries[:number]))
        while self._bytes > _MOST_BYTES:
            self._bytes -= _size(self._entries[number])
            number += 1
        if number:
            self._begin = self._entries[number - 1].cursor
            del self._entries[:number], self._read_at[:number]
            self._parts.clear()

    def _forget(self) -> None:
        self._begin = self._end = None
        self._entries, self._read_at, self._bytes = [], [], 0
        self._parts.clear()

    def _following(self, after: Cursor) -> Iterator[Entry]:
        return islice(self._entries, bisect.bisect_right(self._entries, after, key=_place), None)

    def _assemble(self, after: Cursor, sight: Sight) -> Part | None:
        frames: list[bytes] = []
        size, end = 0, after
        for entry in self._following(after):
            if fits(sight.wanted, entry.subject, entry.message_id):
                frame = entry.frames.get(sight.tenant)
                if frame is None:  # nobody with this sight was there when it was read
                    return None
                if frames and size + len(frame) > _MOST_PART_BYTES:
                    break
                frames.append(frame)
                size += len(frame)
            end = entry.cursor
        return Part(data=b"".join(frames), end=end)


def _size(entry: Entry) -> int:
    return sum(map(len, entry.frames.values()))
