"""The data directory of `tidings up`: its lock, its secrets, its logs."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from cli.supervisor import process_groups, secret_files
from shared.errors import TidingsError

READY_FILE = "ready.json"
_LARGEST_LOG = 10 * 1024 * 1024
_PATIENCE_SECONDS = 15.0


class DataDirectoryError(TidingsError):
    """A data directory that cannot be used, and what to do about it."""


class DataDirectory:
    """A directory that one `tidings up` at a time uses."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            # Others may pass through but not look: PostgreSQL, started by root, runs as somebody else.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711)
            (self.path / "logs").mkdir(exist_ok=True, mode=0o700)
            self._lock = self._take_lock()
        except OSError as error:
            raise DataDirectoryError(f"The data directory {path} cannot be used: {error.strerror}.") from None

    @property
    def ready_file(self) -> Path:
        """Where commands of the same machine look for what runs on this directory."""
        return self.path / READY_FILE

    @property
    def lock_descriptor(self) -> int:
        """The lock lasts until every process that holds this file has closed it."""
        return self._lock.fileno()

    def secret(self, name: str, make: Callable[[], str] = secret_files.new) -> str:
        """A secret of this installation, made at its first start."""
        return secret_files.keep(self.path / name, make)

    def log(self, name: str) -> Path:
        """The log file of a process. One that has grown too large is put aside, and one put aside before is
        lost.
        """
        path = self.path / "logs" / f"{name}.log"
        if path.exists() and path.stat().st_size > _LARGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return path

    def _take_lock(self) -> IO[str]:
        lock = (self.path / "lock").open("a+")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip()
                # The lock of one that was killed is held, for a moment, by the watchdog that clears up after
                # it.
                if time.monotonic() > deadline or (holder.isdecimal() and process_groups.alive(int(holder))):
                    raise DataDirectoryError(
                        f"Tidings is already running on {self.path}, as process {holder}: "
                        "stop that one first, or choose another --data."
                    ) from None
                time.sleep(0.1)
            else:
                lock.truncate(0)
                lock.write(f"{os.getpid()}\n")
                lock.flush()
                return lock
