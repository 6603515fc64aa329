"""What `tidings up` shows: few sentences of its own, and on request what the processes log."""

import itertools
import sys
from pathlib import Path
from typing import Final

import click

_COLOURS: Final = itertools.cycle(("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green"))
_WIDTH: Final = 10


class Screen:
    """Lines with the name of who says them in front, in a colour for each where the screen has colours."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._logs: dict[str, tuple[Path, str]] = {}
        self._shown: dict[str, int] = {}  # bytes of each log

    def say(self, sentence: str) -> None:
        """A sentence of our own."""
        self._write("tidings", "white", sentence)

    def show(self, label: str, value: str) -> None:
        """A fact, below the others."""
        self.say(f"  {label:10} {value}")

    def add(self, name: str, log: Path) -> None:
        """Follow a log from its present end."""
        self._logs[name] = (log, next(_COLOURS))
        self._shown[name] = log.stat().st_size if log.exists() else 0

    def follow(self) -> None:
        """Show the lines that were logged since the last time."""
        if not self._verbose:
            return
        for name, (path, colour) in self._logs.items():
            for line in self._news(name, path):
                self._write(name, colour, line)

    def _news(self, name: str, path: Path) -> list[str]:
        try:
            with path.open("rb") as log:
                log.seek(self._shown[name])
                news = log.read()
        except FileNotFoundError:
            return []
        whole = news[: news.rfind(b"\n") + 1]
        self._shown[name] += len(whole)
        return whole.decode(errors="replace").splitlines()

    def _write(self, name: str, colour: str, line: str) -> None:
        prefix = f"{name:{_WIDTH}}| "
        click.echo((click.style(prefix, fg=colour) if sys.stdout.isatty() else prefix) + line)
