"""Processes that are measured: each is started in a new session, and stopped with its child processes."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import sampling
from cli.supervisor import environment as supervisor_environment
from cli.supervisor import process_groups
from cli.supervisor.environment import ROOT
from cli.supervisor.watchdog import Watchdog
from shared.errors import TidingsError

_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.05


class BenchError(TidingsError):
    """The benchmark cannot go on; the message says why."""


class Processes:
    """Commands by name, started and stopped together. The watchdog stops them if we are killed."""

    def __init__(self, logs: Path, environment: Mapping[str, str], watchdog: Watchdog) -> None:
        self._logs = logs
        self._environment = supervisor_environment.merge_environment(environment)
        self._watchdog = watchdog
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: str) -> None:
        """Start a command, as a shell understands it; nothing is waited for."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[name] = process
        self._watchdog.watch(process.pid)

    def stop(self, *names: str) -> None:
        """Stop these, or all, in an orderly way; kill what takes too long, and what it left behind."""
        stopping = {name: self._running[name] for name in names or tuple(self._running) if name in self._running}
        for process in stopping.values():
            process_groups.send(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while any(process.poll() is None for process in stopping.values()) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        for name, process in stopping.items():
            process_groups.kill(process.pid)
            process.wait()
            self._watchdog.forget(process.pid)
            del self._running[name]

    def pids(self, name: str) -> list[int]:
        """Return a command's main process, followed by those that do the work; nothing while it is not running."""
        process = self._running.get(name)
        return sampling.processes(process.pid) if process else []

    def names(self) -> Sequence[str]:
        """Return the running processes."""
        return tuple(self._running)

    def wait_until(self, condition: Callable[[], bool], name: str) -> None:
        """Wait until a command is ready. Raises BenchError, with what it said last, if it takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            if time.monotonic() > deadline or self._running[name].poll() is not None:
                lines = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()
                raise BenchError(f"{name} did not start. It said last:\n" + "\n".join(lines[-15:]))
            time.sleep(_PAUSE_SECONDS)
