"""Group commit: one INSERT and one fsync store all waiting requests.

Requests submit receipts to one writer thread. It takes all waiting receipts, stores them with one statement, and wakes
their requests together. If bad data makes the batch fail, the writer retries its rows one by one, so that only the bad
row fails.
"""

import math
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from psycopg.errors import DiskFull, ReadOnlySqlTransaction
from sqlalchemy import Connection, Engine, case, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from receiver import metrics
from receiver.errors import QuarantineFullError, StorageUnavailableError
from shared.errors import VerificationError, first_line
from shared.http import greenlets
from shared.http.greenlets import Completion
from shared.http.timeouts import TimeoutWheel
from shared.postgres import partitions
from shared.postgres.engine import is_partition_missing
from shared.receipts import quarantine as quarantine_store
from shared.receipts import store as receipts
from shared.receipts.store import Receipt
from shared.supervision import SupervisedThread
from shared.vocabulary import RefusalReason

WAIT_SECONDS = 1.2
"""How long a request waits for its commit. After that, the response asks the provider to retry."""

STALLED_SECONDS = 0.8
"""After this long in one commit, the database counts as down: new requests are refused at once."""

_CHECK_SECONDS = 0.05
_CHECK_COMMIT_SECONDS = 1.0
_REFUSED_SECONDS = 1.0
_DISK_FULL_SECONDS = 10.0
_UNAVAILABLE = "The database cannot be reached, or refuses to write."
_GATHER_SECONDS = 0.001
_MANY_ROWS = 4
"""After a commit of this many rows, the next one waits a moment for more: they share what a commit costs."""
_MAX_BATCH_ROWS = 500
_MAX_BATCH_BYTES = 8 * 1024 * 1024
_MAX_WAITING = 5000
_CONNECTION_LOST = (OperationalError, InterfaceError, PoolTimeoutError)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """The receipt of a request. For a duplicate, that is the receipt of the original request."""

    receipt_id: UUID
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Why a receipt goes to quarantine, and the limits of its source's quarantine."""

    error: VerificationError
    max_rows: int
    max_bytes: int


_Outcome = StoredReceipt | Exception | None


class _PendingWrite:
    """A request that waits for its commit. A health check has no receipt: it tests whether a commit is possible."""

    __slots__ = ("completion", "quarantine", "receipt")

    def __init__(
        self, receipt: Receipt | None, quarantine: Quarantine | None, timeouts: TimeoutWheel[Completion[Any]]
    ) -> None:
        self.receipt = receipt
        self.quarantine = quarantine
        self.completion: Completion[StoredReceipt | None] = Completion(timeouts)


_Write = Callable[[Connection, list[_PendingWrite]], Sequence[_Outcome]]


class GroupCommitWriter:
    """Stores receipts of requests that run on an event loop or in threads.

    The writer calls `on_queued` after each commit that queued receipts, with their number. It calls `on_quarantined`
    after each receipt that went to quarantine. Quarantined receipts are written one by one, so they have a separate
    writer: forged requests do not delay genuine ones.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        on_queued: Callable[[int], None] = lambda _receipts: None,
        on_quarantined: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None
        self._on_queued = on_queued
        self._on_quarantined = on_quarantined
        self._timeouts: TimeoutWheel[Completion[Any]] = TimeoutWheel(_CHECK_SECONDS)
        self._busy_since: float | None = None
        self._last_rows = 0
        self._refused_until = self._checked_at = -math.inf
        self._waiting: queue.SimpleQueue[_PendingWrite | None] = queue.SimpleQueue()
        self._thread = SupervisedThread("group commit", self._run)
        self._thread.start()

    def store(self, receipt: Receipt, quarantine: Quarantine | None = None) -> StoredReceipt:
        """Store a receipt, and return when it is committed.

        Raises StorageUnavailableError; VerificationError for a replay; with `quarantine` also QuarantineFullError.
        """
        stored = self._submit(receipt, quarantine)
        if stored is None:
            raise StorageUnavailableError("The request could not be stored.")
        return stored

    def check(self) -> None:
        """Check that a commit is possible now. Raises StorageUnavailableError if not.

        Commits at most once a second, whatever the number of callers. Receipts that could not be stored a moment ago
        count too: a full disk may refuse rows although it still has room for a commit.
        """
        now = time.monotonic()
        if now < self._refused_until:
            raise StorageUnavailableError(_UNAVAILABLE)
        if now - self._checked_at < _CHECK_COMMIT_SECONDS:
            return
        self._submit(None, None)

    def close(self) -> None:
        """Store all waiting receipts, then stop."""
        self._waiting.put(None)
        self._thread.join(timeout=2 * WAIT_SECONDS)

    def _submit(self, receipt: Receipt | None, quarantine: Quarantine | None) -> StoredReceipt | None:
        if self._waiting.qsize() >= _MAX_WAITING:
            raise StorageUnavailableError("Too many requests are waiting for the database.")
        busy_since = self._busy_since
        if busy_since is not None and time.monotonic() - busy_since > STALLED_SECONDS:
            raise StorageUnavailableError("The database does not respond.")
        pending = _PendingWrite(receipt, quarantine, self._timeouts)
        self._waiting.put(pending)
        try:
            return pending.completion.wait(WAIT_SECONDS)
        except TimeoutError:
            # The commit may still succeed. Then the provider's retry is a duplicate.
            raise StorageUnavailableError(f"The database did not commit within {WAIT_SECONDS} seconds.") from None

    def _run(self) -> None:
        self._disconnect()  # if this is a restart
        self._busy_since = None
        while self._write_next():
            pass  # a separate method, so that no reference to the last batch survives while the thread waits
        self._disconnect()
        self._engine.dispose()

    def _write_next(self) -> bool:
        """Wait for requests and write them. Return False after the last ones."""
        first = self._waiting.get()
        if first is None:
            return False
        if self._last_rows >= _MANY_ROWS and self._waiting.qsize() < _MAX_BATCH_ROWS:
            time.sleep(_GATHER_SECONDS)
        batch, is_last = self._collect(first)
        self._last_rows = len(batch)
        self._busy_since = time.monotonic()
        try:
            self._write_batch(batch)
        except Exception:  # a bug must not end the thread
            log.exception("group commit failed; its requests time out, and the providers retry them")
            self._disconnect()
        self._busy_since = None
        return not is_last

    def _collect(self, first: _PendingWrite) -> tuple[list[_PendingWrite], bool]:
        """Return the waiting writes, up to the limits of a batch, and whether the writer must stop afterwards."""
        batch = [first]
        size = len(first.receipt.body) if first.receipt else 0
        while len(batch) < _MAX_BATCH_ROWS and size < _MAX_BATCH_BYTES:
            try:
                pending = self._waiting.get_nowait()
            except queue.Empty:
                break
            if pending is None:
                return batch, True
            batch.append(pending)
            size += len(pending.receipt.body) if pending.receipt else 0
        return batch, False

    def _write_batch(self, batch: list[_PendingWrite]) -> None:
        plain: list[_PendingWrite] = []
        checks: list[_PendingWrite] = []
        for pending in batch:
            if pending.completion.is_abandoned:
                continue
            if pending.receipt is None:
                checks.append(pending)
            elif pending.quarantine is not None:
                self._write([pending], self._quarantine)
            else:
                plain.append(pending)
        if plain:
            metrics.count_commit(len(plain))
            self._write(plain, self._record)
        if checks:
            self._write(checks, _ping)

    def _write(self, batch: list[_PendingWrite], write: _Write) -> None:
        """Write a batch and complete its requests. After bad data, write row by row."""
        outcomes: Sequence[_Outcome]
        try:
            try:
                outcomes = write(self._connect(), batch)
            except _CONNECTION_LOST:
                self._disconnect()
                outcomes = write(self._connect(), batch)
            self._checked_at = time.monotonic()
            if write is not _ping:
                self._refused_until = -math.inf
        except _CONNECTION_LOST as error:
            self._disconnect()
            log.warning("storage unavailable", requests=len(batch), error=first_line(error))
            is_full = isinstance(getattr(error, "orig", None), DiskFull)
            self._refused_until = time.monotonic() + (_DISK_FULL_SECONDS if is_full else _REFUSED_SECONDS)
            outcomes = [StorageUnavailableError(_UNAVAILABLE) for _ in batch]
        except DBAPIError as error:
            self._disconnect()
            if is_partition_missing(error):
                self._write(batch, _create_partitions_before(write))
                return
            if len(batch) > 1:
                for pending in batch:
                    self._write([pending], write)
                return
            log.warning("a request could not be stored", error=first_line(error))
            outcomes = [StorageUnavailableError("The request could not be stored.")]
        greenlets.complete((pending.completion, outcome) for pending, outcome in zip(batch, outcomes, strict=True))

    def _connect(self) -> Connection:
        """Return the writer's connection. Checking one out of the pool for each batch would cost twice as much."""
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _record(self, connection: Connection, batch: list[_PendingWrite]) -> Sequence[_Outcome]:
        """Queue the receipts of a batch. A repetition has the id of the first; a replay is refused."""
        by_key: dict[str, Receipt] = {}
        for pending in batch:
            if pending.receipt:
                by_key.setdefault(pending.receipt.key, pending.receipt)
        new_ids, earlier, replays = receipts.accept(connection, by_key.values())
        if new_ids:
            self._on_queued(len(new_ids))
        outcomes: list[_Outcome] = []
        for pending in batch:
            receipt = pending.receipt
            if receipt is None:
                outcomes.append(None)
                continue
            first, earlier_id = by_key[receipt.key], earlier.get(receipt.key)
            if receipt.key in replays or (receipt.is_single_use and receipt.body != first.body):
                sentence = "The token of the signature was used before, for another request"
                outcomes.append(VerificationError(RefusalReason.REPLAYED, sentence))
                continue
            is_repeated = earlier_id is not None or receipt is not first
            outcomes.append(StoredReceipt(earlier_id or first.id, is_repeated=is_repeated))
        return outcomes

    def _quarantine(self, connection: Connection, batch: list[_PendingWrite]) -> Sequence[_Outcome]:
        """Add the receipts of a batch to the quarantines of their sources, as far as these have room."""
        outcomes: list[_Outcome] = []
        for pending in batch:
            receipt, quarantine = pending.receipt, pending.quarantine
            if receipt is None or quarantine is None:
                outcomes.append(None)
                continue
            is_new = quarantine_store.add(
                connection, receipt, quarantine.error, max_rows=quarantine.max_rows, max_bytes=quarantine.max_bytes
            )
            if is_new is None:
                outcomes.append(
                    QuarantineFullError("The source's quarantine is full; correct its credentials, or try again later.")
                )
                continue
            if is_new:
                self._on_quarantined()
            outcomes.append(StoredReceipt(receipt.id, is_repeated=not is_new))
        return outcomes


def _ping(connection: Connection, batch: list[_PendingWrite]) -> Sequence[_Outcome]:
    # Assigns a transaction id, so that COMMIT writes to disk.
    is_writable = func.current_setting("transaction_read_only") == "off"
    if connection.execute(select(case((is_writable, func.pg_current_xact_id())))).scalar() is None:
        raise OperationalError("check", None, ReadOnlySqlTransaction("the database is read-only"))
    return [None] * len(batch)


def _create_partitions_before(write: _Write) -> _Write:
    def create_and_write(connection: Connection, batch: list[_PendingWrite]) -> Sequence[_Outcome]:
        partitions.create_missing(connection)
        return write(connection, batch)

    return create_and_write
