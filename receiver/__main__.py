"""`python -m receiver` is granian with the receiver's libraries loaded before it forks: its processes share them.

The receiver itself is loaded after the fork: it starts threads, and connects (`receiver/wsgi.py`).
"""

import gc
import multiprocessing
import sys
from importlib import import_module
from typing import Final

from granian.cli import entrypoint

from receiver import UNUSED_LIBRARIES
from shared.startup import hide_libraries

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

if __name__ == "__main__":  # not in a process that is spawned
    if sys.platform == "linux":  # on macOS, granian spawns its processes, which share nothing
        multiprocessing.set_start_method("fork")
        hide_libraries(*UNUSED_LIBRARIES)
        for library in LIBRARIES:
            import_module(library)
        gc.collect()
        gc.freeze()  # a garbage collection would write to what is shared
    entrypoint()  # type: ignore[no-untyped-call]
