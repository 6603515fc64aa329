"""Asking providers: one at a time in a process, so that providers that hang leave threads for what is delivered."""

from workers import reconcile
from workers.concurrency import ConcurrencyLimit
from workers.context import WorkerContext
from workers.jobs import runner

_TURNS = ConcurrencyLimit(1)


def ask_due(ctx: WorkerContext) -> None:
    """Get on with the jobs that ask providers, and with reconciling the sources that are due.

    Returns at once if another thread is at it: whatever is left is asked the next time.
    """
    with _TURNS.taken() as is_mine:
        if is_mine:
            runner.work(ctx, at_providers=True)
            reconcile.reconcile_due(ctx)
