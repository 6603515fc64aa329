"""`tidings rules`, and processes that refuse to start without valid rules."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.alerts import store as alerts
from shared.rules import document, store
from tests.support.command_line import Commands
from tests.support.supervised_system import START_SECONDS, command, environment

GOOD = "suppression:\n  complaint:\n    days: 90\n"
WRONG = "suppression:\n  complaint:\n    days: soon\nalerts:\n  - kind: silence\n"
SAID = (
    '3:11: suppression.complaint.days: expected a whole number of days from 1 to 36500, or "for good", found "soon"',
    "5:5: alerts[0].name: expected a name of up to 64 letters, digits, dots, dashes and underscores, found no such key",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.yaml"


class TestChecking:
    def test_a_right_file_ends_well(self, commands: Commands, file: Path) -> None:
        file.write_text(GOOD)
        count = len(document.load_default().alerts)
        assert f"is valid; {count} alert rules would be in force" in commands.run("rules", "check", str(file))

    def test_a_wrong_one_prints_every_error_as_compilers_do(self, commands: Commands, file: Path) -> None:
        file.write_text(WRONG)
        output = commands.run("rules", "check", str(file), code=1)
        for line in SAID:
            assert f"{file}:{line}" in output.splitlines()
        assert "2 errors" in output

    def test_reads_the_file_of_the_settings_by_default(self, commands: Commands, file: Path) -> None:
        assert "TIDINGS_RULES names no file" in commands.run("rules", "check", code=2)
        file.write_text(WRONG)
        commands.settings["TIDINGS_RULES"] = str(file)
        commands.run("rules", "check", code=1)

    def test_needs_no_database(self, commands: Commands, file: Path) -> None:
        file.write_text(GOOD)
        Commands(commands.system, {"TIDINGS_DATABASE_URL": ""}).run("rules", "check", str(file))


class TestShowing:
    def accept(self, commands: Commands, file: Path, text: str) -> None:
        with commands.system.engine.begin() as connection:
            store.store_accepted(connection, str(file), text)

    def test_the_defaults_says_so_and_prints_what_a_file_could_say(self, commands: Commands) -> None:
        output = commands.run("rules", "show")
        assert output.startswith("# The defaults are in force.\n")
        assert document.load(output, "shown") == document.load_default()

    def test_the_defaults_to_begin_with_has_their_comments(self, commands: Commands) -> None:
        output = commands.run("rules", "show", "--default")
        assert document.load(output, "shown") == document.load_default()
        assert "# After an unsubscribe, transactional mail such as receipts" in output

    def test_a_file_says_which_and_since_when(self, commands: Commands, file: Path) -> None:
        file.write_text(GOOD)
        self.accept(commands, file, GOOD)
        output = commands.run("rules", "show")
        assert output.startswith(f"# In force is {file}, accepted at 20")
        assert document.load(output, "shown") == document.load(GOOD, "file")

    def test_what_was_accepted_last_says_why_it_is_not_the_file(self, commands: Commands, file: Path) -> None:
        file.write_text(WRONG)
        self.accept(commands, file, GOOD)
        output = commands.run("rules", "show")
        assert "Workers refuse the current content" in output
        assert f"# {file}:{SAID[0]}" in output
        assert document.load(output, "shown").suppression.complaint.days == 90

    def test_a_file_that_was_changed_just_now_says_so(self, commands: Commands, file: Path) -> None:
        file.write_text(GOOD + "# changed\n")
        self.accept(commands, file, GOOD)
        assert "It has been changed" in commands.run("rules", "show")

    def test_a_file_that_no_worker_has_seen_says_so(self, commands: Commands, file: Path) -> None:
        commands.settings["TIDINGS_RULES"] = str(file)
        output = commands.run("rules", "show")
        assert f"# No worker has accepted {file}." in output

    def test_rules_of_the_api_are_named(self, commands: Commands) -> None:
        with commands.system.engine.begin() as connection:
            for name in ("mine", "silence"):
                definition = {"name": name, "kind": "silence", "warning": 60}
                alerts.save_rule(connection, name, definition, "ann", datetime.now(UTC))
        output = commands.run("rules", "show")
        assert "# In force too, created through the API by ann: mine" in output
        assert "a rule above has its name: silence" in output


class TestStarting:
    def test_a_worker_refuses_with_a_wrong_file(self, database_url: str, broker_url: str, file: Path) -> None:
        file.write_text(WRONG)
        settings = {
            "TIDINGS_DATABASE_URL": database_url,
            "TIDINGS_BROKER_URL": broker_url,
            "TIDINGS_SECRET_KEYS": "unused",
            "TIDINGS_RULES": str(file),
        }
        done = subprocess.run(
            [sys.executable, "-m", "celery", "--quiet", "-A", "workers.app", "worker", "--pool", "solo"],
            env={**os.environ, **settings},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode != 0
        assert f"{file}:{SAID[0]}" in done.stderr

    def test_everything_refuses_with_a_wrong_file_named_from_where_it_was_started(self, data_dir: Path) -> None:
        (data_dir / "rules.yaml").write_text(WRONG)
        done = subprocess.run(
            command("up", "--data", "data", "--receiver-port", "0", "--api-port", "0"),
            cwd=data_dir,
            env=environment(TIDINGS_RULES="rules.yaml"),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 2
        assert f"{data_dir / 'rules.yaml'}:{SAID[0]}" in done.stderr
        assert f"{data_dir / 'rules.yaml'}:{SAID[1]}" in done.stderr
