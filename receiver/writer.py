"""Group commit: one INSERT and one fsync serve every request that waits at that moment.

Request threads hand their receipt to one writer thread and wait. The writer takes all that is waiting, writes it
with one statement, commits, and wakes them. If a batch fails, its rows are tried one by one, so that one bad
row fails one request.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog

from receiver import metrics
from receiver.database import Connection, Database, Line
from shared.db import partitions, receipts
from shared.db.receipts import Parking, Receipt
from shared.domain.errors import TidingsError

WAIT_SECONDS = 1.2
"""How long a request waits for its commit before the provider is told to try again."""

STALLED_SECONDS = 0.8
"""After so long in one commit the database is taken to have stopped: requests are turned away at once, rather than
have each occupy a thread for the time that a request may wait."""

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


class _Slot:
    """One request's place in the queue; its lock is held until the writer has settled it."""

    __slots__ = ("abandoned", "lock", "outcome", "quarantine", "receipt")

    def __init__(self, receipt: Receipt | None, quarantine: Quarantine | None) -> None:
        self.receipt = receipt
        self.quarantine = quarantine
        self.outcome: Kept | TidingsError | None = None
        self.abandoned = False
        self.lock = threading.Lock()
        self.lock.acquire()

    def settle(self, outcome: Kept | TidingsError | None) -> None:
        self.outcome = outcome
        self.lock.release()


_Write = Callable[[Connection, list[_Slot]], None]


class Writer:
    """Writes what request threads submit.

    `on_queued` and `on_parked` are called after each commit that queued something, or kept something apart.
    """

    def __init__(self, database: Database, *, on_queued: Callable[[], None], on_parked: Callable[[], None]) -> None:
        self._line = Line(database)
        self._on_queued = on_queued
        self._on_parked = on_parked
        self._busy_since: float | None = None
        self._waiting: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def keep(self, receipt: Receipt, quarantine: Quarantine | None = None) -> Kept:
        """Store a receipt and return when it is committed.

        Raises StorageUnavailableError, or QuarantineFullError where `quarantine` is given.
        """
        outcome = self._submit(_Slot(receipt, quarantine))
        if not isinstance(outcome, Kept):
            raise outcome or StorageUnavailableError("nothing was written")
        return outcome

    def check(self) -> None:
        """Return if a commit is possible now; raise StorageUnavailableError otherwise."""
        outcome = self._submit(_Slot(None, None))
        if isinstance(outcome, TidingsError):
            raise outcome

    def close(self) -> None:
        """Write what is waiting, then stop."""
        self._waiting.put(None)
        self._thread.join(timeout=5)

    def _submit(self, slot: _Slot) -> Kept | TidingsError | None:
        if self._waiting.qsize() >= _MOST_WAITING:
            raise StorageUnavailableError("too many requests are waiting for the database")
        busy_since = self._busy_since
        if busy_since is not None and time.monotonic() - busy_since > STALLED_SECONDS:
            raise StorageUnavailableError("the database does not answer")
        self._waiting.put(slot)
        if not slot.lock.acquire(timeout=WAIT_SECONDS):
            slot.abandoned = True  # if it is committed all the same, the provider's next try is a repetition
            raise StorageUnavailableError(f"the database did not commit within {WAIT_SECONDS} seconds")
        return slot.outcome

    def _run(self) -> None:
        stopping = False
        while not stopping:
            first = self._waiting.get()
            if first is None:
                break
            batch, stopping = self._gather(first)
            self._busy_since = time.monotonic()
            self._serve(batch)
            self._busy_since = None
        self._line.give_up()

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
        plain: list[tuple[_Slot, Receipt]] = []
        for slot in batch:
            if slot.abandoned:
                slot.settle(None)
            elif slot.receipt is None:
                self._attempt([slot], self._ping)
            elif slot.quarantine is not None:
                self._attempt([slot], self._park)
            else:
                plain.append((slot, slot.receipt))
        if plain:
            metrics.batch_size.observe(len(plain))
            self._attempt([slot for slot, _ in plain], self._record)

    def _attempt(self, slots: list[_Slot], write: _Write) -> None:
        """Write, once more on a new connection where the old one was lost, one by one where the data is bad."""
        try:
            try:
                write(self._line.connection(), slots)
            except _CONNECTION_LOST:
                self._line.give_up()
                write(self._line.connection(), slots)
        except _CONNECTION_LOST as error:
            self._line.give_up()
            log.warning("storage unavailable", requests=len(slots), error=_first_line(error))
            _settle_all(slots, StorageUnavailableError("the database cannot be reached"))
        except psycopg.Error as error:
            self._line.give_up()
            self._after_bad_data(slots, write, error)

    def _after_bad_data(self, slots: list[_Slot], write: _Write, error: psycopg.Error) -> None:
        if isinstance(error, psycopg.IntegrityError) and "no partition" in str(error):
            self._attempt(slots, _after_partitions(write))
        elif len(slots) > 1:
            for slot in slots:
                self._attempt([slot], write)
        else:
            log.error("a request could not be stored", error=_first_line(error))
            _settle_all(slots, StorageUnavailableError("the request could not be stored"))

    def _record(self, connection: Connection, slots: list[_Slot]) -> None:
        by_key: dict[str, Receipt] = {}
        for slot in slots:
            if slot.receipt:
                by_key.setdefault(slot.receipt.key, slot.receipt)
        fresh = receipts.record(connection, list(by_key.values()))
        if fresh:
            self._on_queued()
        repeated = [key for key, receipt in by_key.items() if receipt.id not in fresh]
        known = receipts.ids_by_key(connection, repeated) if repeated else {}
        for slot in slots:
            slot.settle(_kept(slot.receipt, by_key, known))

    def _park(self, connection: Connection, slots: list[_Slot]) -> None:
        for slot in slots:
            if slot.receipt is None or slot.quarantine is None:
                continue
            room = slot.quarantine
            kept = receipts.park_new(connection, slot.receipt, room.parking, rows=room.rows, size=room.size)
            full = QuarantineFullError("this source has too many unverified requests kept apart already")
            if kept:
                self._on_parked()
            slot.settle(full if kept is None else Kept(slot.receipt.id, repeated=not kept))

    def _ping(self, connection: Connection, slots: list[_Slot]) -> None:
        connection.exec_driver_sql("SELECT pg_current_xact_id()")  # has an id assigned, so that it really commits
        _settle_all(slots, None)


def _after_partitions(write: _Write) -> _Write:
    def written(connection: Connection, slots: list[_Slot]) -> None:
        partitions.ensure(connection)
        write(connection, slots)

    return written


def _kept(receipt: Receipt | None, by_key: dict[str, Receipt], known: dict[str, UUID]) -> Kept | None:
    if receipt is None:
        return None
    first = by_key[receipt.key]
    earlier = known.get(receipt.key)
    return Kept(earlier or first.id, repeated=earlier is not None or receipt is not first)


def _settle_all(slots: Iterable[_Slot], outcome: TidingsError | None) -> None:
    for slot in slots:
        slot.settle(outcome)


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
