"""The receiver for any WSGI server: `receiver.wsgi:app`. Everything that it needs is put together here.

The threads of its parts start with the import, so a server that forks must import it after the fork (gunicorn does,
without `--preload`).
"""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

# structlog imports rich wherever it is installed, and pygments with it: 4 MB per receiver for coloured tracebacks.
sys.modules["rich"] = None  # type: ignore[assignment]

_METRICS_PREFIX = "tidings-receiver-"


def _share_metrics() -> None:
    """Keep the counts in one directory for all processes of this one's parent, and delete those of dead servers.

    The directory stays while its server runs: a process that ends is followed by another.
    """
    root = Path(tempfile.gettempdir())
    for directory in root.glob(f"{_METRICS_PREFIX}*"):
        if not _is_running(directory.name.removeprefix(_METRICS_PREFIX)):
            shutil.rmtree(directory, ignore_errors=True)
    directory = root / f"{_METRICS_PREFIX}{os.getppid()}"
    directory.mkdir(exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # another user's process
        pass
    return True


_share_metrics()  # before prometheus_client is imported

from receiver.app import ReceiverDeps, create_app
from receiver.group_commit import GroupCommitWriter
from receiver.metrics import MetricsFlusher
from receiver.notifier import Notifier
from receiver.rejection_log import RejectionLog
from receiver.source_cache import SourceCache
from shared import logs, settings
from shared.broker import PROCESS_RECEIPTS, VERIFY, TaskNotifier
from shared.encryption import Vault
from shared.postgres import engine

_STATEMENT_TIMEOUT_MS = 1000

configuration = settings.read()
configuration.require("database_url", "broker_url", "secret_keys")
logs.configure(configuration.log_level)

_engine = partial(engine.create_engine, configuration.database_url, statement_timeout_ms=_STATEMENT_TIMEOUT_MS)
_vault = Vault(configuration.secret_keys)
_notifier = Notifier(TaskNotifier(configuration.broker_url))
_deps = ReceiverDeps(
    settings=configuration,
    vault=_vault,
    sources=SourceCache(_engine(application="receiver", pool_size=2), _vault),
    writer=GroupCommitWriter(
        _engine(application="receiver writer", pool_size=1), on_queued=partial(_notifier.notify, PROCESS_RECEIPTS)
    ),
    quarantine=GroupCommitWriter(
        _engine(application="receiver quarantine", pool_size=1), on_quarantined=partial(_notifier.notify, VERIFY)
    ),
    rejections=RejectionLog(_engine(application="receiver", pool_size=1)),
)
_flusher = MetricsFlusher()


def close() -> None:
    """Store and announce what is waiting, before the process ends."""
    atexit.unregister(close)
    writers = (_deps.writer, _deps.quarantine)
    for parts in (writers, (_deps.sources, _deps.rejections, _notifier, _flusher)):  # the last commit sends a wake-up
        with ThreadPoolExecutor(len(parts)) as closing:
            list(closing.map(lambda part: part.close(), parts))


atexit.register(close)
app = create_app(_deps)

# What is loaded now stays. The garbage collector need not look at it again: that was 8 % of a request.
gc.collect()
gc.freeze()
