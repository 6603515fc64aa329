"""Load with the workers on: how many events a second come to their state while the backlog does not grow."""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench import load, sampling
from bench.backlog import Backlog, Mark
from bench.sampling import Memory
from bench.sides import Side
from bench.stage import Stage

_WARM_UP_SHARE: Final = 0.15
_LONGEST_DRAIN_SECONDS: Final = 60.0
_POINTS: Final = 7  # of the backlog over time


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """The measurements of one run of one side.

    `rate` is events a second whose state was committed, from the end of the warm-up to the end of the load;
    `lost` is how many accepted events had no state when all was drained; `cpu` is in processors by component.
    """

    rate: float
    outcome: load.Outcome
    backlog: Sequence[tuple[float, int]]
    held_share: float
    lost: int
    cpu: Mapping[str, float]
    memory_before: Mapping[str, Memory]
    memory_after: Mapping[str, Memory]

    @property
    def backlog_grew(self) -> bool:
        """Whether more waited in the last third than in the middle one, on the average and by a good deal."""
        third = len(self.backlog) // 3
        if not third:
            return False
        middle = sum(pending for _, pending in self.backlog[third : 2 * third]) / third
        last = sum(pending for _, pending in self.backlog[-third:]) / third
        return last > 1.5 * middle + 100

    def points(self) -> list[tuple[float, int]]:
        """Return the backlog at a few moments, evenly spread."""
        if len(self.backlog) <= _POINTS:
            return list(self.backlog)
        step = (len(self.backlog) - 1) / (_POINTS - 1)
        return [self.backlog[round(number * step)] for number in range(_POINTS)]


def sustain(stage: Stage, side: Side, requests: Sequence[bytes], seconds: float, events: int = 1) -> Sustained:
    """Load an empty side, with the receiver running and the workers stopped, with bodies of this number of events."""
    with side.working():
        memory_before = memory(side)
        warm_up = seconds * _WARM_UP_SHARE
        cpu = functools.partial(_cpu, stage, side)
        outcome = load.Outcome()
        with Backlog(side, outcome, events=events, warm_up=warm_up, cpu=cpu) as backlog:
            load.run(
                side.address,
                requests,
                connections=side.connections,
                seconds=seconds,
                may_send=backlog.may_send,
                outcome=outcome,
            )
        done = _drain(side, outcome.accepted * events)
        memory_after = memory(side)
    first, last = backlog.first, backlog.last
    return Sustained(
        rate=(last.events - first.events) / (last.at - first.at) if last.at > first.at else 0.0,
        outcome=outcome,
        backlog=backlog.series,
        held_share=backlog.held_share,
        lost=outcome.accepted * events - done,
        cpu=_shares(first, last),
        memory_before=memory_before,
        memory_after=memory_after,
    )


def memory(side: Side) -> dict[str, Memory]:
    """Return the memory of a side's processes, by what they are."""
    found = {}
    for name in ("receiver", "worker"):
        for number, pid in enumerate(side.pids(name)):
            found[f"{name}, {'parent' if number == 0 else f'child {number}'}"] = sampling.memory(pid)
    return found


def _drain(side: Side, expected: int) -> int:
    """Wait until all is processed, or it takes too long; how many events were."""
    deadline = time.monotonic() + _LONGEST_DRAIN_SECONDS
    with side.connect() as connection:
        while side.events(connection) < expected and time.monotonic() < deadline:
            time.sleep(0.2)
        return side.events(connection)


def _cpu(stage: Stage, side: Side) -> dict[str, dict[int, float]]:
    pids = {
        "receiver": side.pids("receiver"),
        "workers": [pid for name in side.workers for pid in side.pids(name)],
        "PostgreSQL": [stage.postgres.pid, *sampling.children(stage.postgres.pid)],
        "Redis": [stage.redis.pid],
        "load generator": [os.getpid()],
    }
    return {name: sampling.cpu_seconds(found) for name, found in pids.items()}


def _shares(first: Mark, last: Mark) -> dict[str, float]:
    elapsed = max(last.at - first.at, 1e-9)
    return {name: sampling.used_between(first.cpu[name], used) / elapsed for name, used in last.cpu.items()}
