"""Responses to providers while PostgreSQL is down or frozen, and the time to recover."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Final

from bench import load, sampling, signing
from bench.caller import Caller
from bench.figures import Figure, Findings
from bench.plan import Plan
from bench.stage import Stage

_RATE: Final = 50
_SECONDS: Final = 3.0
_CONNECTIONS: Final = 100
_UNAVAILABLE: Final = 503
_MAX_SECONDS: Final = 1.5
_MAX_RECOVERY_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 30.0


def run(stage: Stage, plan: Plan) -> Findings:  # noqa: ARG001 - it takes as long as it takes
    """Measure Tidings alone: PostgreSQL is killed and restarted, then frozen and resumed."""
    findings = Findings()
    stage.tidings.reset()
    before = stage.tidings.pids("receiver")
    _episode(stage, findings, "killed", stage.postgres.kill, stage.postgres.start, seed=600)
    frozen: list[int] = []

    def freeze() -> None:
        frozen[:] = [stage.postgres.pid, *sampling.children(stage.postgres.pid)]
        _signal(frozen, signal.SIGSTOP)

    _episode(stage, findings, "frozen", freeze, lambda: _signal(frozen, signal.SIGCONT), seed=700)
    if stage.tidings.pids("receiver") != before:
        findings.wrong.append("PostgreSQL down: the receiver was started again")
    return findings


def _episode(
    stage: Stage,
    findings: Findings,
    word: str,
    take_away: Callable[[], None],
    bring_back: Callable[[], None],
    *,
    seed: int,
) -> None:
    side = stage.tidings
    requests = iter(signing.sign(3000, seed=seed).requests)
    with Caller(side.address) as caller:
        if caller.call(next(requests)).status != 200:
            findings.wrong.append(f"PostgreSQL {word}: nothing was accepted before")
        take_away()
        try:
            outcome = load.run(side.address, requests, connections=_CONNECTIONS, seconds=_SECONDS, rate=_RATE)
        finally:
            bring_back()
        recovered = _until_accepted(caller, requests)
    if set(outcome.statuses) != {_UNAVAILABLE}:
        findings.wrong.append(f"PostgreSQL {word}: answers were {dict(outcome.statuses)}")
    findings.figures += [
        Figure(
            what=f"PostgreSQL {word}: longest time until the {_UNAVAILABLE}",
            unit="s",
            tidings=[max(outcome.latencies, default=float("inf"))],
            at_most=_MAX_SECONDS,
        ),
        Figure(
            what=f"PostgreSQL back after being {word}: time until a 200, without a restart",
            unit="s",
            tidings=[recovered],
            at_most=_MAX_RECOVERY_SECONDS,
        ),
    ]


def _until_accepted(caller: Caller, requests: Iterator[bytes]) -> float:
    begin = time.perf_counter()
    while time.perf_counter() - begin < _PATIENCE_SECONDS:
        if caller.call(next(requests)).status == 200:
            return time.perf_counter() - begin
        time.sleep(0.02)
    return float("inf")


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)
