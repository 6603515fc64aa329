"""The Procfile: the single place that says how each process is started."""

import re
from pathlib import Path

from shared.errors import TidingsError

ROOT = Path(__file__).parents[2]
RELEASE = "release"  # what runs once before all others, as the hosts that read Procfiles have it
_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>.+)")


class ProcfileError(TidingsError):
    """A Procfile that is missing, or has a line that cannot be understood."""


def read(path: Path = ROOT / "Procfile") -> dict[str, str]:
    """The commands, for a shell, by the names of their processes. Raises ProcfileError."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ProcfileError(f"There is no {path}: `tidings up` runs from a checkout of Tidings.") from None
    return parse(text)


def parse(text: str) -> dict[str, str]:
    """The commands by name, in the order of the lines. Empty lines and comments are skipped."""
    commands: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ProcfileError(f"Line {number} of the Procfile should be `name: command`, not {line!r}.")
        commands[match["name"]] = match["command"]
    return commands
