"""`python -m receiver` is granian with the receiver's libraries loaded before it forks: its processes share them.

The receiver itself is loaded after the fork: it starts threads, and connects (`receiver/wsgi.py`).
"""

from typing import Final

from receiver import UNUSED_LIBRARIES
from shared.startup import serve

# Not prometheus_client, which is loaded when the directory of the metrics is set.
LIBRARIES: Final = (
    "celery.app.amqp",
    "celery.app.task",
    "flask",
    "kombu.transport.redis",
    "shared.broker",
    "shared.counters.metric_store",
    "shared.encryption",
    "shared.http.errors",
    "shared.http.event_loop",
    "shared.logs",
    "shared.postgres.engine",
    "shared.postgres.partitions",
    "shared.receipts.quarantine",
    "shared.receipts.stored_form",
    "shared.settings",
    "shared.sources.store",
    "sqlalchemy.dialects.postgresql.psycopg",
)

if __name__ == "__main__":
    serve(unused=UNUSED_LIBRARIES, shared=LIBRARIES)
