"""The usual way under other settings than those it is compared by: whether those are its best on this machine."""

from typing import Final

from bench import load, signing
from bench.figures import Findings, Table, shown
from bench.plan import Plan
from bench.sides import Tuning
from bench.stage import Stage
from bench.sustain import sustain

_VIEWS: Final = tuple(Tuning(threads=threads) for threads in (4, 8, 16, 32))
_WORKERS: Final = tuple(
    Tuning(concurrency=concurrency, prefetch=prefetch)
    for concurrency, prefetch in ((2, 1), (2, 4), (2, 32), (4, 32), (8, 32))
)
_MAX_PER_SECOND: Final = 4000


def run(stage: Stage, plan: Plan) -> Findings:
    """Measure one round of each."""
    kept = stage.usual.tuning
    try:
        rows = [_view(stage, plan.accepted, tuning) for tuning in _VIEWS]
        rows += [_worker(stage, plan.bodies, tuning) for tuning in _WORKERS]
    finally:
        stage.usual.tuning = kept
    return Findings(tables=[Table(title="The usual way, tuned", head=("settings", "rate"), rows=rows)])


def _view(stage: Stage, seconds: float, tuning: Tuning) -> tuple[str, str]:
    _restart(stage, tuning)
    requests = signing.sign(int(_MAX_PER_SECOND * seconds), seed=800).requests
    outcome = load.run(stage.usual.address, requests, connections=stage.usual.connections, seconds=seconds)
    return f"2 gunicorn processes of {tuning.threads} threads", f"{shown(outcome.rate)} requests/s accepted"


def _worker(stage: Stage, seconds: float, tuning: Tuning) -> tuple[str, str]:
    _restart(stage, tuning)
    requests = signing.sign(int(_MAX_PER_SECOND * seconds), seed=801).requests
    done = sustain(stage, stage.usual, requests, seconds)
    settings = f"{tuning.concurrency} worker processes, {tuning.prefetch} tasks prefetched for each"
    return settings, f"{shown(done.rate)} events/s processed"


def _restart(stage: Stage, tuning: Tuning) -> None:
    side = stage.usual
    side.processes.stop()
    side.tuning = tuning
    side.reset()
    side.start_receiver()
