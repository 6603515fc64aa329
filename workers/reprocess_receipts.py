"""Reprocess receipts: replace what each said by what today's parser and rules make of it, one transaction each."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from shared.broker import REPROCESS
from shared.messages.store import Applied
from shared.receipts import store as receipts
from shared.reprocessing import reprocess
from workers.context import WorkerContext
from workers.receipt_batch import LEASE_SECONDS, MAX_BATCH_BYTES, Parsed, Processed, ReceiptBatch

MAX_BATCH = 20
"""About a tenth of a second's work."""
_MAX_SECONDS = 0.5  # new receipts wait for so long at most where a process does both


def reprocess_due(ctx: WorkerContext, *, max_seconds: float = _MAX_SECONDS) -> Processed:
    """Reprocess due receipts until none is left or the time is up; then wake another task for the rest."""
    counts = Processed()
    deadline = time.monotonic() + max_seconds
    while True:
        token = uuid4()
        with ctx.engine_small_batches.begin() as connection:
            claimed = receipts.claim(
                connection,
                reprocess=True,
                limit=MAX_BATCH,
                max_bytes=MAX_BATCH_BYTES,
                token=token,
                lease_seconds=LEASE_SECONDS,
            )
        if not claimed:
            return counts
        batch = ReceiptBatch(ctx, token, replace, counts)
        alone, suspects = batch.sort(claimed)
        for parsed in batch.parse(alone):
            batch.apply_alone(parsed)
        batch.try_suspect(suspects)
        if time.monotonic() > deadline:
            ctx.notifier.notify(REPROCESS)
            return counts


def replace(ctx: WorkerContext, parsed: Sequence[Parsed], token: UUID) -> Applied:
    """Take receipts off the queue and replace what they said, in one transaction. Raises LeaseLostError."""
    applied = Applied(0, 0)
    with ctx.engine.begin() as connection:
        receipts.finish(connection, [one.receipt.id for one in parsed], token)
        policy = ctx.rules.rules(connection).suppression
        for receipt, events in parsed:
            difference, _ = reprocess.replace(connection, receipt.id, events, policy, ctx.hasher, datetime.now(UTC))
            applied = Applied(applied.new_events, applied.changes + len(difference.states))
    return applied
