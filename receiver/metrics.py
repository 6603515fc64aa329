"""The receiver's Prometheus metrics. Queue depths and ages are not among them: they are read from the database.

Several processes share a port, and a scrape may reach any of them. So every process writes its counts to files in a
shared directory, and reads the files of all (prometheus_client's multiprocess mode, PROMETHEUS_MULTIPROC_DIR).
"""

import os
import threading
from collections import Counter as Counts

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from shared.supervision import SupervisedThread

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

_FLUSH_SECONDS = 0.5

log = structlog.get_logger()

_requests = Counter("tidings_receiver_requests_total", "Requests by source and outcome", ["source", "outcome"])
_commit_receipts = Histogram(
    "tidings_receiver_commit_receipts", "Receipts per commit", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
_wakeups = Counter("tidings_receiver_wakeups_total", "Wake-ups of workers, by whether the broker took them", ["taken"])

_lock = threading.Lock()
_requests_to_flush: Counts[tuple[str, str]] = Counts()
_flush_wanted = threading.Event()


def count_request(source: str, outcome: str) -> None:
    """Count a request. Counts are written every half second: writing each one would take 6 % of a receiver's CPU."""
    with _lock:
        _requests_to_flush[source, outcome] += 1
    if not _flush_wanted.is_set():
        _flush_wanted.set()


def count_commit(receipts: int) -> None:
    """Count a commit and the receipts that it stored."""
    try:
        _commit_receipts.observe(receipts)
    except OSError as error:
        _warn(error)


def count_wakeup(is_sent: bool) -> None:
    """Count a wake-up of workers, by whether the broker accepted it."""
    try:
        _wakeups.labels(is_sent).inc()
    except OSError as error:
        _warn(error)


def flush() -> None:
    """Write the counts of requests to their file."""
    with _lock:
        counts = dict(_requests_to_flush)
        _requests_to_flush.clear()
    try:
        for labels, count in counts.items():
            _requests.labels(*labels).inc(count)
    except OSError as error:
        _warn(error)


class MetricsFlusher:
    """A thread that flushes the counts half a second after the first of them."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = SupervisedThread("metrics", self._run)
        self._thread.start()

    def close(self) -> None:
        """Flush, then stop."""
        self._stopping.set()
        _flush_wanted.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopping.is_set():
            _flush_wanted.wait()
            self._stopping.wait(_FLUSH_SECONDS)
            _flush_wanted.clear()
            flush()


def render() -> bytes:
    """Return the metrics of all processes that share this port, in the Prometheus text format."""
    flush()
    if DIRECTORY not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _warn(error: OSError) -> None:
    """Log that a metric could not be written, such as on a full disk. Storing receipts continues."""
    log.warning("metrics could not be written", error=str(error))
