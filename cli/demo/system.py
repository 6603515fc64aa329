"""A whole Tidings of the demo's own: on embedded servers, free ports and throwaway data."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cli.supervisor.watchdog import Watchdog
from shared.errors import TidingsError
from shared.settings import PREFIX

_ROOT = Path(__file__).parents[2]  # where `cli` is found, installed or not
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_COMMAND_SECONDS = 120.0
_PAUSE_SECONDS = 0.1


class DemoError(TidingsError):
    """The demo could not be started; the message holds what was said last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What runs: where it is reached, and where its data is."""

    receiver_url: str
    api_url: str
    admin_key: str
    data: Path

    def run(self, *words: str) -> tuple[str, int]:
        """What a `tidings` command prints that works on this system, and the code it ends with."""
        ended = subprocess.run(
            _command(*words, "--data", str(self.data)),
            cwd=_ROOT,
            env={**_environment(), "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        return (ended.stdout + ended.stderr).rstrip(), ended.returncode


@contextmanager
def running(console: Console, directory: Path, settings: Mapping[str, str]) -> Iterator[System]:
    """A system with these settings, until it is left. Raises DemoError."""
    ready_file, log, data = directory / "ready.json", directory / "up.log", directory / "data"
    command = _command("up", "--data", str(data), "--host", "127.0.0.1", "--ready-file", str(ready_file))
    with Watchdog() as watchdog, log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--receiver-port", "0", "--api-port", "0"],
            cwd=_ROOT,
            env={**_environment(), **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is for us, who then stop it in order
        )
        watchdog.watch(process.pid, gently=True)
        try:
            with console.status("starting PostgreSQL, Redis, the receiver, the workers, beat and the API …"):
                ready = _wait_for(ready_file, process, log)
            yield System(**{name: ready[name] for name in ("receiver_url", "api_url", "admin_key")}, data=data)
        finally:
            with console.status("stopping …"):
                _stop(process)
            watchdog.forget(process.pid)


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", *words]


def _environment() -> dict[str, str]:
    # Whatever Tidings is configured here must not be touched: a demo writes to servers of its own only.
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _wait_for(ready_file: Path, process: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    deadline = time.monotonic() + _START_SECONDS
    while not ready_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            last_words = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise DemoError(f"`tidings up` did not become ready. It said last:\n{last_words}")
        time.sleep(_PAUSE_SECONDS)
    ready: dict[str, str] = json.loads(ready_file.read_text())
    return ready


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
