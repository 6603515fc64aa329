"""The watchdog kills the processes that its owner started if the owner is killed before it can stop them.

It reads from a pipe whose writing end only its owner has. The owner sends the sessions to watch. When the pipe closes,
the owner has ended, and the watchdog ends the sessions.

PR_SET_PDEATHSIG covers direct children only, and would kill a server when the *thread* that started it ends.
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

_STOP_SECONDS: Final = 5.0


class Watchdog:
    """The owner's side: a child process, started with the first session to watch."""

    def __init__(self, *, keep_open: tuple[int, ...] = ()) -> None:
        """`keep_open` are descriptors that it inherits, such as a lock that must last until everything has ended."""
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
        """Return the watchdog's process id, or None if it has not been started."""
        return self._process.pid if self._process else None

    def watch(self, leader: int, *, gently: bool = False) -> None:
        """Kill this session if this process dies. With `gently`, for servers with data, try SIGINT first."""
        with self._lock:
            self._watched[leader] = gently
            self._send(f"watch {leader} {int(gently)}")

    def forget(self, leader: int) -> None:
        """Stop watching a session that has ended: its number may be reused."""
        with self._lock:
            if self._watched.pop(leader, None) is not None:
                self._send(f"forget {leader} 0")

    def close(self) -> None:
        """End the watchdog, which kills the sessions that are still watched."""
        with self._lock:
            if self._process is not None:
                _pipe_to(self._process).close()
                self._process.wait()
            self._process = None
            self._watched.clear()

    def _send(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()  # sends every watched session, this one included
            return
        with contextlib.suppress(BrokenPipeError):  # it was just killed; the next line starts another
            _pipe_to(self._process).write(f"{line}\n".encode())

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.supervisor.watchdog"],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in the terminal goes to its owner only
            pass_fds=self._keep_open,
            cwd=Path(__file__).parents[2],  # where `cli` is found, installed or not
        )
        for leader, gently in self._watched.items():
            self._send(f"watch {leader} {int(gently)}")


def _pipe_to(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdin is None:
        raise ValueError("the watchdog was started without a pipe")
    return process.stdin


def _serve() -> None:
    """Read the sessions to watch until the owner ends, then end them."""
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
    # Servers last, when they have no clients: PostgreSQL then stops at once and needs no recovery.
    for number, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGKILL, 1.0)):
        left = [leader for leader in watched if process_groups.alive(leader)]
        for leader in left:
            process_groups.send(leader, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(process_groups.alive(leader) for leader in left):
            time.sleep(0.02)
    for leader in watched:
        process_groups.kill(leader)


if __name__ == "__main__":
    _serve()
