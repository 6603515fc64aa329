"""Single-event requests per second, accepted and processed to state, sustained."""

from collections.abc import Mapping, Sequence
from typing import Final

from bench import signing
from bench.figures import Figure, Findings, Table, shown
from bench.plan import Plan
from bench.sampling import Memory
from bench.stage import Stage
from bench.sustain import Sustained, sustain

_MAX_PER_SECOND: Final = 9_000
_RECEIVER_MB: Final = 100.0
_WORKER_MB: Final = 150.0


def run(stage: Stage, plan: Plan) -> Findings:
    """Measure both sides in turn, with the same requests; memory on the way."""
    runs = both(stage, plan.sustained, plan.sustained_rounds, max_per_second=_MAX_PER_SECOND, seed=200)
    findings = summarize("sustained, single events", runs, at_least_times=12)
    for kind, limit in (("receiver", _RECEIVER_MB), ("worker", _WORKER_MB)):
        for when in ("before", "after"):
            findings.figures.append(_memory_figure(runs["tidings"], kind, when, limit))
    findings.tables.append(_memory_table(runs))
    return findings


def both(
    stage: Stage, seconds: float, rounds: int, *, max_per_second: float, seed: int, events: int = 1
) -> dict[str, list[Sustained]]:
    """Return the runs of each side."""
    runs: dict[str, list[Sustained]] = {side.name: [] for side in stage.sides}
    for round_ in range(rounds):
        signed = signing.sign(int(max_per_second * seconds), events=events, seed=seed + round_)
        for side in stage.sides:
            side.reset()
            requests = signed.for_seconds(seconds)
            runs[side.name].append(sustain(stage, side, requests, seconds, events))
    return runs


def summarize(what: str, runs: Mapping[str, Sequence[Sustained]], *, at_least_times: float) -> Findings:
    """Return the findings about such runs."""
    findings = Findings()
    findings.figures.append(
        Figure(
            what=f"{what}: processed to state",
            unit="events/s",
            tidings=[run.rate for run in runs["tidings"]],
            usual=[run.rate for run in runs["usual"]],
            at_least_times=at_least_times,
        )
    )
    for side, of_side in runs.items():
        for run in of_side:
            findings.wrong += [f"{what}, {side}: {doubt}" for doubt in _doubts(run)]
    findings.tables.append(_backlog_table(what, runs))
    findings.tables.append(_cpu_table(what, runs))
    return findings


def _doubts(run: Sustained) -> list[str]:
    doubts = []
    if run.lost:
        doubts.append(f"{run.lost} accepted events had no state at the end")
    if run.backlog_grew:
        doubts.append("the backlog grew")
    if set(run.outcome.statuses) != {200}:
        doubts.append(f"answers were {dict(run.outcome.statuses)}")
    if run.outcome.exhausted:
        doubts.append(f"requests ran out after {run.outcome.seconds:.0f} s")
    return doubts


def _backlog_table(what: str, runs: Mapping[str, Sequence[Sustained]]) -> Table:
    rows = []
    for side, of_side in runs.items():
        for number, run in enumerate(of_side, 1):
            points = ", ".join(f"{pending:,} at {at:.0f} s" for at, pending in run.points())
            rows.append((f"{side}, round {number}", points, f"{run.held_share:.0%}"))
    return Table(
        title=f"Backlog over time: {what}", head=("run", "waiting to be processed", "load held back"), rows=rows
    )


def _cpu_table(what: str, runs: Mapping[str, Sequence[Sustained]]) -> Table:
    rows = [
        (side, *(f"{share:.2f}" for share in of_side[-1].cpu.values()), _generator_cost(of_side[-1]))
        for side, of_side in runs.items()
    ]
    head = ("side", *runs["tidings"][-1].cpu, "load generator, µs a request")
    return Table(title=f"Processors used: {what}", head=head, rows=rows)


def _generator_cost(run: Sustained) -> str:
    return f"{run.outcome.cpu_seconds / max(1, run.outcome.sent) * 1e6:.0f}"


def _memory_figure(runs: Sequence[Sustained], kind: str, when: str, limit: float) -> Figure:
    """Return the largest process of a kind, in each round."""
    readings = [run.memory_before if when == "before" else run.memory_after for run in runs]
    largest = [
        max((memory.resident for name, memory in reading.items() if name.startswith(kind)), default=0.0)
        for reading in readings
    ]
    moment = "at rest" if when == "before" else "after the load"
    return Figure(
        what=f"memory of a {kind}, {moment} (largest process, resident)", unit="MB", tidings=largest, at_most=limit
    )


def _memory_table(runs: Mapping[str, Sequence[Sustained]]) -> Table:
    rows = []
    for side, of_side in runs.items():
        before, after = of_side[-1].memory_before, of_side[-1].memory_after
        rows += [(f"{side}: {name}", _of(before.get(name)), _of(after.get(name))) for name in after]
    return Table(title="Memory, resident (proportional), MB", head=("process", "at rest", "after the load"), rows=rows)


def _of(memory: Memory | None) -> str:
    if memory is None:
        return ""
    return shown(memory.resident) + (f" ({shown(memory.proportional)})" if memory.proportional is not None else "")
