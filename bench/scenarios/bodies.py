"""Events per second from receipt to state, in bodies of a hundred."""

from typing import Final

from bench.figures import Findings
from bench.plan import Plan
from bench.scenarios import sustained
from bench.stage import Stage

_EVENTS: Final = 100
_MAX_PER_SECOND: Final = 450


def run(stage: Stage, plan: Plan) -> Findings:
    """Measure both sides in turn, with the same requests."""
    runs = sustained.both(
        stage, plan.bodies, plan.bodies_rounds, max_per_second=_MAX_PER_SECOND, seed=300, events=_EVENTS
    )
    return sustained.summarize(f"bodies of {_EVENTS} events", runs, at_least_times=40)
