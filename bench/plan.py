"""Durations and repetitions of the measurements."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Durations in seconds; rounds are of both sides in turn."""

    accepted: float = 10.0
    accepted_rounds: int = 3
    sustained: float = 60.0
    sustained_rounds: int = 2
    bodies: float = 20.0
    bodies_rounds: int = 2
    latency: float = 30.0
    redis: float = 8.0
    redis_rounds: int = 3
    judged_events: int = 20_000
    judged_rounds: int = 5
    suppressed: int = 1_000_000
    single_checks: int = 3000
    large_checks: int = 20
    deliveries: int = 20_000
    deliveries_rounds: int = 6
    deliveries_latency: float = 30.0
    stories: int = 300


def full(seconds: float) -> Plan:
    """Return the data of RESULTS.md; `seconds` is the duration of the sustained load."""
    return Plan(sustained=seconds, bodies=min(20.0, seconds), latency=min(30.0, seconds))


def quick(seconds: float) -> Plan:
    """Return the plan of a quick look: its numbers show whether everything works, and not much more."""
    return Plan(
        accepted=min(2.0, seconds),
        accepted_rounds=1,
        sustained=seconds,
        sustained_rounds=1,
        bodies=seconds,
        bodies_rounds=1,
        latency=seconds,
        redis=min(2.0, seconds),
        redis_rounds=1,
        judged_events=4000,
        judged_rounds=2,
        suppressed=100_000,
        single_checks=500,
        large_checks=5,
        deliveries=3000,
        deliveries_rounds=2,
        deliveries_latency=seconds,
        stories=30,
    )
