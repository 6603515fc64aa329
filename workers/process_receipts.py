"""Process stored receipts: claim a batch, parse it, apply its events, finish it.

A batch is one transaction. If bad data makes it fail, its receipts are applied one by one, so that only the bad one
fails. A receipt that keeps failing, or keeps crashing its worker, becomes `dead` with the reason.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import structlog

from shared.broker import PROCESS_RECEIPTS
from shared.errors import LeaseLostError, first_line
from shared.messages import store as messages
from shared.messages.store import Applied
from shared.receipts import store as receipts
from shared.receipts.store import ClaimedReceipt
from shared.rules.model import tallies
from shared.suppression import evaluator as suppression_evaluator
from workers.context import WorkerContext
from workers.receipt_batch import (
    BAD_DATA,
    LEASE_SECONDS,
    MAX_BATCH_BYTES,
    ParsedReceipt,
    ProcessedCounts,
    ReceiptBatch,
    raise_if_disconnected,
)

_MAX_SECONDS = 5.0
_MAX_EVENTS_OF_SMALL_BATCH = 32

log = structlog.get_logger()


def process_due(ctx: WorkerContext, *, max_seconds: float = _MAX_SECONDS) -> ProcessedCounts:
    """Process due receipts until none is left. When the time is up, wake another task for the rest.

    Receipts that arrive meanwhile have a wake-up of their own. Until then they collect, because a batch of a few
    receipts takes several times as long per receipt as a large one.
    """
    counts = ProcessedCounts()
    deadline = time.monotonic() + max_seconds
    while True:
        token = uuid4()
        # Committed before the work, so that an attempt that crashes its worker counts too.
        with ctx.engine_small_batches.begin() as connection:
            claimed = receipts.claim(
                connection,
                limit=ctx.settings.batch_size,
                max_bytes=MAX_BATCH_BYTES,
                token=token,
                lease_seconds=LEASE_SECONDS,
            )
        if not claimed:
            return counts
        process_batch(ctx, claimed, token, counts)
        if time.monotonic() > deadline:
            ctx.notifier.notify(PROCESS_RECEIPTS)
            return counts
        if _was_last(claimed, ctx.settings.batch_size):
            return counts


def _was_last(claimed: Sequence[ClaimedReceipt], limit: int) -> bool:
    """Return whether the claim took all that was due. A batch with retries may have released some of its receipts."""
    size = sum(len(receipt.body) for receipt in claimed)
    return len(claimed) < limit and size < MAX_BATCH_BYTES and all(receipt.attempts == 1 for receipt in claimed)


def process_batch(ctx: WorkerContext, claimed: Sequence[ClaimedReceipt], token: UUID, counts: ProcessedCounts) -> None:
    """Process claimed receipts: each one is applied, retried, postponed, released or dead afterwards."""
    batch = ReceiptBatch(ctx, token, apply, counts)
    together, suspects = batch.split(claimed)
    parsed = batch.parse(together)
    try:
        if parsed:
            batch.apply(parsed)
    except (*BAD_DATA, LeaseLostError) as error:
        raise_if_disconnected(error)
        log.warning("batch failed, applying its receipts one by one", receipts=len(parsed), error=first_line(error))
        for one in parsed:
            batch.apply_alone(one)
    batch.apply_first_suspect(suspects)


def apply(ctx: WorkerContext, parsed: Sequence[ParsedReceipt], token: UUID) -> Applied:
    """Take receipts off the queue and apply their events, in one transaction. Raises LeaseLostError."""
    events = [event for one in parsed for event in one.events]
    engine = ctx.engine_small_batches if len(events) <= _MAX_EVENTS_OF_SMALL_BATCH else ctx.engine
    with engine.begin() as connection:
        receipts.finish(connection, [one.receipt.id for one in parsed], token)
        rules = ctx.rules.rules(connection)
        applied = messages.apply(connection, events, tallies(rules.alerts))
        suppression_evaluator.apply_events(connection, rules.suppression, ctx.hasher, events, datetime.now(UTC))
        return applied
