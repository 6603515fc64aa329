"""What the embedded servers have in common: started, stopped, killed, started again where they were."""

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

_LAST_WORDS = 15  # lines of the log that an error repeats


class EmbeddedError(TidingsError):
    """An embedded server that cannot be started; the message says what it said last."""


class Server(abc.ABC):
    """One server process, leader of its own session, listening on 127.0.0.1.

    Also a context manager that starts and stops it. A watchdog stops it when the process that started it is
    killed.
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
        """`data_dir` is made if missing, and kept; port 0 chooses a free one, which then stays the same."""
        self.data_dir = Path(data_dir).absolute()
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.port = port or ports.free()
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
        """Where a client reaches it, with the password."""

    @property
    def pid(self) -> int:
        """The main process. Raises EmbeddedError if it has not been started."""
        if self.process is None:
            raise EmbeddedError(f"The embedded {self.name} has not been started.")
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the main process lives, ready or not."""
        return self.process is not None and self.process.poll() is None

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers a client now."""

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Whatever must be there before the process is started, each time."""

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """The command line of the process."""

    def _credentials(self) -> dict[str, Any]:
        """As whom it runs, as arguments of Popen; empty for the user we are."""
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
        """Start it and wait until it answers. Raises EmbeddedError if it does not in time.

        The limit is generous because PostgreSQL may first have to recover from a crash.
        """
        deadline = time.monotonic() + timeout_seconds
        self.launch()
        while not self.is_ready():
            if time.monotonic() > deadline:
                last_words = self.last_words()
                self.kill()
                raise EmbeddedError(f"The embedded {self.name} was not ready in {timeout_seconds:g} s. {last_words}")
            if not self.is_running:
                self.reap()
                if not self.may_try_again():
                    raise EmbeddedError(f"The embedded {self.name} ended at once. {self.last_words()}")
                time.sleep(0.2)
                self.launch()
            time.sleep(0.02)

    def may_try_again(self) -> bool:
        """Whether its end was due to something that passes by itself."""
        return False

    def stop(self, *, timeout_seconds: float = 10) -> None:
        """Stop it in an orderly way; kill it if that takes longer. No error if it is not running."""
        self.end(self.stop_signal, timeout_seconds=timeout_seconds)
        if self._own_watchdog is not None:
            self._own_watchdog.close()

    def kill(self) -> None:
        """`kill -9`, as a crash would."""
        self.end(signal.SIGKILL, timeout_seconds=10)

    def restart(self) -> None:
        """Stop it, and start it on the same port and data."""
        self.end(self.stop_signal, timeout_seconds=30)
        self.start()

    def freeze(self) -> None:
        """Let it accept connections but answer nothing, until `thaw`."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """The end of `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self, number: signal.Signals, *, timeout_seconds: float) -> None:
        """Send this signal to the main process, wait, and kill the session if it takes longer."""
        if self.process is None:
            return
        process_groups.send(self.process.pid, number) if self.is_running else None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_seconds)
        self.reap()

    def reap(self) -> None:
        """Remove what the main process left behind, and forget it."""
        if self.process is not None:
            process_groups.kill(self.process.pid)
            self.process.wait()
            if self._watchdog is not None:
                self._watchdog.forget(self.process.pid)

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_LAST_WORDS:]
        except OSError:
            return ""
        return "It said last:\n" + "\n".join(lines)


def eventually(condition: Callable[[], bool], *, timeout_seconds: float) -> bool:
    """Wait until the condition holds; False if it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
