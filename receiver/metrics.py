"""What a receiver counts. Depths and ages come from the database, where every process sees them alike.

Several processes share a port, and any of them may be asked: so each keeps its counts in a file of a directory that
all of them read (prometheus_client's multiprocess mode, which that library's own variable switches on).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

log = structlog.get_logger()

_requests = Counter("tidings_receiver_requests_total", "Requests by what became of them", ["source", "outcome"])
_batch_size = Histogram(
    "tidings_receiver_commit_receipts", "Receipts that one commit served", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
_bells = Counter("tidings_receiver_bells_total", "Rings of the doorbell, by whether the broker took them", ["taken"])


def count_request(source: str, outcome: str) -> None:
    """One request more."""
    with _harmless():
        _requests.labels(source, outcome).inc()


def count_commit(receipts: int) -> None:
    """One commit more, which served so many."""
    with _harmless():
        _batch_size.observe(receipts)


def count_bell(is_taken: bool) -> None:
    """One ring more."""
    with _harmless():
        _bells.labels(is_taken).inc()


def exposition() -> bytes:
    """All counts, of all processes that share this one's port."""
    if DIRECTORY not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


@contextmanager
def _harmless() -> Iterator[None]:
    """A disk that is full, or files that somebody removed, must not make what is committed look as if it were not."""
    try:
        yield
    except OSError as error:
        log.warning("not counted", error=str(error))
