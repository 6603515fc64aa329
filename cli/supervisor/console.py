"""The output of `tidings up`: its own messages and, with --verbose, the logs of the processes."""

import itertools
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from shared.foreign_text import show

_COLOURS: Final = itertools.cycle(("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green"))
_WIDTH: Final = 10


class Console:
    """Prints lines with the name of their process in front, in colour on a terminal."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._logs: dict[str, tuple[Path, str]] = {}
        self._offsets: dict[str, int] = {}  # bytes shown of each log

    def print(self, message: str) -> None:
        """Print a message of the supervisor."""
        self._write("tidings", "white", message)

    def print_value(self, label: str, value: str) -> None:
        """Print a labelled value."""
        self.print(f"  {label:10} {value}")

    def add(self, name: str, log: Path) -> None:
        """Follow a log from its current end."""
        self._logs[name] = (log, next(_COLOURS))
        self._offsets[name] = log.stat().st_size if log.exists() else 0

    def print_logs(self) -> None:
        """Print the lines that were logged since the last call, with --verbose."""
        if not self._verbose:
            return
        for name, (path, colour) in self._logs.items():
            for line in self._read_new_lines(name, path):
                self._write(name, colour, line)

    def _read_new_lines(self, name: str, path: Path) -> list[str]:
        try:
            with path.open("rb") as log:
                log.seek(self._offsets[name])
                added = log.read()
        except OSError:
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._offsets[name] += len(whole)
        return whole.decode(errors="replace").splitlines()

    def _write(self, name: str, colour: str, line: str) -> None:
        prefix = f"{name:{_WIDTH}}| "
        with suppress(OSError, ValueError):  # standard output is closed or its disk full: the system runs on
            click.echo(click.style(prefix, fg=colour) + show(line))  # without colours if it is not a terminal
