"""Reprocess receipts: replace the events of each by those that today's parser and rules produce."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from shared.broker import REPROCESS
from shared.messages.store import Applied
from shared.receipts import store as receipts
from shared.reprocessing import reprocess
from workers.context import WorkerContext
from workers.receipt_batch import LEASE_SECONDS, MAX_BATCH_BYTES, ParsedReceipt, ProcessedCounts, ReceiptBatch

MAX_BATCH = 20
"""This takes about a tenth of a second."""
_MAX_SECONDS = 0.5  # new receipts wait at most this long for a process that does both


def reprocess_due(ctx: WorkerContext, *, max_seconds: float = _MAX_SECONDS) -> ProcessedCounts:
    """Reprocess due receipts until none is left. When the time is up, wake another task for the rest."""
    counts = ProcessedCounts()
    deadline = time.monotonic() + max_seconds
    while True:
        token = uuid4()
        with ctx.engine_small_batches.begin() as connection:
            claimed = receipts.claim(
                connection,
                statement=receipts.CLAIM_REPROCESS,
                limit=MAX_BATCH,
                max_bytes=MAX_BATCH_BYTES,
                token=token,
                lease_seconds=LEASE_SECONDS,
            )
        if not claimed:
            return counts
        batch = ReceiptBatch(ctx, token, replace, counts)
        together, alone = batch.split(claimed)
        for parsed in batch.parse([*together, *alone]):
            batch.apply_alone(parsed)
        if time.monotonic() > deadline:
            ctx.notifier.notify(REPROCESS)
            return counts


def replace(ctx: WorkerContext, parsed: Sequence[ParsedReceipt], token: UUID) -> Applied:
    """Remove receipts from the queue and replace their events, in one transaction. Raises LeaseLostError."""
    applied = Applied(0, 0)
    with ctx.engine.begin() as connection:
        receipts.finish(connection, [one.receipt.id for one in parsed], token)
        policy = ctx.rules.rules(connection).suppression
        for receipt, events in parsed:
            difference, _ = reprocess.replace(connection, receipt.id, events, policy, ctx.hasher, datetime.now(UTC))
            applied = Applied(applied.new_events, applied.changes + len(difference.states))
    return applied
