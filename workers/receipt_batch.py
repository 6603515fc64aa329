"""A batch of claimed receipts. Each is applied, retried, postponed, released or marked as dead.

The tasks that process and that reprocess receipts share this code.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError, OperationalError

from shared import backoff
from shared.broker import DELIVER
from shared.errors import LeaseLostError, PayloadError, first_line
from shared.messages.store import MAX_EVENTS, Applied, NewEvent
from shared.postgres.engine import STATEMENT_ERRORS, is_conflict, is_database_fault
from shared.receipts import normalize
from shared.receipts import store as receipts
from shared.receipts.store import ClaimedReceipt
from shared.sources.source import Source
from workers.context import WorkerContext

LEASE_SECONDS = 10
"""The lease of a first attempt; later attempts have longer ones. The receipts of a crashed worker wait this long."""
_RENEW_SECONDS = 1.0
"""How old a lease may become before its next receipt. A statement's timeout is 8 s."""
MAX_BATCH_BYTES = 2 * 1024 * 1024
_POSTPONE_SECONDS = 30.0
_MAX_DEADLOCK_ATTEMPTS = 3
_OUT_OF_MEMORY = "its events need more memory than a worker may use"

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
        """Return the receipts to apply together, and those to apply alone after them, each with its source.

        Large bodies are applied alone, and so are receipts that were tried before, which may have crashed their worker.
        A receipt whose source cannot be opened is postponed until an operator fixes the source; the attempt does not
        count. So is one that a later version has stored, until this one is updated. A receipt without attempts left is
        marked as dead without parsing, because parsing may be what crashes workers.
        """
        with self._ctx.engine.connect() as connection:
            versions = {receipt.source_id: receipt.source_version for receipt in claimed}
            sources = self._ctx.source_cache.of(connection, versions)
        together: list[ClaimedWithSource] = []
        alone: list[ClaimedWithSource] = []
        waiting: dict[str, list[ClaimedReceipt]] = {}
        for receipt in claimed:
            source = sources.get(receipt.source_id)
            if not isinstance(source, Source):
                waiting.setdefault(f"The source cannot be used: {source}", []).append(receipt)
            elif isinstance(receipt.unreadable, PayloadError):
                self._mark_dead(receipt, "unreadable", str(receipt.unreadable))
            elif receipt.unreadable is not None:
                waiting.setdefault(str(receipt.unreadable), []).append(receipt)
            elif receipt.attempts > self._ctx.settings.max_attempts:
                attempts = f"{receipt.attempts - 1} attempts that ended without an error"
                detail = f"Gave up after {attempts}; each may have crashed its worker."
                self._mark_dead(receipt, "attempts_exhausted", detail)
            elif is_alone(receipt):
                alone.append((receipt, source))
            else:
                together.append((receipt, source))
        for reason, receipts_of_reason in waiting.items():
            self._postpone(receipts_of_reason, reason)
        return together, alone

    def parse(self, claimed: Iterable[ClaimedWithSource]) -> Iterator[ParsedReceipt]:
        """Yield the receipts that can be parsed. The others become dead, or are retried after a bug of the parser."""
        for receipt, source in claimed:
            try:
                events = normalize.parse_events(source, receipt.id, receipt.received_at, receipt.body)
            except PayloadError as error:
                self._mark_dead(receipt, "unreadable", str(error))
            except MemoryError as error:
                error.__traceback__ = None  # it holds what was parsed
                self._retry(receipt, _OUT_OF_MEMORY)
            except Exception as error:  # a parser's bug must not delay the other receipts
                log.exception("parser failed", receipt=str(receipt.id), source=source.slug)
                self._retry(receipt, f"the parser failed: {type(error).__name__}: {error}")
            else:
                yield ParsedReceipt(receipt, events)

    def apply(self, parsed: Sequence[ParsedReceipt]) -> None:
        """Apply receipts in one transaction; retry after a deadlock. Raises LeaseLostError and STATEMENT_ERRORS."""
        for attempts_left in reversed(range(_MAX_DEADLOCK_ATTEMPTS)):
            try:
                applied = self._apply(self._ctx, parsed, self._token)
                break
            except OperationalError as error:
                if not is_conflict(error) or not attempts_left:
                    raise
        self._counts.receipts += len(parsed)
        self._counts.new_events += applied.new_events
        if applied.changes:
            self._ctx.notifier.notify(DELIVER)

    def apply_alone(self, parsed: ParsedReceipt) -> None:
        """Apply one receipt; if that fails, retry or postpone it. Raises only if the database connection is lost.

        The attempt counts unless the error is the database's own, such as a full disk or a lock timeout.
        """
        receipt = parsed.receipt
        try:
            self.apply([parsed])
        except LeaseLostError:
            log.info("lease lost", receipt=str(receipt.id))
        except STATEMENT_ERRORS as error:
            raise_if_disconnected(error)
            error.__traceback__ = None
            if isinstance(error, MemoryError):
                self._retry(receipt, _OUT_OF_MEMORY)
            elif is_database_fault(error):
                self._postpone([receipt], first_line(error))
            else:
                self._retry(receipt, first_line(error))

    def apply_one_by_one(self, parsed: Iterable[ParsedReceipt]) -> None:
        """Apply each receipt alone, the smallest first, and keep the lease of those that wait."""
        waiting = sorted(parsed, key=lambda one: len(one.events))
        renewed_at = -math.inf
        for position, one in enumerate(waiting):
            if time.monotonic() > renewed_at + _RENEW_SECONDS:
                renewed_at = time.monotonic()
                self._renew([later.receipt.id for later in waiting[position:]])
            self.apply_alone(one)

    def _renew(self, ids: Sequence[UUID]) -> None:
        try:
            with self._ctx.engine.begin() as connection:
                receipts.renew(connection, ids, self._token, lease_seconds=LEASE_SECONDS)
        except LeaseLostError as error:
            log.info("lease lost", receipts=len(ids), error=str(error))
        except STATEMENT_ERRORS as error:  # the lease may last long enough
            raise_if_disconnected(error)

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


def is_alone(receipt: ClaimedReceipt) -> bool:
    """Return whether a receipt is processed alone, after the others, because it may take long or crash its worker."""
    return receipt.attempts > 1 or len(receipt.body) > receipts.SMALL_BYTES


def group(parsed: Iterable[ParsedReceipt]) -> Iterator[list[ParsedReceipt]]:
    """Group receipts so that each group has at most MAX_EVENTS events, or is one receipt."""
    together: list[ParsedReceipt] = []
    size = 0
    for one in parsed:
        if together and size + len(one.events) > MAX_EVENTS:
            yield together
            together, size = [], 0
        together.append(one)
        size += len(one.events)
    if together:
        yield together


def raise_if_disconnected(error: Exception) -> None:
    """Raise the error again if the database connection is lost. The leases expire, and another worker retries."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        raise error
