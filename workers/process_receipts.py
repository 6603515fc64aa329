"""Process stored receipts: claim a batch, parse it, apply its events, finish it.

A batch is one transaction for every MAX_EVENTS events. If bad data makes it fail, its receipts are applied one by one,
so that only the bad one fails. A receipt that keeps failing, or keeps crashing its worker, becomes `dead` with the
reason. A receipt with more events is applied in parts, between which others are processed (docs/decisions/0045).
"""

import fcntl
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from uuid import UUID, uuid4

import structlog
from sqlalchemy import func, select

from shared.broker import PROCESS_RECEIPTS
from shared.counters.metric_store import Metric
from shared.errors import LeaseLostError, first_line
from shared.messages import store as messages
from shared.messages.store import Applied
from shared.postgres.engine import STATEMENT_ERRORS
from shared.receipts import store as receipts
from shared.receipts.store import ClaimedReceipt
from shared.rules.model import tallies
from shared.suppression import evaluator as suppression_evaluator
from workers.context import WorkerContext
from workers.receipt_batch import (
    LEASE_SECONDS,
    MAX_BATCH_BYTES,
    ParsedReceipt,
    ProcessedCounts,
    ReceiptBatch,
    group,
    is_alone,
    raise_if_disconnected,
)

_MAX_SECONDS = 5.0
_MAX_EVENTS_OF_SMALL_BATCH = 32
_FEW_RECEIPTS = 8
"""After a claim of at most this many receipts, the next claim follows soon, without a wake-up."""
_PAUSE_SECONDS = 0.01
"""The minimum time between a claim of a few receipts and the next claim. Meanwhile receipts collect."""
_LONGEST_TURN_SECONDS = 0.5
"""Shorter than the longest wait for a turn, so that no process stops waiting for one that is working."""
_LONGEST_WAIT_SECONDS = 1.0
_POLL_SECONDS = 0.005
# The processes of a worker inherit this file, and each can lock it. The system releases the lock of one that dies.
with tempfile.TemporaryFile() as _file:
    _turn = os.dup(_file.fileno())
# Other workers wait for a long statement, so its timeout is shorter than the usual one. The lock timeout is shorter
# still, so that the error shows whether another transaction or the receipt is at fault.
_LIMITS = select(func.set_config("statement_timeout", "8s", True), func.set_config("lock_timeout", "5s", True))

log = structlog.get_logger()


def process_due(ctx: WorkerContext, *, max_seconds: float = _MAX_SECONDS) -> ProcessedCounts:
    """Process due receipts until none is left. When the time is up, wake another task for the rest.

    Receipts that arrive meanwhile collect until the next wake-up, or for a moment if there were few: a batch of a few
    receipts takes several times as long per receipt as a large one.
    """
    counts = ProcessedCounts()
    limit = ctx.settings.batch_size
    try:
        wait_for_turn()
        begin = time.monotonic()
        deadline = begin + max_seconds
        while True:
            claimed_at = time.monotonic()
            claimed, token = _claim(ctx, receipts.CLAIM)
            if not claimed:
                return counts
            size = sum(len(receipt.body) for receipt in claimed)
            claimed_all = len(claimed) < limit and size < MAX_BATCH_BYTES and not any(map(is_alone, claimed))
            if not claimed_all:  # there is enough for another process
                end_turn()
                ctx.notifier.notify(PROCESS_RECEIPTS)
            process_batch(ctx, claimed, token, counts)
            if time.monotonic() > deadline:
                ctx.notifier.notify(PROCESS_RECEIPTS)
                return counts
            if claimed_all:
                now = time.monotonic()
                if len(claimed) > _FEW_RECEIPTS or now > begin + _LONGEST_TURN_SECONDS:
                    return counts
                time.sleep(max(0.0, claimed_at + _PAUSE_SECONDS - now))
            wait_for_turn()
    finally:
        end_turn()


def wait_for_turn() -> bool:
    """Wait while another process of this worker processes the last of the due receipts; return whether it has finished.

    Otherwise each process would take a few receipts, and a batch of a few costs several times as much per receipt. The
    wait ends after a second, because the other process may hang (docs/decisions/0048).
    """
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError, PermissionError):
            fcntl.lockf(_turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_POLL_SECONDS)
    return False


def end_turn() -> None:
    """Let another process of this worker take due receipts."""
    fcntl.lockf(_turn, fcntl.LOCK_UN)


def _claim(ctx: WorkerContext, statement: str) -> tuple[Sequence[ClaimedReceipt], UUID]:
    """Claim a batch of due receipts; return it with its fencing token."""
    token = uuid4()
    # Committed before the work, so that an attempt that crashes its worker counts too.
    with ctx.engine_small_batches.begin() as connection:
        claimed = receipts.claim(
            connection,
            statement=statement,
            limit=ctx.settings.batch_size,
            max_bytes=MAX_BATCH_BYTES,
            token=token,
            lease_seconds=LEASE_SECONDS,
        )
    return claimed, token


def process_batch(
    ctx: WorkerContext, claimed: Sequence[ClaimedReceipt], token: UUID, counts: ProcessedCounts, *, nested: bool = False
) -> None:
    """Process claimed receipts: each one is applied, retried, postponed or dead afterwards.

    `nested`: this call comes between the parts of a large receipt, so nothing is processed between its own parts.
    """
    process_others = None if nested else partial(process_small, ctx, counts)
    batch = ReceiptBatch(ctx, token, partial(apply, between_parts=process_others), counts)
    together, alone = batch.split(claimed)
    for parsed in group(batch.parse(together)):
        try:
            batch.apply(parsed)
        except (*STATEMENT_ERRORS, LeaseLostError) as error:
            raise_if_disconnected(error)
            error.__traceback__ = None  # it holds the statement's parameters
            log.warning("batch failed, applying its receipts one by one", receipts=len(parsed), error=first_line(error))
            batch.apply_one_by_one(parsed)
    for one in batch.parse(alone):
        batch.apply_alone(one)
    if alone and process_others is not None:
        process_others()


def process_small(ctx: WorkerContext, counts: ProcessedCounts) -> None:
    """Process one batch of due receipts with small bodies: a large one does not delay them, however many there are."""
    claimed, token = _claim(ctx, receipts.CLAIM_SMALL)
    if claimed:
        process_batch(ctx, claimed, token, counts, nested=True)


def apply(
    ctx: WorkerContext,
    parsed: Sequence[ParsedReceipt],
    token: UUID,
    *,
    between_parts: Callable[[], None] | None = None,
) -> Applied:
    """Take receipts off the queue and apply their events, in one transaction. Raises LeaseLostError.

    A receipt with more than MAX_EVENTS events comes alone, and is applied in several; the last takes it off the queue.
    """
    events = [event for one in parsed for event in one.events]
    is_small = len(events) <= _MAX_EVENTS_OF_SMALL_BATCH and parsed[0].receipt.attempts == 1
    engine = ctx.engine_small_batches if is_small else ctx.engine
    ids = [one.receipt.id for one in parsed]
    new_events = changes = 0
    counted: Counter[tuple[int, str]] = Counter()
    *_, last = parts = list(messages.parts(events))
    for part in parts:
        with engine.begin() as connection:
            if not is_small:
                connection.execute(_LIMITS)
            if part is last:
                receipts.finish(connection, ids, token)
            else:
                receipts.renew(connection, ids, token, lease_seconds=LEASE_SECONDS)
            rules = ctx.rules.rules(connection)
            applied = messages.apply(connection, part, tallies(rules.alerts))
            suppression_evaluator.apply_events(connection, rules.suppression, ctx.hasher, part, datetime.now(UTC))
            if applied.new_events:
                new = part if applied.new_events == len(part) else messages.stored(connection, part)
                counted.update(map(attrgetter("source_id", "type"), new))
        new_events, changes = new_events + applied.new_events, changes + applied.changes
        if part is not last and between_parts is not None:
            between_parts()
    now = time.time()
    latencies = [now - one.receipt.received_at.timestamp() for one in parsed]
    ctx.observations.observe(Metric.PROCESSING_LATENCY, latencies)
    ctx.observations.count(Metric.EVENTS, counted)
    if log.is_enabled_for(logging.DEBUG):
        log_processed(ctx, parsed)
    return Applied(new_events, changes)


def log_processed(ctx: WorkerContext, parsed: Sequence[ParsedReceipt]) -> None:
    """Log each receipt with its number of events and the ids of the messages of the new ones."""
    with ctx.engine.begin() as connection:
        rows = messages.stored(connection, [event for one in parsed for event in one.events])
    for one in parsed:
        own = {event.id for event in one.events}
        found = {str(row.message_id) for row in rows if row.id in own and row.message_id}
        log.debug("receipt processed", receipt=str(one.receipt.id), events=len(one.events), messages=sorted(found))
