"""A batch of claimed receipts. Each is applied, retried, postponed, released or marked as dead.

The tasks that process and that reprocess receipts share this code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from shared import backoff
from shared.broker import DELIVER
from shared.errors import LeaseLostError, PayloadError, first_line
from shared.messages.store import Applied, NewEvent
from shared.receipts import normalize
from shared.receipts import store as receipts
from shared.receipts.store import ClaimedReceipt
from shared.sources.source import Source
from workers.context import WorkerContext

LEASE_SECONDS = 30
MAX_BATCH_BYTES = 2 * 1024 * 1024
BAD_DATA = (DBAPIError, ValueError)
"""The database rejects the data, or psycopg cannot encode it (half of a surrogate pair)."""

_ALONE_FROM_ATTEMPT = 3
_POSTPONE_SECONDS = 30.0
_MAX_DEADLOCK_ATTEMPTS = 3
_DEADLOCK_OR_SERIALIZATION = ("40P01", "40001")

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class ProcessedCounts:
    """Counts of one run of a task."""

    receipts: int = 0
    new_events: int = 0
    dead: int = 0


class ParsedReceipt(NamedTuple):
    """A claimed receipt and its events."""

    receipt: ClaimedReceipt
    events: list[NewEvent]


ClaimedWithSource = tuple[ClaimedReceipt, Source]
Apply = Callable[[WorkerContext, Sequence[ParsedReceipt], UUID], Applied]
"""Removes receipts from the queue and applies their events, in one transaction. Raises LeaseLostError."""


class ReceiptBatch:
    """Receipts that this worker has leased under one fencing token; `apply` is the task's way to apply them."""

    def __init__(self, ctx: WorkerContext, token: UUID, apply: Apply, counts: ProcessedCounts) -> None:
        self._ctx = ctx
        self._token = token
        self._apply = apply
        self._counts = counts

    def split(self, claimed: Sequence[ClaimedReceipt]) -> tuple[list[ClaimedWithSource], list[ClaimedWithSource]]:
        """Return the receipts to apply together and the suspects, each with its source.

        A suspect may have crashed the workers that claimed it before. A receipt whose source cannot be opened is
        postponed until an operator fixes the source; the attempt does not count. A receipt without attempts left is
        marked as dead without parsing, because parsing may be what crashes workers.
        """
        with self._ctx.engine.connect() as connection:
            sources = self._ctx.source_cache.of(connection, {receipt.source_id for receipt in claimed})
        together: list[ClaimedWithSource] = []
        suspects: list[ClaimedWithSource] = []
        waiting: list[ClaimedReceipt] = []
        for receipt in claimed:
            source = sources.get(receipt.source_id)
            if not isinstance(source, Source):
                waiting.append(receipt)
            elif receipt.attempts > self._ctx.settings.max_attempts:
                reason = "attempts that ended without an error; each may have crashed its worker"
                self._mark_dead(receipt, "attempts_exhausted", f"Gave up after {receipt.attempts - 1} {reason}.")
            elif receipt.attempts >= _ALONE_FROM_ATTEMPT:
                suspects.append((receipt, source))
            else:
                together.append((receipt, source))
        if waiting:
            self._postpone(waiting, f"The source cannot be used: {sources.get(waiting[0].source_id)}")
        return together, suspects

    def parse(self, attempts: Sequence[ClaimedWithSource]) -> list[ParsedReceipt]:
        """Return the receipts that can be parsed. The others become dead, or are retried after a bug of the parser."""
        parsed = []
        for receipt, source in attempts:
            try:
                parsed.append(
                    ParsedReceipt(
                        receipt, normalize.parse_events(source, receipt.id, receipt.received_at, receipt.body)
                    )
                )
            except PayloadError as error:
                self._mark_dead(receipt, "unreadable", str(error))
            except Exception as error:  # a parser's bug must not delay the other receipts
                log.exception("parser failed", receipt=str(receipt.id), source=source.slug)
                self._retry(receipt, f"the parser failed: {type(error).__name__}: {error}")
        return parsed

    def apply(self, parsed: Sequence[ParsedReceipt]) -> None:
        """Apply receipts in one transaction; retry after a deadlock. Raises LeaseLostError and the BAD_DATA errors."""
        for attempts_left in reversed(range(_MAX_DEADLOCK_ATTEMPTS)):
            try:
                applied = self._apply(self._ctx, parsed, self._token)
                break
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) not in _DEADLOCK_OR_SERIALIZATION or not attempts_left:
                    raise
        self._counts.receipts += len(parsed)
        self._counts.new_events += applied.new_events
        if applied.changes:
            self._ctx.notifier.notify(DELIVER)

    def apply_alone(self, parsed: ParsedReceipt) -> None:
        """Apply one receipt; if that fails, retry or postpone it. Raises only if the database connection is lost."""
        receipt = parsed.receipt
        try:
            self.apply([parsed])
        except LeaseLostError:
            log.info("lease lost", receipt=str(receipt.id))
        except BAD_DATA as error:
            raise_if_disconnected(error)
            if isinstance(error, OperationalError | InterfaceError):
                # Such as a full disk or a lock timeout: not the receipt's fault, so the attempt does not count.
                self._postpone([receipt], first_line(error))
            else:
                self._retry(receipt, first_line(error))

    def apply_first_suspect(self, suspects: Sequence[ClaimedWithSource]) -> None:
        """Apply the first suspect, after releasing the others: a crash must not count as an attempt for them."""
        if not suspects:
            return
        with self._ctx.engine.begin() as connection:
            receipts.release(connection, [receipt.id for receipt, _ in suspects[1:]], self._token)
        for parsed in self.parse(suspects[:1]):
            self.apply_alone(parsed)

    def _postpone(self, waiting: Sequence[ClaimedReceipt], error: str) -> None:
        log.error("receipts postponed", receipts=len(waiting), first=str(waiting[0].id), error=error)
        ids = [receipt.id for receipt in waiting]
        with self._ctx.engine.begin() as connection:
            receipts.postpone(connection, ids, self._token, error=error, delay_seconds=_POSTPONE_SECONDS)

    def _retry(self, receipt: ClaimedReceipt, error: str) -> None:
        if receipt.attempts >= self._ctx.settings.max_attempts:
            self._mark_dead(receipt, "failed", error)
            return
        log.warning("receipt failed, will be retried", receipt=str(receipt.id), error=error, attempts=receipt.attempts)
        delay = backoff.RECEIPTS.delay_seconds(receipt.attempts)
        with self._ctx.engine.begin() as connection:
            receipts.retry(connection, receipt.id, self._token, error=error, delay_seconds=delay)

    def _mark_dead(self, receipt: ClaimedReceipt, reason: str, detail: str) -> None:
        log.warning("receipt is dead", receipt=str(receipt.id), reason=reason, detail=detail)
        with self._ctx.engine.begin() as connection:
            receipts.mark_dead(connection, receipt.id, self._token, reason=reason, detail=detail)
        self._counts.dead += 1


def raise_if_disconnected(error: Exception) -> None:
    """Raise the error again if the database connection is lost. The leases expire, and another worker retries."""
    if isinstance(error, OperationalError | InterfaceError) and error.connection_invalidated:
        raise error
