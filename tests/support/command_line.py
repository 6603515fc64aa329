"""Running `tidings` commands as a person would, on the database of a test."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cli.context import complete_command
from cli.main import main
from tests.support.system import System


@dataclass(frozen=True)
class Commands:
    """The command line, and the system that it works on."""

    system: System
    settings: dict[str, str]
    """The environment variables of every command."""

    def run(self, *words: str, says: str | None = None, code: int = 0) -> str:
        """Run a command, which must exit with this code; its output. `says` is what the user types."""
        result: Result = CliRunner().invoke(main, words, input=says, env={"COLUMNS": "250", **self.settings})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output


def check_advice(text: str) -> None:
    """Check that the command at the end of an advice can be run, for the installation of the settings and of `--data`.

    Raises click.UsageError.
    """
    if "tidings " not in text:
        return
    parse_command(text[text.index("tidings ") :])
    with click.Context(main) as context, pytest.MonkeyPatch.context() as environment:
        environment.delenv("TIDINGS_DATABASE_URL", raising=False)
        context.params["data"] = Path("/srv/its data")
        printed = complete_command(text)
    if printed.startswith("tail "):
        assert "tidings run " in text
    else:
        parse_command(printed[printed.index("tidings ") :])


def parse_command(line: str) -> click.Context:
    """Parse a command line that somebody printed, without running it. Raises click.UsageError if it is wrong."""
    program, *words = shlex.split(line)
    assert program == "tidings"
    command: click.Command = main
    context = click.Context(main, info_name=program)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, line
        command, context = found, click.Context(found, info_name=name, parent=context)
    return command.make_context(command.name, words, parent=context.parent)
