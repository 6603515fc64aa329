"""A separate `tidings up` for a test: started as a person would start it, and watched from outside."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.embedded.server import eventually
from cli.supervisor import process_groups

START_SECONDS = 180
STOP_SECONDS = 90


class Up:
    """The process, its ready file, and every process that the file has named."""

    def __init__(self, process: subprocess.Popen[str], ready_file: Path, data: Path) -> None:
        self.process = process
        self.ready_file = ready_file
        self.data = data
        self.pids_seen: set[int] = {process.pid}

    def ready(self) -> dict[str, Any]:
        """Read the ready file; empty while it does not exist."""
        try:
            facts: dict[str, Any] = json.loads(self.ready_file.read_text())
        except FileNotFoundError:
            return {}
        for pids in facts["pids"].values():
            self.pids_seen.update(pids)
        return facts

    def pids(self, group: str) -> list[int]:
        """Return the processes of a group, from the ready file."""
        found: list[int] = self.ready().get("pids", {}).get(group, [])
        return found

    def kill(self, group: str, position: int = 0) -> None:
        """`kill -9` one process of a group, and wait until the ready file names living ones instead."""
        before = self.pids(group)
        os.kill(before[position], signal.SIGKILL)

        def replaced() -> bool:
            pids = self.pids(group)
            complete = len(pids) == len(before) and all(process_groups.alive(pid) for pid in pids)
            return complete and before[position] not in pids

        assert eventually(replaced, timeout_seconds=START_SECONDS), f"{group} was not replaced: {self.ready()}"

    def everything(self) -> set[int]:
        """Every living process of this installation: those it named, their sessions, and orphans."""
        found = {pid for pid in self.pids_seen if process_groups.alive(pid)}
        for leader, members in process_groups.by_leader().items():
            if leader in self.pids_seen:
                found.update(members)
            found.update(pid for pid in members if str(self.data) in process_groups.command_of(pid))
        return found

    def leaves_nothing(self) -> bool:
        """Return whether all its processes end in time."""
        return eventually(lambda: not self.everything(), timeout_seconds=STOP_SECONDS)


def command(*arguments: str) -> list[str]:
    """Build a command line of `tidings`."""
    return [sys.executable, "-m", "cli.main", *arguments]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment with these settings of Tidings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    return {**kept, **changes}


@contextmanager
def running(data: Path, *options: str, **settings: str) -> Iterator[Up]:
    """Run `tidings up` until it is ready; stop it at the end unless the test did."""
    ready_file = data / "ready.json"
    arguments = (
        "up",
        "--data",
        str(data),
        "--receiver-port",
        "0",
        "--api-port",
        "0",
        "--ready-file",
        str(ready_file),
    )
    process = subprocess.Popen(
        command(*arguments, *options),
        env=environment(**settings),
        cwd=data,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    up = Up(process, ready_file, data)
    try:
        if not eventually(lambda: bool(up.ready()) or process.poll() is not None, timeout_seconds=START_SECONDS):
            process.terminate()
        assert up.ready(), process.communicate(timeout=STOP_SECONDS)[0]
        yield up
    finally:
        process.terminate()
        process.communicate(timeout=STOP_SECONDS)


def wait_until(condition: Callable[[], bool]) -> None:
    """Fail unless the condition holds in time."""
    assert eventually(condition, timeout_seconds=START_SECONDS)
