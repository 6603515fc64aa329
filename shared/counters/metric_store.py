"""Counters and histograms of all processes, for Prometheus.

Workers and deliverers have no port, and any number of them may run. So each process adds up what it observes, and adds
the sums to one table every second or two. The API exports the totals, which survive restarts of every process.
"""

import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from shared.counters import store
from shared.counters.tables import metric_totals
from shared.postgres import arrays
from shared.supervision import SupervisedThread

BUCKETS_SECONDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 86400.0)
"""The upper bounds of a histogram's buckets. Beyond the last one there is a bucket without a bound."""
REPORT_SECONDS: Final = 10.0
_FLUSH_SECONDS: Final = 2.0

_BOUNDS: Final = (float("-inf"), *BUCKETS_SECONDS, float("inf"))
_SUM: Final = "sum"
_SHARDS: Final = 64

_TYPES: Final = {"metric": "text", "source_id": "bigint", "label": "text", "total": "double precision"}
# Text: SQLAlchemy compiles an INSERT of several rows each time, which took 7 % of a busy worker's CPU.
_ADD: Final = f"""
INSERT INTO metric_totals AS stored (metric, source_id, label, shard, total, updated_at)
SELECT metric, source_id, label, mod(pg_backend_pid(), {_SHARDS}), total, clock_timestamp()
FROM (SELECT {arrays.unnest(_TYPES)}) AS observed
ON CONFLICT (metric, source_id, label, shard) DO UPDATE SET
    total = stored.total + excluded.total, updated_at = excluded.updated_at
"""


class Metric(StrEnum):
    """A total that processes add to, by its name in the table."""

    EVENTS = "events"
    DELIVERIES = "deliveries"
    PROCESSING_LATENCY = "processing_latency"
    DELIVERY_LATENCY = "delivery_latency"
    ACTIVITY = "activity"
    """Reports that a role works, such as the receiver. Only the time of the last one matters."""


Series = tuple[Metric, int, str]
"""A metric, the id of a source or 0, and the value of a label."""


class Observations:
    """What a process has observed and not stored yet. Any thread may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: Counter[Series] = Counter()
        self._minutes: Counter[tuple[str, datetime, int, str]] = Counter()

    def count(self, metric: Metric, numbers: Mapping[tuple[int, str], int]) -> None:
        """Add numbers to a counter, each by the id of a source (or 0) and the value of a label."""
        with self._lock:
            for (source_id, label), number in numbers.items():
                self._totals[metric, source_id, label] += number

    def count_by_minute(self, dimension: str, numbers: Mapping[tuple[int, str], int]) -> None:
        """Add numbers to the counters of this minute, each by the id of a source (or 0) and a type."""
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        with self._lock:
            for (source_id, type_), number in numbers.items():
                self._minutes[dimension, minute, source_id, type_] += number

    def observe(self, histogram: Metric, seconds: Sequence[float]) -> None:
        """Add the latencies of a batch to a histogram. A clock that is behind makes no latency negative."""
        ordered = sorted(max(0.0, one) for one in seconds)
        # One search for each bucket instead of one for each latency: a batch has hundreds.
        ends = [bisect_right(ordered, bound) for bound in _BOUNDS[:-1]] + [len(ordered)]
        with self._lock:
            for bound, (first, last) in zip(_BOUNDS[1:], pairwise(ends), strict=True):
                if last > first:
                    self._totals[histogram, 0, str(bound)] += last - first
            self._totals[histogram, 0, _SUM] += sum(ordered)  # type: ignore[assignment]

    def flush(self, engine: Engine) -> None:
        """Store the observations. If that fails, the next call stores them too. Raises SQLAlchemyError."""
        with self._lock:
            totals, self._totals = self._totals, Counter()
            minutes, self._minutes = self._minutes, Counter()
        if not totals and not minutes:
            return
        try:
            with engine.begin() as connection:
                if totals:
                    add(connection, totals)
                if minutes:
                    store.add_by_minute(connection, minutes)
        except BaseException:
            with self._lock:
                self._totals.update(totals)
                self._minutes.update(minutes)
            raise


def add(connection: Connection, totals: Mapping[Series, float]) -> None:
    """Add to totals. The order of the rows prevents deadlocks of processes that share a shard."""
    rows = [(*series, total) for series, total in sorted(totals.items())]
    connection.exec_driver_sql(_ADD, arrays.columns(_TYPES, rows))


def read_counts(connection: Connection, metric: Metric) -> Mapping[tuple[int, str], float]:
    """Return the totals of a counter by the id of a source (or 0) and the value of its label."""
    columns = metric_totals.c
    totals = select(columns.source_id, columns.label, func.sum(columns.total)).where(columns.metric == metric.value)
    rows = connection.execute(totals.group_by(columns.source_id, columns.label))
    return {(source_id, label): total for source_id, label, total in rows}


def read_histogram(connection: Connection, metric: Metric) -> tuple[Sequence[tuple[float, float]], float]:
    """Return the upper bound and the cumulated number of each bucket, and the sum of all latencies in seconds."""
    totals = {label: total for (_, label), total in read_counts(connection, metric).items()}
    cumulated, buckets = 0.0, []
    for bound in _BOUNDS[1:]:
        cumulated += totals.get(str(bound), 0.0)
        buckets.append((bound, cumulated))
    return buckets, totals.get(_SUM, 0.0)


def read_last_times(connection: Connection, metric: Metric) -> tuple[Mapping[int, datetime], Mapping[str, datetime]]:
    """Return when a counter last increased: by the id of its source, and by the value of its label."""
    columns = metric_totals.c
    last = select(columns.source_id, columns.label, func.max(columns.updated_at)).where(columns.metric == metric.value)
    by_source: dict[int, list[datetime]] = defaultdict(list)
    by_label: dict[str, list[datetime]] = defaultdict(list)
    for source_id, label, at in connection.execute(last.group_by(columns.source_id, columns.label)):
        by_source[source_id].append(at)
        by_label[label].append(at)
    return {key: max(times) for key, times in by_source.items()}, {key: max(at) for key, at in by_label.items()}


class ActivityReporter:
    """A thread that reports every ten seconds that a role works, in a process that runs no periodic tasks.

    It stores what the process has observed every two seconds, and when it is closed.
    """

    def __init__(self, engine: Engine, role: str, observations: Observations | None = None) -> None:
        self._engine = engine
        self._role = role
        self._observations = observations or Observations()
        self._stopping = threading.Event()
        self._thread = SupervisedThread("activity", self.run)
        self._thread.start()

    def close(self) -> None:
        """Stop reporting."""
        self._stopping.set()
        self._thread.join(timeout=2)

    def run(self) -> None:
        """Report until it is closed."""
        reported_at = float("-inf")
        while True:
            # Other threads report that the database cannot be reached.
            with suppress(SQLAlchemyError):
                if time.monotonic() - reported_at >= REPORT_SECONDS:
                    reported_at = time.monotonic()
                    with self._engine.begin() as connection:
                        add(connection, {(Metric.ACTIVITY, 0, self._role): 1})
                self._observations.flush(self._engine)
            if self._stopping.is_set():
                return
            self._stopping.wait(_FLUSH_SECONDS)
