"""The Celery application of workers and deliverers: `celery -A workers.app worker`."""

import gc
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from celery import Celery
from celery.signals import worker_init
from sqlalchemy.exc import SQLAlchemyError

from shared import settings
from shared.errors import TidingsError
from shared.rules.reloader import require_rules
from workers import clock, context
from workers.beat import configure
from workers.coalescing import WakeUpTask

_MAX_ALLOCATED_BYTES: Final = 512 * 1024 * 1024

configuration = settings.read()
app = Celery("tidings", broker=configuration.broker_url, include=["workers.tasks"], task_cls=WakeUpTask)
configure(app)
clock.install(app)


@worker_init.connect
def _require_rules(**_: Any) -> None:
    try:
        require_rules(configuration.rules, configuration.database_url)
    except TidingsError as error:
        raise SystemExit(f"Error: the rules file is invalid, and no earlier version was accepted:\n{error}") from None


@worker_init.connect
def _share_memory(**_: Any) -> None:
    """Let the processes of the pool share what is loaded, also by the first connection to the database.

    Frozen, because a garbage collection would write to all of it. No connection stays open across the fork.
    """
    with suppress(SQLAlchemyError, TidingsError):  # then each process of the pool tries it
        context.current().close()
    gc.collect()
    gc.freeze()


@worker_init.connect
def _limit_memory(**_: Any) -> None:
    """Limit the memory that this process and its children may allocate beyond what they start with.

    An allocation beyond it raises MemoryError, which ends the receipt and not the process. Without the limit, the
    kernel would kill the process, or another one. Not RLIMIT_AS: it counts what threads and libraries only reserve.
    """
    with suppress(OSError, ValueError):  # no /proc, or a lower hard limit
        allocated = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (allocated + _MAX_ALLOCATED_BYTES, hard))
