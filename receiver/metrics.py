"""The receiver's Prometheus metrics. Queue depths and ages come from the database, where all processes agree on them.

Several processes share a port, and a scrape may reach any of them. So each keeps its counts in files of one directory,
which all of them read (the multiprocess mode of prometheus_client, switched on by PROMETHEUS_MULTIPROC_DIR).
"""

import os
import threading
from collections import Counter as Counts

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

_FLUSH_SECONDS = 0.5

log = structlog.get_logger()

_requests = Counter("tidings_receiver_requests_total", "Requests by source and outcome", ["source", "outcome"])
_commit_receipts = Histogram(
    "tidings_receiver_commit_receipts", "Receipts per commit", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
_wakeups = Counter("tidings_receiver_bells_total", "Wake-ups of workers, by whether the broker took them", ["taken"])

_lock = threading.Lock()
_requests_to_flush: Counts[tuple[str, str]] = Counts()


def count_request(source: str, outcome: str) -> None:
    """Count a request. The count reaches its file within half a second: files are 6 % of a receiver's CPU otherwise."""
    with _lock:
        _requests_to_flush[source, outcome] += 1


def count_commit(receipts: int) -> None:
    """Count a commit and the receipts that it stored."""
    try:
        _commit_receipts.observe(receipts)
    except OSError as error:
        _warn(error)


def count_wakeup(is_taken: bool) -> None:
    """Count a wake-up."""
    try:
        _wakeups.labels(is_taken).inc()
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
    """A thread that flushes the counts regularly."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Flush, then stop."""
        self._stopping.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopping.wait(_FLUSH_SECONDS):
            flush()
        flush()


def exposition() -> bytes:
    """Return the metrics of all processes that share this one's port, as a scrape reads them."""
    flush()
    if DIRECTORY not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _warn(error: OSError) -> None:
    """Log that the disk is full or the files are gone. The receipts are committed all the same."""
    log.warning("not counted", error=str(error))
