"""The scenarios, by the names that `--only` takes. Each is a module with `run(stage, plan)`."""

from collections.abc import Callable, Mapping

from bench.figures import Findings
from bench.plan import Plan
from bench.scenarios import accepted, agreement, bodies, latency, postgres_down, redis_frozen, sustained, tuning
from bench.stage import Stage

Scenario = Callable[[Stage, Plan], Findings]

SCENARIOS: Mapping[str, Scenario] = {
    "accepted": accepted.run,
    "sustained": sustained.run,
    "bodies": bodies.run,
    "latency": latency.run,
    "redis": redis_frozen.run,
    "postgres": postgres_down.run,
    "agreement": agreement.run,
}

EXTRA: Mapping[str, Scenario] = {"tuning": tuning.run}
"""What is run only when it is asked for."""
