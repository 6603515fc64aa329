"""The data directory of `tidings up`: its lock, its secrets, its logs."""

import fcntl
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from cli.supervisor import process_groups
from shared.errors import TidingsError

READY_FILE = "ready.json"
_MAX_LOG_BYTES = 10 * 1024 * 1024
_LOCK_TIMEOUT_SECONDS = 15.0


def new_secret() -> str:
    """Return a random secret that needs no quoting in a URL."""
    return secrets.token_urlsafe(24)


def keep_secret(path: Path, make: Callable[[], str] = new_secret) -> str:
    """Return the secret in this file. If the file is missing, generate one and store it with mode 0600."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        write_secret(draft, make())
        with suppress(FileExistsError):
            os.link(draft, path)  # atomic, and never replaces a secret that another process just stored
        draft.unlink()
    return path.read_text().strip()


def write_secret(path: Path, secret: str) -> None:
    """Write a secret to a file that only its owner can read; replace an existing file."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")


class DataDirectory:
    """A data directory. The lock file lets one `tidings up` at a time use it. Raises TidingsError."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            # Other users may enter but not list it: PostgreSQL, started by root, runs as another user.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711)
            (self.path / "logs").mkdir(exist_ok=True, mode=0o700)
            self._lock = self._take_lock()
        except OSError as error:
            raise TidingsError(
                f"Cannot use the data directory {path}: {error.strerror}. Choose another with --data."
            ) from None

    @property
    def ready_file(self) -> Path:
        """Return the path of the ready file, from which commands on this machine read the URLs."""
        return self.path / READY_FILE

    @property
    def lock_descriptor(self) -> int:
        """Return the descriptor of the lock file. The lock ends when every process that inherits it has closed it."""
        return self._lock.fileno()

    def secret(self, name: str, make: Callable[[], str] = new_secret) -> str:
        """Return a secret of this installation, generated at its first start."""
        return keep_secret(self.path / name, make)

    def log(self, name: str) -> Path:
        """Return the log file of a process. A file over 10 MiB becomes `.log.1`, which replaces the previous one."""
        path = self.path / "logs" / f"{name}.log"
        if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path

    def _take_lock(self) -> IO[str]:
        lock = (self.path / "lock").open("a+")
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip()
                # After a kill, the watchdog of the killed `tidings up` holds the lock until it has cleaned up.
                if time.monotonic() > deadline or (holder.isdecimal() and process_groups.alive(int(holder))):
                    raise TidingsError(
                        f"Tidings is already running on {self.path}, as process {holder}. "
                        "Stop it first, or choose another directory with --data."
                    ) from None
                time.sleep(0.1)
            else:
                lock.truncate(0)
                lock.write(f"{os.getpid()}\n")
                lock.flush()
                return lock
