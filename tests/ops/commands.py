"""Running `tidings` commands as a person would, on the database of a test."""

from dataclasses import dataclass

from click.testing import CliRunner, Result

from cli.main import main
from tests.api.house import House


@dataclass(frozen=True)
class Commands:
    """The command line, with its settings, and the house that it works on."""

    house: House
    settings: dict[str, str]

    def run(self, *words: str, says: str | None = None, code: int = 0) -> str:
        """What a command prints; it must end with this code. `says` is what is typed."""
        result: Result = CliRunner().invoke(main, words, input=says, env={"COLUMNS": "250", **self.settings})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output
