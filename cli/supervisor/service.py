"""One process that is kept running: started, watched, and started again when it has died."""

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.supervisor import process_groups
from cli.supervisor.watchdog import Watchdog
from shared import backoff

_STEADY_SECONDS: Final = 30.0  # who ran as long as this was not in trouble
_LAST_WORDS = 12  # lines of the log that an error repeats

# What a process starts for its own book-keeping, and what does no work of ours.
_HELPERS = ("multiprocessing.resource_tracker",)


@dataclass(slots=True)
class Service:
    """A process with all that it starts, in a session of its own.

    `launch` starts it and returns at once. `group` is the name that it has in the ready file: the workers are
    several.
    """

    name: str
    group: str
    launch: Callable[[], subprocess.Popen[bytes]]
    log: Path
    watchdog: Watchdog
    stop_signal: signal.Signals = signal.SIGTERM
    holds_data: bool = False
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    _launched_at: float = 0.0
    _launch_at: float = 0.0

    @property
    def is_running(self) -> bool:
        """Whether its main process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def is_due(self) -> bool:
        """Whether it is not running, and has waited long enough to be started again."""
        return self.process is None and time.monotonic() >= self._launch_at

    def start(self) -> None:
        """Start it, without waiting for anything."""
        self.process = self.launch()
        self.watchdog.watch(self.process.pid, gently=self.holds_data)
        self._launched_at = time.monotonic()

    def bury(self) -> str | None:
        """If it has died, remove what it left behind and plan its next start; say how it died, else None."""
        if self.process is None or self.process.poll() is None:
            return None
        code = self.process.returncode
        self._remove()
        if time.monotonic() - self._launched_at >= _STEADY_SECONDS:
            self.failures = 0
        self.failures += 1
        self._launch_at = time.monotonic() + backoff.PROCESSES.delay_seconds(self.failures)
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def ask_to_stop(self) -> None:
        """Let it finish what it does; its main process tells the others."""
        if self.process is not None:
            process_groups.send(self.process.pid, self.stop_signal)

    def end(self) -> None:
        """Whatever is left of it goes now."""
        if self.process is not None:
            process_groups.kill(self.process.pid)
            self._remove()

    def _remove(self) -> None:
        if self.process is not None:
            process_groups.kill(self.process.pid)
            self.process.wait()
            self.watchdog.forget(self.process.pid)
            self.process = None

    def pids(self, members: dict[int, list[int]]) -> list[int]:
        """Its main process and those that do the work, given the processes of every session."""
        if self.process is None:
            return []
        if self.holds_data:  # a PostgreSQL's backends come and go with the connections
            return [self.process.pid]
        found = members.get(self.process.pid, [])
        return [pid for pid in found if not any(word in process_groups.command_of(pid) for word in _HELPERS)]

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_LAST_WORDS:]
        except OSError:
            lines = []
        return "\n".join(lines)
