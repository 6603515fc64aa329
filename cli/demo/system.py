"""A temporary Tidings for the demo: embedded servers, free ports, temporary data."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from cli.supervisor.environment import ROOT
from cli.supervisor.watchdog import Watchdog
from shared.errors import TidingsError
from shared.settings import PREFIX

_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_COMMAND_SECONDS = 120.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The URLs, admin key and data directory of the running system."""

    receiver_url: str
    api_url: str
    admin_key: str
    data: Path

    def run(self, *words: str) -> tuple[str, int]:
        """Run a `tidings` command on this system; return its output and exit code."""
        ended = subprocess.run(
            _command(*words, "--data", str(self.data)),
            cwd=ROOT,
            env={**_environment(), "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        return (ended.stdout + ended.stderr).rstrip(), ended.returncode


@contextmanager
def running(console: Console, directory: Path, settings: Mapping[str, str]) -> Iterator[System]:
    """Start a system with these settings, and stop it at the end. Raises TidingsError."""
    ready_file, log, data = directory / "ready.json", directory / "up.log", directory / "data"
    command = _command("up", "--data", str(data), "--host", "127.0.0.1", "--ready-file", str(ready_file))
    with Watchdog() as watchdog, log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--receiver-port", "0", "--api-port", "0"],
            cwd=ROOT,
            env={**_environment(), **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to this process only, which stops it in order
        )
        watchdog.watch(process.pid, gently=True)
        try:
            with console.status("starting PostgreSQL, Redis, the receiver, the workers, beat and the API …"):
                deadline = time.monotonic() + _START_SECONDS
                while not ready_file.exists():
                    if process.poll() is not None or time.monotonic() > deadline:
                        log_tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                        raise TidingsError(f"`tidings up` did not become ready. The end of its log:\n{log_tail}")
                    time.sleep(_POLL_SECONDS)
            ready: dict[str, str] = json.loads(ready_file.read_text())
            yield System(**{name: ready[name] for name in ("receiver_url", "api_url", "admin_key")}, data=data)
        finally:
            with console.status("stopping …"):
                process.terminate()
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            watchdog.forget(process.pid)


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", *words]


def _environment() -> dict[str, str]:
    # The demo must not touch the Tidings that this environment configures.
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


_Result = TypeVar("_Result")


def wait_until(condition: Callable[[], _Result], *, within_seconds: float) -> _Result | None:
    """Return the first true result of the condition; None after the timeout. Evaluates it at least once."""
    deadline = time.monotonic() + within_seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_SECONDS)
    return found
