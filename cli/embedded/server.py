"""Base class of the embedded servers: start, stop, kill and restart."""

import abc
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from cli.supervisor import ports, process_groups
from cli.supervisor.watchdog import Watchdog
from shared.errors import TidingsError

_LOG_TAIL_LINES = 15


class Server(abc.ABC):
    """One server process, the leader of a new session, on 127.0.0.1.

    Also a context manager that starts and stops it. A watchdog stops it if this process is killed.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    holds_data: ClassVar[bool]

    def __init__(
        self,
        data_dir: Path | str,
        *,
        port: int = 0,
        log: Path | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        """Create `data_dir` if it is missing. Port 0 picks a free port, which restarts keep."""
        self.data_dir = Path(data_dir).absolute()
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.port = port or ports.free_port()
        self.log = log or self.data_dir / f"{self.name}.log"
        self._own_watchdog = Watchdog() if watchdog is None else None
        self._watchdog = watchdog or self._own_watchdog
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Return the URL for clients, with the password."""

    @property
    def pid(self) -> int:
        """Return the main process id. Raises TidingsError if it has not been started."""
        if self.process is None:
            raise TidingsError(f"The embedded {self.name} has not been started.")
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the main process is running, ready or not."""
        return self.process is not None and self.process.poll() is None

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Return whether it answers clients now."""

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Prepare the data directory before each start."""

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """Return the command line of the process."""

    def _credentials(self) -> dict[str, Any]:
        """Return the user it runs as, in arguments of Popen; empty for the current user."""
        return {}

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting until it is ready."""
        self._prepare()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                **self._credentials(),
            )
        if self._watchdog is not None:
            self._watchdog.watch(self.process.pid, gently=self.holds_data)
        return self.process

    def start(self, *, timeout_seconds: float = 120) -> None:
        """Start it and wait until it answers. Raises TidingsError after the timeout.

        The default timeout is long because PostgreSQL may have to recover from a crash.
        """
        deadline = time.monotonic() + timeout_seconds
        self.launch()
        while not self.is_ready():
            if time.monotonic() > deadline:
                log_tail = self.log_tail()
                self.kill()
                raise TidingsError(f"The embedded {self.name} was not ready within {timeout_seconds:g} s. {log_tail}")
            if not self.is_running:
                self.reap()
                if not self.is_retryable():
                    raise TidingsError(f"The embedded {self.name} ended during its start. {self.log_tail()}")
                time.sleep(0.2)
                self.launch()
            time.sleep(0.02)

    def is_retryable(self) -> bool:
        """Return whether it failed for a temporary reason."""
        return False

    def stop(self, *, timeout_seconds: float = 10) -> None:
        """Stop it; kill it after the timeout. Do nothing if it is not running."""
        self.end(self.stop_signal, timeout_seconds=timeout_seconds)
        if self._own_watchdog is not None:
            self._own_watchdog.close()

    def kill(self) -> None:
        """Kill it with SIGKILL, like a crash."""
        self.end(signal.SIGKILL, timeout_seconds=10)

    def restart(self) -> None:
        """Stop it and start it on the same port and data."""
        self.end(self.stop_signal, timeout_seconds=30)
        self.start()

    def freeze(self) -> None:
        """Suspend it until `thaw`: it accepts connections but does not answer."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self, number: signal.Signals, *, timeout_seconds: float) -> None:
        """Send this signal to the main process, wait for its end, and kill the session after the timeout."""
        if self.process is None:
            return
        process_groups.send(self.process.pid, number) if self.is_running else None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_seconds)
        self.reap()

    def reap(self) -> None:
        """Kill what is left of the session and stop watching it."""
        if self.process is not None:
            process_groups.kill(self.process.pid)
            self.process.wait()
            if self._watchdog is not None:
                self._watchdog.forget(self.process.pid)

    def log_tail(self) -> str:
        """Return the end of its log for an error message."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        except OSError:
            return ""
        return "The end of its log:\n" + "\n".join(lines)


def eventually(condition: Callable[[], bool], *, timeout_seconds: float) -> bool:
    """Wait until the condition holds; return False after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
