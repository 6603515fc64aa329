"""The rules in force in a process: read again when they change, and kept while what is new is wrong."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from shared.alerts import store as alerts
from shared.rules import document, store
from shared.rules.document import RulesError
from shared.rules.model import Rules
from shared.rules.reloader import RulesReloader, require_rules

GOOD = "suppression:\n  complaint:\n    days: %d\n"
WRONG = "suppression:\n  complaint:\n    days: soon\n"


@pytest.fixture
def connection(database: Engine) -> Iterator[Connection]:
    with database.begin() as connection:
        yield connection


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.yaml"


def write(file: Path, text: str, *, seconds_ago: float = 60) -> None:
    """As an editor saves it, some time ago."""
    file.write_text(text)
    at = time.time() - seconds_ago
    os.utime(file, (at, at))


def days(found: Rules) -> int | None:
    return found.suppression.complaint.days


def rule(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "pending_age", "warning": 60, **more}


def put(connection: Connection, name: str, **more: Any) -> None:
    alerts.save_rule(connection, name, rule(name, **more), "ann", datetime.now(UTC))


def test_without_a_file_the_defaults_are_in_force(connection: Connection) -> None:
    assert RulesReloader(None).rules(connection) == document.load_default()


def test_a_file_is_read_again_when_it_has_changed(connection: Connection, file: Path) -> None:
    write(file, GOOD % 5)
    reloader = RulesReloader(file, interval_seconds=0)
    assert days(reloader.rules(connection)) == 5
    write(file, GOOD % 6, seconds_ago=30)
    assert days(reloader.rules(connection)) == 6
    other = file.with_suffix(".new")
    write(other, GOOD % 7, seconds_ago=30)
    other.replace(file)
    assert days(reloader.rules(connection)) == 7


def test_a_file_is_not_looked_at_all_the_time(connection: Connection, file: Path) -> None:
    write(file, GOOD % 5)
    reloader = RulesReloader(file, interval_seconds=3600)
    first = reloader.rules(connection)
    write(file, GOOD % 6, seconds_ago=30)
    put(connection, "late")
    assert reloader.rules(connection) is first


def test_what_is_being_written_is_left_alone_for_a_moment(connection: Connection, file: Path) -> None:
    write(file, GOOD % 5)
    reloader = RulesReloader(file, interval_seconds=0)
    reloader.rules(connection)
    write(file, GOOD % 6, seconds_ago=0)
    assert days(reloader.rules(connection)) == 5
    write(file, GOOD % 6, seconds_ago=2)
    assert days(reloader.rules(connection)) == 6
    write(file, GOOD % 7, seconds_ago=-3600)  # by a clock that is ahead of ours
    assert days(reloader.rules(connection)) == 7


class TestAWrongFile:
    def test_leaves_what_was_in_force_and_says_what_is_wrong(self, connection: Connection, file: Path) -> None:
        write(file, GOOD % 5)
        reloader = RulesReloader(file, interval_seconds=0)
        reloader.rules(connection)
        assert not reloader.errors
        write(file, WRONG, seconds_ago=30)
        assert days(reloader.rules(connection)) == 5
        (error,) = reloader.errors
        assert error.startswith(f"{file}:3:11: suppression.complaint.days: expected")
        file.unlink()
        assert days(reloader.rules(connection)) == 5
        assert "No such file" in reloader.errors[0]
        write(file, GOOD % 6)
        assert days(reloader.rules(connection)) == 6
        assert not reloader.errors

    def test_is_logged_once_for_each_time_it_is_changed(
        self, connection: Connection, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(file, GOOD % 5)
        reloader = RulesReloader(file, interval_seconds=0)
        reloader.rules(connection)
        for seconds_ago in (30, 20):
            write(file, WRONG, seconds_ago=seconds_ago)
            for _ in range(3):
                reloader.rules(connection)
        out = capsys.readouterr()
        said = [line for line in (out.out + out.err).splitlines() if "rules file refused" in line]
        assert len(said) == 2
        assert "rules.yaml:3:11: suppression.complaint.days" in said[0]

    def test_lets_a_process_start_with_the_last_accepted_rules(self, connection: Connection, file: Path) -> None:
        write(file, GOOD % 5)
        reloader = RulesReloader(file)
        reloader.rules(connection)
        reloader.record(connection)
        write(file, WRONG)
        other = RulesReloader(file)
        assert days(other.rules(connection)) == 5
        assert other.errors
        other.record(connection)
        accepted = store.get_accepted(connection)
        assert accepted
        assert accepted.text == GOOD % 5

    def test_lets_no_process_start_where_none_was_accepted(self, connection: Connection, file: Path) -> None:
        write(file, WRONG)
        with pytest.raises(RulesError, match=r"3:11: suppression.complaint.days"):
            RulesReloader(file).rules(connection)

    def test_lets_no_process_start_if_the_accepted_rules_are_no_longer_readable(
        self, connection: Connection, file: Path
    ) -> None:
        store.store_accepted(connection, str(file), "alerts: what a later version took\n")
        write(file, WRONG)
        with pytest.raises(RulesError, match=r"3:11: suppression.complaint.days"):
            RulesReloader(file).rules(connection)


class TestWhatIsRecorded:
    def test_changes_only_with_the_file(self, database: Engine, file: Path) -> None:
        write(file, GOOD % 5)
        reloader = RulesReloader(file, interval_seconds=0)
        written = []
        for text in (GOOD % 5, GOOD % 5, GOOD % 6):
            write(file, text)
            with database.begin() as connection:
                reloader.rules(connection)
                reloader.record(connection)
                found = store.get_accepted(connection)
                assert found
                written.append((found.path, found.text, found.accepted_at))
        assert written[0] == written[1]
        assert written[2][:2] == (str(file), GOOD % 6)
        assert written[2][2] > written[1][2]

    def test_is_gone_when_no_file_is_named_any_more(self, connection: Connection, file: Path) -> None:
        store.store_accepted(connection, str(file), GOOD % 5)
        reloader = RulesReloader(None)
        reloader.rules(connection)
        reloader.record(connection)
        assert store.get_accepted(connection) is None


class TestRulesOfTheApi:
    def test_hold_besides_those_of_the_file(self, connection: Connection, file: Path) -> None:
        write(file, "alerts:\n  - {name: of-file, kind: silence}\n")
        reloader = RulesReloader(file, interval_seconds=0)
        put(connection, "of-api")
        assert [found.name for found in reloader.rules(connection).alerts] == ["of-file", "of-api"]
        alerts.delete_rule(connection, "of-api")
        assert [found.name for found in reloader.rules(connection).alerts] == ["of-file"]

    def test_change_when_they_are_changed(self, connection: Connection) -> None:
        reloader = RulesReloader(None, interval_seconds=0)
        put(connection, "of-api")
        assert reloader.rules(connection).alerts[-1].warning == 60
        put(connection, "of-api", warning=70)
        assert reloader.rules(connection).alerts[-1].warning == 70

    def test_give_way_to_one_of_the_file_of_their_name(self, connection: Connection) -> None:
        reloader = RulesReloader(None, interval_seconds=0)
        put(connection, "silence")
        assert reloader.rules(connection) == document.load_default()
        assert store.overview(connection).of_api[0].name in store.overview(connection).names

    def test_that_this_version_cannot_read_are_passed_over(self, connection: Connection) -> None:
        put(connection, "later", unheard_of=5)
        put(connection, "good")
        assert [found.name for found in RulesReloader(None).rules(connection).alerts][-1] == "good"


class TestWhetherAProcessMayStart:
    def test_it_may_without_a_file_or_with_a_right_one_whatever_the_database_does(self, file: Path) -> None:
        nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
        require_rules(None, nowhere)
        write(file, GOOD % 5)
        require_rules(file, nowhere)

    def test_it_may_not_with_a_wrong_one_unless_another_was_accepted(
        self, database_url: str, database: Engine, file: Path
    ) -> None:
        write(file, WRONG)
        with pytest.raises(RulesError):
            require_rules(file, database_url)
        with database.begin() as connection:
            store.store_accepted(connection, str(file), GOOD % 5)
        require_rules(file, database_url)
