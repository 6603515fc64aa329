"""Whether a Redis that accepts connections and answers nothing costs the receiver anything."""

from typing import Final

from bench import load, signing
from bench.figures import Figure, Findings
from bench.plan import Plan
from bench.stage import Stage

_MAX_PER_SECOND: Final = 10_000
_SETTLE_SECONDS: Final = 1.0
_MAX_RATIO: Final = 1.3


def run(stage: Stage, plan: Plan) -> Findings:
    """Measure Tidings alone without workers: Redis runs and is frozen in turn, each from an empty database."""
    findings = Findings()
    slower: list[float] = []
    later: list[float] = []
    for round_ in range(plan.redis_rounds):
        signed = signing.sign(int(_MAX_PER_SECOND * (plan.redis + _SETTLE_SECONDS)), seed=500 + round_)
        normal = _load(stage, signed.for_seconds(3 * plan.redis), plan.redis, frozen=False)
        frozen = _load(stage, signed.for_seconds(2 * plan.redis), plan.redis, frozen=True)
        slower.append(normal.rate / frozen.rate if frozen.rate else float("inf"))
        later.append(frozen.percentile(0.99) / normal.percentile(0.99))
        if set(frozen.statuses) != {200}:
            findings.wrong.append(f"Redis frozen: answers were {dict(frozen.statuses)}")
    findings.figures += [
        Figure(what="Redis frozen: accept rate lower by", unit="x", tidings=slower, at_most=_MAX_RATIO),
        Figure(what="Redis frozen: p99 higher by", unit="x", tidings=later, at_most=_MAX_RATIO),
    ]
    return findings


def _load(stage: Stage, requests: list[bytes], seconds: float, *, frozen: bool) -> load.Outcome:
    side = stage.tidings
    side.reset()
    source = iter(requests)
    if frozen:
        stage.redis.freeze()
    try:
        load.run(side.address, source, connections=side.connections, seconds=_SETTLE_SECONDS)
        return load.run(side.address, source, connections=side.connections, seconds=seconds)
    finally:
        if frozen:
            stage.redis.thaw()
