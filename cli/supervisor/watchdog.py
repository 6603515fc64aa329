"""The watchdog: takes away what a process has started when that process is killed without a chance to do so
itself.

It holds the reading end of a pipe whose writing end only its owner has. Through the pipe it learns what to
watch; when the pipe ends, the owner is gone, however it went, and so must everything else be.

PR_SET_PDEATHSIG would do this for children only, not for theirs, and would kill a server whenever the
*thread* that started it ends.
"""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from cli.supervisor import process_groups

_PATIENCE_SECONDS: Final = 5.0


class Watchdog:
    """The owner's end: a child process, started with the first session that is to be watched."""

    def __init__(self, *, keep_open: tuple[int, ...] = ()) -> None:
        """`keep_open` are files it shall hold while it lives: a lock, say, until all is gone."""
        self._keep_open = keep_open
        self._watched: dict[int, bool] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process that watches, if there is one."""
        return self._process.pid if self._process else None

    def watch(self, leader: int, *, gently: bool = False) -> None:
        """Have this session killed when this process dies; a server with data `gently`, asked first."""
        with self._lock:
            self._watched[leader] = gently
            self._tell(f"watch {leader} {int(gently)}")

    def forget(self, leader: int) -> None:
        """The session has ended in an orderly way; its number may soon be another's."""
        with self._lock:
            if self._watched.pop(leader, None) is not None:
                self._tell(f"forget {leader} 0")

    def close(self) -> None:
        """Let the watchdog go; it takes with it what is still watched."""
        with self._lock:
            if self._process is not None:
                _pipe_to(self._process).close()
                self._process.wait()
            self._process = None
            self._watched.clear()

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()  # which tells it everything, this line included
            return
        with contextlib.suppress(BrokenPipeError):  # it was killed just now; the next line starts another
            _pipe_to(self._process).write(f"{line}\n".encode())

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.supervisor.watchdog"],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C in the terminal is for its owner
            pass_fds=self._keep_open,
            cwd=Path(__file__).parents[2],  # where `cli` is found, installed or not
        )
        for leader, gently in self._watched.items():
            self._tell(f"watch {leader} {int(gently)}")


def _pipe_to(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdin is None:
        raise ValueError("the watchdog was started without a pipe")
    return process.stdin


def _serve() -> None:
    """Read what to watch until the owner is gone, then leave nothing behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, bool] = {}
    for line in sys.stdin:
        word, leader, gently = line.split()
        if word == "watch":
            watched[int(leader)] = gently == "1"
        else:
            watched.pop(int(leader), None)
    for leader in [leader for leader, gently in watched.items() if not gently]:
        process_groups.kill(leader)
    # The servers last, when nobody uses them any more: PostgreSQL then stops in no time, and needs no
    # recovery.
    for number, patience in ((signal.SIGINT, _PATIENCE_SECONDS), (signal.SIGKILL, 1.0)):
        left = [leader for leader in watched if process_groups.alive(leader)]
        for leader in left:
            process_groups.send(leader, number)
        _wait_for(left, patience)
    for leader in watched:
        process_groups.kill(leader)


def _wait_for(leaders: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process_groups.alive(leader) for leader in leaders):
        time.sleep(0.02)


if __name__ == "__main__":
    _serve()
