"""The receiver for any WSGI server: `receiver.wsgi:app`. Importing this module builds the application.

The import also starts threads, so a server that forks must import it after the fork (gunicorn without `--preload`).
"""

import atexit
import gc
import os
import shutil
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from receiver import UNUSED_LIBRARIES
from shared.startup import hide_libraries

hide_libraries(*UNUSED_LIBRARIES)

_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_METRICS_KINDS = ("counter", "histogram")
_METRICS_BYTES = 256 * 1024


def _share_metrics() -> None:
    """Set the metrics directory that all processes of one server share, and delete those of servers that have ended.

    The parent's process id names the directory, so that it outlives the server's child processes. It is inside a
    directory that only this user can enter: anybody could put files or links at a known path of `/tmp`. A directory
    that the environment names is used instead.
    """
    if os.environ.get(_METRICS_VARIABLE):
        Path(os.environ[_METRICS_VARIABLE]).mkdir(parents=True, exist_ok=True)
        return
    root = Path(tempfile.gettempdir(), f"tidings-receiver-{os.getuid()}")
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SystemExit(
            f"Error: {root} must be a directory that belongs to the receiver's user and that nobody else can enter. "
            f"Remove it, or set {_METRICS_VARIABLE} to another directory."
        )
    for directory in root.iterdir():
        if not _is_running(directory.name):
            shutil.rmtree(directory, ignore_errors=True)
    directory = root / str(os.getppid())
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for kind in _METRICS_KINDS:
            # The client writes these files through memory maps: where the disk has no room, the kernel would kill it.
            with (directory / f"{kind}_{os.getpid()}.db").open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _METRICS_BYTES)
    except OSError:  # then each process reports only its own metrics
        return
    os.environ[_METRICS_VARIABLE] = str(directory)


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
from receiver.refusal_log import RefusalLog
from receiver.source_cache import SourceCache
from shared import logs, settings
from shared.broker import PROCESS_RECEIPTS, VERIFY, TaskNotifier
from shared.counters.metric_store import ActivityReporter, Observations
from shared.encryption import Vault
from shared.postgres import engine

_STATEMENT_TIMEOUT_MS = 1000

configuration = settings.read()
configuration.require("database_url", "broker_url", "secret_keys")
logs.configure(configuration.log_level)

_engine = partial(engine.create_engine, configuration.database_url, statement_timeout_ms=_STATEMENT_TIMEOUT_MS)
_vault = Vault(configuration.secret_keys)
_notifier = Notifier(TaskNotifier(configuration.broker_url))
_observations = Observations()
_background_engine = _engine(application="receiver", pool_size=1)
_deps = ReceiverDeps(
    settings=configuration,
    vault=_vault,
    sources=SourceCache(_engine(application="receiver", pool_size=1), _vault),
    writer=GroupCommitWriter(
        _engine(application="receiver writer", pool_size=1), on_queued=partial(_notifier.notify, PROCESS_RECEIPTS)
    ),
    quarantine_writer=GroupCommitWriter(
        _engine(application="receiver quarantine", pool_size=1),
        on_quarantined=partial(_notifier.notify, VERIFY, receipts=0),
    ),
    refusals=RefusalLog(_background_engine),
    observations=_observations,
)
_flusher = MetricsFlusher()
_activity = ActivityReporter(_background_engine, "receiver", _observations)


def close() -> None:
    """Store the waiting requests, and wake the workers for them. Called before the process ends."""
    atexit.unregister(close)
    writers = (_deps.writer, _deps.quarantine_writer)
    for parts in (
        writers,
        (_activity, _deps.sources, _deps.refusals, _notifier, _flusher),
    ):  # writers first: their last commit may send a wake-up
        with ThreadPoolExecutor(len(parts)) as closing:
            list(closing.map(lambda part: part.close(), parts))


atexit.register(close)
app = create_app(_deps)

# The objects loaded so far are permanent. Scanning them in each garbage collection took 8 % of a request's time.
gc.collect()
gc.freeze()
