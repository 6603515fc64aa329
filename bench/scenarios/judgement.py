"""The cost per event of counting for alerts and evaluating for the suppression list.

The cost is the processor time of this process and of its connections in PostgreSQL, so other processes on the machine
do not add to it.
"""

import functools
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Final
from unittest.mock import patch
from uuid import uuid4

from bench import sampling, signing, traffic
from bench.figures import Figure, Findings, Table, shown
from bench.plan import Plan
from bench.stage import Stage
from shared import ids, logs
from shared.receipts import store as receipts
from shared.receipts.store import Receipt
from shared.settings import Settings
from shared.suppression import evaluator as suppression_evaluator
from workers import context, process_receipts
from workers.context import WorkerContext

_AT_MOST: Final = 1.15
_SHAPES: Final[Mapping[str, int]] = {"single events": 1, "bodies of 100 events": 100}

# What is switched off, for this measurement only.
_WITHOUT: Final[Mapping[str, tuple[str, ...]]] = {
    "neither": ("counts", "suppression"),
    "counts": ("suppression",),
    "both": (),
}


def run(stage: Stage, plan: Plan) -> Findings:
    """Process the same queue with and without them, in turn, in this process."""
    logs.configure("info")  # as in a worker: with debug messages, it reads the events of each batch again
    place = stage.tidings.place
    settings = Settings(database_url=place.database_url, broker_url=place.broker_url, secret_keys=(place.secret_key,))
    worker = context.build(settings)
    try:
        return _findings(stage, worker, plan)
    finally:
        worker.close()


def _findings(stage: Stage, worker: WorkerContext, plan: Plan) -> Findings:
    findings = Findings()
    rows = []
    for number, (shape, events) in enumerate(_SHAPES.items()):
        costs: dict[str, list[float]] = {name: [] for name in _WITHOUT}
        for round_ in range(plan.judged_rounds + 1):
            # The first side finds the caches as the previous one left them, so the order alternates.
            names = list(_WITHOUT)[round_ % 3 :] + list(_WITHOUT)[: round_ % 3]
            for name in names:
                bodies = plan.judged_events // events
                _fill(stage, worker, bodies, events, seed=9000 + 100 * number + round_)
                seconds = _drain(worker, bodies, _WITHOUT[name])
                if round_:  # the first is to warm up
                    costs[name].append(seconds / (bodies * events) * 1e6)
        ratios = {name: _ratios(costs[name], costs["neither"]) for name in ("counts", "both")}
        findings.figures.append(
            Figure(
                what=f"an event, counted and judged, beside one that is not: {shape}",
                unit="times",
                tidings=ratios["both"],
                at_most=_AT_MOST,
            )
        )
        rows += [(shape, name, *_row(costs[name], ratios.get(name, []))) for name in _WITHOUT]
    head = ("traffic", "with", "µs an event", "times")
    findings.tables.append(Table(title="What counting and judging costs", head=head, rows=rows))
    return findings


def _ratios(costs: list[float], without: list[float]) -> list[float]:
    return [one / other for one, other in zip(costs, without, strict=True)]


def _row(costs: list[float], ratios: list[float]) -> tuple[str, str]:
    return shown(statistics.median(costs)), shown(statistics.median(ratios)) if ratios else ""


def _fill(stage: Stage, worker: WorkerContext, bodies: int, events: int, *, seed: int) -> None:
    """Queue this number of bodies on empty tables, as a receiver does."""
    stage.tidings.reset()
    now = datetime.now(UTC)
    make = functools.partial(traffic.bodies, signing.dialect(), bodies, events=events, seed=seed, now=now)
    arrived = [
        Receipt(
            id=ids.receipt_id(now),
            source_id=1,
            received_at=now,
            key=uuid4().hex,
            key_expires_at=now + timedelta(days=1),
            idempotency_key=None,
            remote_ip=None,
            headers="{}",
            body=body,
        )
        for body in make()
    ]
    with worker.engine.begin() as connection:
        for first in range(0, len(arrived), 500):
            receipts.record(connection, arrived[first : first + 500])


def _drain(worker: WorkerContext, bodies: int, switched_off: tuple[str, ...]) -> float:
    """Return the CPU seconds that processing the queue took."""
    with ExitStack() as stack:
        if "counts" in switched_off:
            stack.enter_context(patch.object(process_receipts, "tallies", lambda _rules: ()))
        if "suppression" in switched_off:
            stack.enter_context(patch.object(suppression_evaluator, "apply_events", lambda *_: 0))
        before, own = sampling.cpu_seconds(_backends(worker)), time.process_time()
        done = process_receipts.process_due(worker, max_seconds=600)
        own = time.process_time() - own
        backends = sampling.used_between(before, sampling.cpu_seconds(_backends(worker)))
    if done.receipts != bodies:
        raise RuntimeError(f"of {bodies} bodies {done.receipts} were processed")
    return own + backends


def _backends(worker: WorkerContext) -> list[int]:
    with worker.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tidings worker%%'"
        )
        return [row[0] for row in rows]
