"""What a receiver counts. Depths and ages come from the database, where every process sees them alike."""

from prometheus_client import Counter, Histogram

requests = Counter("tidings_receiver_requests_total", "Requests by what became of them", ["source", "outcome"])
batch_size = Histogram(
    "tidings_receiver_commit_receipts",
    "Receipts that one commit served",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
bells = Counter("tidings_receiver_bells_total", "Rings of the doorbell, by whether the broker took them", ["taken"])
