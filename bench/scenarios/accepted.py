"""Accepted requests per second: closed loop, workers stopped on both sides."""

from typing import Final

from bench import load, signing
from bench.figures import Figure, Findings
from bench.plan import Plan
from bench.stage import Stage

_SHARE_OF_WARM_UP: Final = 0.1
_MAX_PER_SECOND: Final = 12_000  # requests that are made ready


def run(stage: Stage, plan: Plan) -> Findings:
    """Measure both sides in turn, with the same requests each time."""
    rates: dict[str, list[float]] = {side.name: [] for side in stage.sides}
    latencies: dict[str, list[float]] = {side.name: [] for side in stage.sides}
    findings = Findings()
    for round_ in range(plan.accepted_rounds):
        warm_up = max(0.5, plan.accepted * _SHARE_OF_WARM_UP)
        signed = signing.sign(int(_MAX_PER_SECOND * (plan.accepted + warm_up)), seed=100 + round_)
        for side in stage.sides:
            side.reset()
            requests = iter(signed.for_seconds(2 * (plan.accepted + warm_up)))
            load.run(side.address, requests, connections=side.connections, seconds=warm_up)
            outcome = load.run(side.address, requests, connections=side.connections, seconds=plan.accepted)
            rates[side.name].append(outcome.rate)
            latencies[side.name].append(outcome.percentile(0.99) * 1000)
            if set(outcome.statuses) != {200}:
                findings.wrong.append(f"accepted, {side.name}: answers were {dict(outcome.statuses)}")
            if outcome.exhausted:
                findings.wrong.append(f"accepted, {side.name}: requests ran out before the time")
    findings.figures += [
        Figure(
            what="accepted",
            unit="requests/s",
            tidings=rates["tidings"],
            usual=rates["usual"],
            at_least_times=4,
        ),
        Figure(
            what="p99 of the answer while accepting that",
            unit="ms",
            tidings=latencies["tidings"],
            usual=latencies["usual"],
        ),
    ]
    return findings
