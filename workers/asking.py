"""Asking providers: one at a time in a process, so that providers that hang leave threads for what is delivered."""

from workers import reconcile
from workers.concurrency import Turns
from workers.context import Rim
from workers.jobs import runner

_TURNS = Turns(1)


def ask_due(rim: Rim) -> None:
    """Get on with the jobs that ask providers, and with reconciling the sources that are due.

    Returns at once if another thread is at it: whatever is left is asked the next time.
    """
    with _TURNS.taken() as is_mine:
        if is_mine:
            runner.work(rim, at_providers=True)
            reconcile.reconcile_due(rim)
