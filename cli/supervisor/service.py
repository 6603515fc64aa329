"""One process that is kept running: started, watched, and restarted when it ends."""

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

_STEADY_SECONDS: Final = 30.0  # a run of this length resets the failures
_LOG_TAIL_LINES = 12

# Processes that Python starts for its own bookkeeping.
_HELPERS = ("multiprocessing.resource_tracker",)


@dataclass(slots=True)
class Service:
    """A process and its descendants, in one session.

    `launch` starts it and returns at once. `group` is its name in the ready file, which several workers share.
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
        """Whether its main process is running."""
        return self.process is not None and self.process.poll() is None

    @property
    def is_due(self) -> bool:
        """Whether it has ended and its restart delay is over."""
        return self.process is None and time.monotonic() >= self._launch_at

    def start(self) -> None:
        """Start it without waiting until it is ready."""
        self.process = self.launch()
        self.watchdog.watch(self.process.pid, gently=self.holds_data)
        self._launched_at = time.monotonic()

    def handle_exit(self) -> str | None:
        """If it has ended, kill its descendants, schedule its restart and return how it ended; else None."""
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
        """Send the stop signal to the main process, which stops its children."""
        if self.process is not None:
            process_groups.send(self.process.pid, self.stop_signal)

    def kill(self) -> None:
        """Kill everything that is left of it."""
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
        """Return its main process and its workers, given the processes of every session."""
        if self.process is None:
            return []
        if self.holds_data:  # PostgreSQL's backends come and go with the connections
            return [self.process.pid]
        found = members.get(self.process.pid, [])
        return [pid for pid in found if not any(word in process_groups.command_of(pid) for word in _HELPERS)]

    def log_tail(self) -> str:
        """Return the end of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        except OSError:
            lines = []
        return "\n".join(lines)
