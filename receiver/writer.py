"""Group commit: one INSERT and one fsync serve every request that waits at that moment.

The event loop hands receipts to one writer thread. The writer takes all that is waiting, writes it with one
statement, commits, and tells the loop. If a batch fails, its rows are tried one by one, so that one bad row fails
one request.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog

from receiver import metrics
from receiver.database import Connection, Database, Line
from receiver.deadlines import Deadlines
from shared.errors import TidingsError
from shared.postgres import partitions
from shared.receipts import store as receipts
from shared.receipts.store import Parking, Receipt

WAIT_SECONDS = 1.2
"""How long a request waits for its commit before the provider is told to try again."""

STALLED_SECONDS = 0.8
"""After so long in one commit the database is taken to have stopped: requests are turned away at once, rather than
have each of them wait."""

_LOOK_SECONDS = 0.05
_MOST_IN_BATCH = 500
_MOST_BYTES_IN_BATCH = 8 * 1024 * 1024
_MOST_WAITING = 5000
_CONNECTION_LOST = (psycopg.OperationalError, psycopg.InterfaceError)

log = structlog.get_logger()


class StorageUnavailableError(TidingsError):
    """The database did not commit in time; the provider should try again."""


class QuarantineFullError(TidingsError):
    """The source has as many unverified requests kept apart as it may have."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The receipt that stands for a request: its own, or for a repetition the first one's."""

    receipt_id: UUID
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """How an unverified receipt is kept apart, and within which limits of its source."""

    parking: Parking
    rows: int
    size: int


_Outcome = Kept | TidingsError | None


class _Slot:
    """One request's place in the queue. Made on the event loop, which its answer belongs to."""

    __slots__ = ("answer", "quarantine", "receipt")

    def __init__(self, receipt: Receipt | None, quarantine: Quarantine | None) -> None:
        self.receipt = receipt
        self.quarantine = quarantine
        self.answer: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return self.answer.done()

    def give_up(self) -> None:
        """Wait no longer. If it is committed all the same, the provider's next try is a repetition."""
        self.settle(StorageUnavailableError(f"the database did not commit within {WAIT_SECONDS} seconds"))

    def settle(self, outcome: _Outcome) -> None:
        """Give the answer, on the event loop, if it is still waited for."""
        if not self.answer.done():
            self.answer.set_result(outcome)


def _nobody() -> None:
    """Tell nobody."""


_Write = Callable[[Connection, list[_Slot]], Sequence[_Outcome]]


class Writer:
    """Writes what is submitted from the event loop.

    `on_queued` and `on_parked` are called after each commit that queued something, or kept something apart. What is
    kept apart is written one by one, so a writer of its own is for that: whoever forges keeps nobody else waiting.
    """

    def __init__(
        self, database: Database, *, on_queued: Callable[[], None] = _nobody, on_parked: Callable[[], None] = _nobody
    ) -> None:
        self._line = Line(database)
        self._on_queued = on_queued
        self._on_parked = on_parked
        self._deadlines = Deadlines(_LOOK_SECONDS)
        self._busy_since: float | None = None
        self._waiting: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    async def keep(self, receipt: Receipt, quarantine: Quarantine | None = None) -> Kept:
        """Store a receipt and return when it is committed.

        Raises StorageUnavailableError, or QuarantineFullError where `quarantine` is given.
        """
        kept = await self._submit(_Slot(receipt, quarantine))
        if kept is None:
            raise StorageUnavailableError("nothing was written")
        return kept

    async def check(self) -> None:
        """Return if a commit is possible now; raise StorageUnavailableError otherwise."""
        await self._submit(_Slot(None, None))

    def close(self) -> None:
        """Write what is waiting, then stop."""
        self._waiting.put(None)
        self._thread.join(timeout=2 * WAIT_SECONDS)

    async def _submit(self, slot: _Slot) -> Kept | None:
        if self._waiting.qsize() >= _MOST_WAITING:
            raise StorageUnavailableError("too many requests are waiting for the database")
        busy_since = self._busy_since
        if busy_since is not None and time.monotonic() - busy_since > STALLED_SECONDS:
            raise StorageUnavailableError("the database does not answer")
        self._waiting.put(slot)
        self._deadlines.set(slot, asyncio.get_running_loop().time() + WAIT_SECONDS)
        try:
            outcome = await slot.answer
        finally:
            self._deadlines.release(slot)
        if isinstance(outcome, TidingsError):
            raise outcome
        return outcome

    def _run(self) -> None:
        while self._goes_on():
            pass  # and hold nothing of what was served while there is nothing else
        self._line.give_up()

    def _goes_on(self) -> bool:
        try:
            return self._serve_next()
        except Exception:  # whatever it is, the next requests are to be served
            log.exception("a commit failed; its requests are told to try again")
            self._busy_since = None
            self._line.give_up()
            return True

    def _serve_next(self) -> bool:
        """Wait for requests and serve them; False if those were the last."""
        first = self._waiting.get()
        if first is None:
            return False
        batch, stopping = self._gather(first)
        self._busy_since = time.monotonic()
        self._serve(batch)
        self._busy_since = None
        return not stopping

    def _gather(self, first: _Slot) -> tuple[list[_Slot], bool]:
        batch = [first]
        size = len(first.receipt.body) if first.receipt else 0
        while len(batch) < _MOST_IN_BATCH and size < _MOST_BYTES_IN_BATCH:
            try:
                slot = self._waiting.get_nowait()
            except queue.Empty:
                break
            if slot is None:
                return batch, True
            batch.append(slot)
            size += len(slot.receipt.body) if slot.receipt else 0
        return batch, False

    def _serve(self, batch: list[_Slot]) -> None:
        """Settle every slot of the batch, whatever happens."""
        plain: list[_Slot] = []
        for slot in batch:
            if slot.is_abandoned:
                continue
            if slot.receipt is None:
                self._attempt([slot], self._ping)
            elif slot.quarantine is not None:
                self._attempt([slot], self._park)
            else:
                plain.append(slot)
        if plain:
            metrics.count_commit(len(plain))
            self._attempt(plain, self._record)

    def _attempt(self, slots: list[_Slot], write: _Write) -> None:
        """Write, once more on a new connection where the old one was lost, one by one where the data is bad."""
        outcomes: Sequence[_Outcome]
        try:
            try:
                outcomes = write(self._line.connection(), slots)
            except _CONNECTION_LOST:
                self._line.give_up()
                outcomes = write(self._line.connection(), slots)
        except _CONNECTION_LOST as error:
            self._line.give_up()
            log.warning("storage unavailable", requests=len(slots), error=_first_line(error))
            outcomes = [StorageUnavailableError("the database cannot be reached") for _ in slots]
        except psycopg.Error as error:
            self._line.give_up()
            self._after_bad_data(slots, write, error)
            return
        _tell(slots, outcomes)

    def _after_bad_data(self, slots: list[_Slot], write: _Write, error: psycopg.Error) -> None:
        if isinstance(error, psycopg.IntegrityError) and "no partition" in str(error):
            self._attempt(slots, _after_partitions(write))
        elif len(slots) > 1:
            for slot in slots:
                self._attempt([slot], write)
        else:
            log.error("a request could not be stored", error=_first_line(error))
            _tell(slots, [StorageUnavailableError("the request could not be stored")])

    def _record(self, connection: Connection, slots: list[_Slot]) -> Sequence[_Outcome]:
        by_key: dict[str, Receipt] = {}
        for slot in slots:
            if slot.receipt:
                by_key.setdefault(slot.receipt.key, slot.receipt)
        fresh = receipts.record(connection, list(by_key.values()))
        if fresh:
            self._on_queued()
        repeated = [key for key, receipt in by_key.items() if receipt.id not in fresh]
        known = receipts.ids_by_key(connection, repeated) if repeated else {}
        return [_kept(slot.receipt, by_key, known) for slot in slots]

    def _park(self, connection: Connection, slots: list[_Slot]) -> Sequence[_Outcome]:
        return [self._parked(connection, slot.receipt, slot.quarantine) for slot in slots]

    def _parked(self, connection: Connection, receipt: Receipt | None, room: Quarantine | None) -> _Outcome:
        if receipt is None or room is None:
            return None
        kept = receipts.park_new(connection, receipt, room.parking, rows=room.rows, size=room.size)
        if kept is None:
            return QuarantineFullError("this source has too many unverified requests kept apart already")
        if kept:
            self._on_parked()
        return Kept(receipt.id, repeated=not kept)

    def _ping(self, connection: Connection, slots: list[_Slot]) -> Sequence[_Outcome]:
        connection.exec_driver_sql("SELECT pg_current_xact_id()")  # has an id assigned, so that it really commits
        return [None] * len(slots)


def _after_partitions(write: _Write) -> _Write:
    def written(connection: Connection, slots: list[_Slot]) -> Sequence[_Outcome]:
        partitions.ensure(connection)
        return write(connection, slots)

    return written


def _kept(receipt: Receipt | None, by_key: dict[str, Receipt], known: dict[str, UUID]) -> Kept | None:
    if receipt is None:
        return None
    first = by_key[receipt.key]
    earlier = known.get(receipt.key)
    return Kept(earlier or first.id, repeated=earlier is not None or receipt is not first)


def _tell(slots: Sequence[_Slot], outcomes: Iterable[_Outcome]) -> None:
    """Have the event loop settle all at once: to wake it costs as much as half a request."""
    settled = list(zip(slots, outcomes, strict=True))
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        slots[0].answer.get_loop().call_soon_threadsafe(_settle, settled)


def _settle(settled: Iterable[tuple[_Slot, _Outcome]]) -> None:
    for slot, outcome in settled:
        slot.settle(outcome)


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
