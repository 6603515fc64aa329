"""Watches how many events wait to be processed during the load, and pauses the load while they are too many."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import psycopg

from bench.load import Outcome
from bench.sides import Side

_INTERVAL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Mark:
    """A measurement: events processed and committed, CPU seconds by component and process."""

    at: float
    events: int
    cpu: Mapping[str, Mapping[int, float]]


class Backlog:
    """A thread that samples five times a second; a context manager around the load, whose `outcome` it reads.

    `may_send` is false while more events wait than the side's `most_pending`, so the load is as high as the workers can
    process. It takes a measurement after the warm-up (`first`) and at the end of the load (`last`).
    """

    def __init__(
        self,
        side: Side,
        outcome: Outcome,
        *,
        events: int,
        warm_up: float,
        cpu: Callable[[], Mapping[str, Mapping[int, float]]],
    ) -> None:
        self._side = side
        self._outcome = outcome
        self._events = events
        self._most = side.most_pending(events)
        self._warm_up = warm_up
        self._cpu = cpu
        self._processed = 0
        self._held_samples = 0
        self._marks: list[Mark] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)
        self._begin = 0.0
        self.series: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._begin = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def first(self) -> Mark:
        """Return the measurement after the warm-up."""
        return self._marks[0]

    @property
    def last(self) -> Mark:
        """Return the measurement at the end of the load."""
        return self._marks[-1]

    @property
    def held_share(self) -> float:
        """Return the share of samples in which the load was paused, from 0 to 1."""
        return self._held_samples / len(self.series) if self.series else 0.0

    def may_send(self) -> bool:
        """Return whether the workers keep up. Assumes that nothing is processed between two samples."""
        return self._outcome.accepted * self._events - self._processed <= self._most

    def _run(self) -> None:
        with self._side.connect() as connection:
            while not self._stopping.is_set():
                if not self._marks and time.perf_counter() - self._begin >= self._warm_up:
                    self._mark(connection)
                self._sample(connection)
                self._stopping.wait(_INTERVAL_SECONDS)
            self._mark(connection)

    def _sample(self, connection: psycopg.Connection) -> None:
        accepted = self._outcome.accepted
        pending = max(0, self._side.pending(connection, accepted, self._events))
        self._held_samples += not self.may_send()
        self._processed = accepted * self._events - pending
        self.series.append((time.perf_counter() - self._begin, pending))

    def _mark(self, connection: psycopg.Connection) -> None:
        cpu = self._cpu()
        at = time.perf_counter()  # the count sees only what was committed before
        self._marks.append(Mark(at, self._side.events(connection), cpu))
