"""The scenarios, by the names that `--only` takes. Each is a module with `run(stage, plan)`."""

from collections.abc import Callable, Mapping

from bench.figures import Findings
from bench.plan import Plan
from bench.scenarios import (
    accepted,
    agreement,
    bodies,
    deliveries,
    judgement,
    latency,
    postgres_down,
    redis_frozen,
    suppression,
    sustained,
    tuning,
)
from bench.stage import Stage

Scenario = Callable[[Stage, Plan], Findings]

SCENARIOS: Mapping[str, Scenario] = {
    "accepted": accepted.run,
    "sustained": sustained.run,
    "bodies": bodies.run,
    "latency": latency.run,
    "judgement": judgement.run,
    "suppression": suppression.run,
    "deliveries": deliveries.run,
    "redis": redis_frozen.run,
    "postgres": postgres_down.run,
    "agreement": agreement.run,
}

EXTRA: Mapping[str, Scenario] = {"tuning": tuning.run}
"""Scenarios that run only on request."""
