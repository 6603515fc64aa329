"""Asking providers: one at a time in a process, so that providers that hang leave threads for what is delivered."""

from workers import jobs, reconciliation
from workers.rim import Rim
from workers.turns import Turns

_TURNS = Turns(1)


def ask_due(rim: Rim) -> None:
    """Get on with the jobs that ask providers, and with reconciling the sources that are due.

    Returns at once if another thread is at it: whatever is left is asked the next time.
    """
    with _TURNS.taken() as is_mine:
        if is_mine:
            jobs.work(rim, at_providers=True)
            reconciliation.reconcile_due(rim)
