"""The sweep: finds what is due although nobody was told, or although somebody was."""

from shared.receipts import store as receipts
from workers import process_receipts
from workers.context import WorkerContext


def sweep(ctx: WorkerContext) -> None:
    """Drain, if anything is due. Any number of sweeps at once is harmless: a claim skips what another holds."""
    with ctx.engine.connect() as connection:
        due = receipts.oldest_due_age(connection)
    if due is not None:
        process_receipts.drain(ctx)
