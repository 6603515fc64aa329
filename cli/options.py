"""Parameter types of commands: the values of an enumeration, and a time. Also files, and a group with uncut help."""

import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final, Generic, TypeVar

import click

_NO_LIMIT = 1000
MAX_TEXT_BYTES: Final = 256 * 1024
"""Of a file with a secret, credentials or a mapping."""
MAX_DATA_BYTES: Final = 64 * 1024 * 1024
"""Of a list or a webhook's body; the API takes as much."""

Word = TypeVar("Word", bound=StrEnum)


class WholeHelpGroup(click.Group):
    """A group whose help shows the first sentence of each command in full, wrapped instead of cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=_NO_LIMIT)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class OneOf(click.ParamType[Word], Generic[Word]):
    """A value of an enumeration."""

    name = "word"

    def __init__(self, words: type[Word]) -> None:
        self._words = words
        self._choice = click.Choice([str(word) for word in words])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Return the allowed values for the help."""
        return self._choice.get_metavar(param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Word:
        """Return the member for a value."""
        return self._words(self._choice.convert(value, param, ctx))


class Moment(click.DateTime):
    """A time in UTC: a date, or a date and a time."""

    example = "2026-03-02, 2026-03-02T08:15 or 2026-03-02T08:15:04"

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """Return one form for the help instead of all patterns."""
        return "YYYY-MM-DD[THH:MM[:SS]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time with its zone."""
        try:
            return super().convert(value, param, ctx).replace(tzinfo=UTC)
        except click.BadParameter:
            self.fail(f"{value!r} is not a time; give one in UTC, such as {self.example}.", param, ctx)


class NextMoment(Moment):
    """A time in UTC, or a time of day, which stands for the next one."""

    example = "12:00 (the next one), 2026-03-02T08:15 or 2026-03-02T08:15:04"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """Return one form for the help instead of all patterns."""
        return "HH:MM|YYYY-MM-DD[THH:MM[:SS]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time with its zone."""
        try:
            time_of_day = datetime.strptime(value, "%H:%M").time()  # noqa: DTZ007 - it has no date
        except (TypeError, ValueError):
            return super().convert(value, param, ctx)
        now = datetime.now(UTC)
        found = datetime.combine(now, time_of_day, UTC)
        return found if found > now else found + timedelta(days=1)


MOMENT = Moment()
NEXT_MOMENT = NextMoment()


def read_text(name: str | Path) -> str:
    """Return the text of a file, or of standard input for "-". Raises ValueError, which gives the reason."""
    try:
        if name == "-":
            return read_data(sys.stdin.buffer, MAX_TEXT_BYTES).decode()
        with Path(name).open("rb") as file:
            return read_data(file, MAX_TEXT_BYTES).decode()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def read_data(file: IO[bytes], max_bytes: int = MAX_DATA_BYTES) -> bytes:
    """Return the content of a file. A device may never end: raises ValueError if there is more than the limit."""
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes // 1024} KiB")
    return content
