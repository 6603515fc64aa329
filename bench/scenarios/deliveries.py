"""Deliveries a second to a thousand subscriptions, how soon one is made, and what an endpoint that hangs costs."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Final

from bench import load
from bench.audience import SHARED_BY, SUBSCRIPTIONS, Audience, Logged
from bench.figures import Figure, Findings
from bench.plan import Plan
from bench.sides import Side, Tidings, Usual
from bench.stage import Stage
from bench.usual.deliveries import deliver_change
from shared.broker import DELIVER, TaskNotifier

_RATE: Final = 200
_P99_MS: Final = 500.0
_LOSS_PERCENT: Final = 10.0
_TIMES: Final = 4.0
_USUAL_SHARE: Final = 5  # of the deliveries: it takes longer for each
_PATIENCE_SECONDS: Final = 120.0
_WARM_UP: Final = 50

Kick = Callable[[Sequence[Logged], Sequence[str]], object]
"""How a side is notified of new changes."""


def run(stage: Stage, plan: Plan) -> Findings:
    """Measure both sides in turn, then Tidings alone."""
    findings = Findings()
    ours, hindered = _with_and_without(stage.tidings, plan)
    theirs = [_usual(stage.usual, plan.deliveries // _USUAL_SHARE) for _ in range(plan.deliveries_rounds)]
    findings.figures.append(
        Figure(
            what=f"deliveries to {SUBSCRIPTIONS} subscriptions, each change to {SHARED_BY}",
            unit="deliveries/s",
            tidings=ours,
            usual=theirs,
            at_least_times=_TIMES,
        )
    )
    lost = [100 * (1 - slow / quick) for quick, slow in zip(ours, hindered, strict=True)]
    findings.figures.append(
        Figure(what="what an endpoint that hangs costs the others", unit="%", tidings=lost, at_most=_LOSS_PERCENT)
    )
    milliseconds = _latencies(stage.tidings, plan.deliveries_latency)
    for name, share, limit in (("median", 0.5, None), ("p99", 0.99, _P99_MS)):
        what = f"change logged to delivery arrived, at {_RATE} changes/s: {name}"
        value = load.percentile(milliseconds, share)
        findings.figures.append(Figure(what=what, unit="ms", tidings=[value], at_most=limit))
    findings.notes.append(
        "Deliveries: the sink is one process on the same machine, takes everything at once, and keeps connections open."
        " The usual way is a Celery task for each change, which makes a row for each delivery, and one for each"
        " delivery, which signs, posts by a `requests` session and writes the attempt and the status by the ORM."
        " Both begin with the changes logged, none delivered. What an endpoint that hangs costs is taken from pairs of"
        " runs, and is less than nothing where the run with it was the faster by chance."
    )
    return findings


def _with_and_without(side: Tidings, plan: Plan) -> tuple[list[float], list[float]]:
    """Measure deliveries a second without an endpoint that hangs, and with one. Each is first in half of the rounds."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    for number in range(plan.deliveries_rounds):
        first = bool(number % 2)
        for hanging in (first, not first):
            rates[hanging].append(_tidings(side, plan.deliveries, hanging=hanging))
    return rates[False], rates[True]


def _tidings(side: Tidings, deliveries: int, *, hanging: bool = False) -> float:
    notifier = TaskNotifier(side.place.broker_url)
    try:
        return _timed(side, "deliverer", deliveries, lambda _logged, _tags: notifier.notify(DELIVER), hanging=hanging)
    finally:
        notifier.close()


def _usual(side: Usual, deliveries: int) -> float:
    def send(logged: Sequence[Logged], tags: Sequence[str]) -> None:
        with deliver_change.app.connection(side.place.broker_url) as connection:
            for (transaction, number, _), tag in zip(logged, tags, strict=True):
                deliver_change.apply_async(args=[transaction, number, tag], connection=connection)

    return _timed(side, "worker", deliveries, send)


def _timed(side: Side, process: str, deliveries: int, kick: Kick, *, hanging: bool = False) -> float:
    """Return the deliveries per second, from the notification until the last arrival."""
    audience = Audience(side)
    try:
        with side.connect() as connection:
            audience.gather(connection, hanging=hanging)
            side.start(process)
            warm = [f"ten-{number}" for number in range(SUBSCRIPTIONS // SHARED_BY)]
            kick(audience.log(connection, warm), warm)
            audience.wait_for(SUBSCRIPTIONS, _PATIENCE_SECONDS)
            tags = list(itertools.islice(itertools.cycle(warm), deliveries // SHARED_BY))
            logged = audience.log(connection, tags)
            begin = time.perf_counter()
            kick(logged, tags)
            audience.wait_for(len(tags) * SHARED_BY, _PATIENCE_SECONDS)
            return len(tags) * SHARED_BY / (time.perf_counter() - begin)
    finally:
        side.processes.stop()


def _latencies(side: Tidings, seconds: float) -> list[float]:
    """Return the milliseconds from logging a change, in its own transaction, to the arrival of its only delivery."""
    audience = Audience(side)
    notifier = TaskNotifier(side.place.broker_url)
    try:
        with side.connect() as connection:
            audience.gather(connection)
            side.start("deliverer")
            audience.log(connection, [f"one-{number}" for number in range(_WARM_UP)])
            notifier.notify(DELIVER)
            audience.wait_for(_WARM_UP, _PATIENCE_SECONDS)
            logged_at: dict[str, float] = {}
            begin = time.perf_counter()
            for number in range(int(_RATE * seconds)):
                time.sleep(max(0.0, begin + number / _RATE - time.perf_counter()))
                ((transaction, id_, at),) = audience.log(connection, [f"one-{number % SUBSCRIPTIONS}"])
                logged_at[f"{transaction}-{id_}"] = at
                notifier.notify(DELIVER)
            arrived = audience.wait_for(len(logged_at), _PATIENCE_SECONDS)
            return [1000 * (at - logged_at[name]) for name, at in arrived]
    finally:
        notifier.close()
        side.processes.stop()
