"""What a receiver counts. Depths and ages come from the database, where every process sees them alike.

Several processes share a port, and any of them may be asked: so each keeps its counts in a file of a directory that
all of them read (prometheus_client's multiprocess mode, which that library's own variable switches on).
"""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

requests = Counter("tidings_receiver_requests_total", "Requests by what became of them", ["source", "outcome"])
batch_size = Histogram(
    "tidings_receiver_commit_receipts", "Receipts that one commit served", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
bells = Counter("tidings_receiver_bells_total", "Rings of the doorbell, by whether the broker took them", ["taken"])


def exposition() -> bytes:
    """All counts, of all processes that share this one's port."""
    if DIRECTORY not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
