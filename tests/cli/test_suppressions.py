"""`tidings suppressions` and `tidings jobs`: output that a newcomer understands, exit codes for scripts."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from cli.commands import jobs as job_commands
from cli.main import main
from shared.jobs import store as jobs
from shared.postgres import pagination
from tests.support.command_line import Commands
from tests.support.system import mailchannels_event

TOMORROW = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"


def run(commands: Commands, *words: str, **more: Any) -> str:
    return commands.run("suppressions", *words, **more)


def add(commands: Commands, *words: str) -> str:
    return run(commands, "add", *words)


def test_an_address_is_added_looked_up_explained_and_lifted(commands: Commands) -> None:
    assert "No matching suppressions" in run(commands, "list")
    assert "ann@example.net is suppressed." in add(commands, "Ann <ANN@Example.net>", "--note", "asked [us] to")
    assert "is already suppressed" in add(commands, "ann@example.net", "--note", "asked [us] to")
    listed = run(commands, "list")
    assert all(word in listed for word in ("ann@example.net", "manual", "for good", "asked [us] to"))
    output = run(commands, "why", "ann@example.net")
    assert "ann@example.net is suppressed" in output
    assert "added" in output
    assert "Lifted" in run(commands, "lift", "ann@example.net", "--note", "was a mistake")
    output = run(commands, "why", "ann@example.net")
    assert "is not suppressed" in output
    assert "was a mistake" in output
    assert "a person lifted it" in output


def test_a_lift_of_what_nothing_suppresses_says_so_and_is_remembered(commands: Commands) -> None:
    assert "remembered" in run(commands, "lift", "ann@example.net", code=1)
    assert "no longer counts" in run(commands, "why", "ann@example.net")


def test_a_lift_says_what_suppresses_it_still(commands: Commands) -> None:
    add(commands, "@example.net")
    add(commands, "ann@example.net", "--reason", "complaint")
    output = run(commands, "lift", "ann@example.net", "--reason", "complaint")
    assert "still suppressed" in output
    assert "@example.net" in output


def test_a_check_exits_with_one_if_any_is_suppressed(commands: Commands) -> None:
    add(commands, "ann@example.net", "--until", TOMORROW, "--type", "non_transactional")
    output = run(commands, "check", "ann@example.net", "bob@example.net", code=1)
    assert re.search(rf"✗ ann@example.net is suppressed: manual, until {TOMORROW} 00:00", output)
    assert "✓ bob@example.net is not suppressed" in output
    assert "✓" in run(commands, "check", "bob@example.net")
    assert "✓" in run(commands, "check", "ann@example.net", "--type", "transactional")
    assert "✗" in run(commands, "check", says="bob@example.net\n\nANN@example.net\n", code=1)
    found = json.loads(run(commands, "check", "--json", "ann@example.net", code=1))
    assert (found[0]["suppressed"], found[0]["entry"]["reason"]) == (True, "manual")


def test_the_list_is_cut_by_what_it_says(commands: Commands) -> None:
    add(commands, "a@x.net", "--tenant", "acme")
    add(commands, "b@x.org", "--reason", "complaint")
    assert [entry["address"] for entry in json.loads(run(commands, "list", "--json"))] == ["b@x.org", "a@x.net"]
    assert "b@x.org" not in run(commands, "list", "--domain", "@x.net")
    assert "a@x.net" not in run(commands, "list", "--tenant", "")
    assert "a@x.net" not in run(commands, "list", "--reason", "complaint")
    assert "No matching suppressions" in run(commands, "list", "--ended")
    assert "newest 1" in run(commands, "list", "--limit", "1")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("add", "ann"), "has no @"),
        (("add", "ann@example.net", "--until", "2020-01-01"), "in the future"),
        (("add", "ann@example.net", "--type", "letters"), "transactional"),
        (("add", "ann@example.net", "--note", "x" * 1001), "1000 characters"),
        (("erase", "@example.net", "--yes"), "Only an address"),
        (("list", "--domain", "x y"), "no valid domain"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    commands: Commands, words: tuple[str, ...], sentence: str
) -> None:
    output = run(commands, *words, code=2)
    assert sentence in output
    assert "Traceback" not in output


def test_a_list_goes_on_until_it_has_what_fits(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """The few that fit are the oldest of more than the database reads at once."""
    for number in range(2):
        add(commands, f"ann{number}@example.com")
    lines = "".join(f"u{number}@example.net\n" for number in range(9))
    run(commands, "import", "-", says=f"email\n{lines}")
    monkeypatch.setattr(pagination, "MAX_ROWS_READ", 3)
    words = ("list", "--domain", "example.com", "--json")
    found = [entry["address"] for entry in json.loads(run(commands, *words))]
    assert found == ["ann1@example.com", "ann0@example.com"]
    (last,) = json.loads(run(commands, *words, "--limit", "1"))
    assert last["address"] == "ann1@example.com"
    assert len(json.loads(run(commands, "list", "--json"))) == 11


def test_a_file_that_cannot_be_written_is_said_so_before_the_work(commands: Commands, tmp_path: Path) -> None:
    assert "Cannot write to" in run(commands, "export", "-o", str(tmp_path / "none" / "x.csv"), code=2)
    assert json.loads(commands.run("jobs", "list", "--json")) == []
    output = run(commands, "export", "-o", "/dev/full", code=2)
    (job,) = json.loads(commands.run("jobs", "list", "--json"))
    assert f"tidings jobs file {job['id']}" in output


def test_a_list_that_is_imported_again_makes_nothing_weaker_unless_it_is_to_replace(commands: Commands) -> None:
    narrow = f"email,expires_at\nann@example.net,{TOMORROW}\n"
    run(commands, "import", "-", says="email\nann@example.net\n")
    run(commands, "import", "-", says=narrow)
    assert "for good" in run(commands, "check", "ann@example.net", code=1)
    assert re.search(r"changed\s+1", run(commands, "import", "-", "--replace", says=narrow))
    assert f"until {TOMORROW}" in run(commands, "check", "ann@example.net", code=1)


def test_a_file_is_imported_and_exported_without_a_worker(commands: Commands, tmp_path: Path) -> None:
    file, copy = tmp_path / "list.csv", tmp_path / "copy.csv"
    file.write_text("email,tenant,created\nann@example.net,acme,x\nbob@example.net,,\n")
    output = run(commands, "import", str(file), "--reason", "unsubscribe")
    assert "done" in output
    assert re.search(r"added\s+2", output)
    assert re.search(r"ignored columns\s+created", output)
    words = ("suppressions", "export", "--tenant", "")
    exported = CliRunner().invoke(main, words, env=commands.settings).stdout
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert [(row["address"], row["reason"]) for row in rows] == [("bob@example.net", "unsubscribe")]
    assert "done" in run(commands, "export", "-o", str(copy))
    assert len(copy.read_text().splitlines()) == 3


def test_a_file_with_bad_lines_is_not_imported_and_they_are_shown(commands: Commands, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    output = run(commands, "import", "-", says="email\nann@example.net\n[bob]\n", code=1)
    assert "1 of 2 lines cannot be used, so nothing was imported" in output
    assert re.search(r"3\s+│ '\[bob\]' has no @", output)
    assert "No matching suppressions" in run(commands, "list")
    (job,) = json.loads(commands.run("jobs", "list", "--json"))
    commands.run("jobs", "file", job["id"], "-o", str(bad))
    assert "[bob]" in bad.read_text()
    assert "✓" in run(commands, "check", "ann@example.net")
    assert "done" in run(commands, "import", "-", "--skip-bad-lines", says="email\nann@example.net\n[bob]\n")
    assert "✗" in run(commands, "check", "ann@example.net", code=1)


def test_a_file_without_a_header_is_refused(commands: Commands) -> None:
    assert "must name the columns" in run(commands, "import", "-", says="ann@example.net\n", code=2)


def test_an_address_is_erased_after_asking_and_stays_suppressed(commands: Commands) -> None:
    system = commands.system
    system.create_source()
    system.process_events(mailchannels_event("delivered", "ann@example.net", "bob@example.net"))
    add(commands, "ann@example.net")
    assert "Aborted" in run(commands, "erase", "ann@example.net", says="n\n", code=1)
    assert "done" in run(commands, "erase", "ann@example.net", "--yes")
    assert "✗" in run(commands, "check", "ann@example.net", code=1)
    assert "(erased)" in run(commands, "list")
    assert system.execute("SELECT body, content FROM receipts") == [(None, None)]
    said = commands.run("reprocess", "--source", "main", "--state", "all", "--yes")
    assert "0 of 1 receipts are queued" in said
    assert "1 cannot be processed again: an erasure has deleted their bodies." in said
    assert "deleted by an erasure" in commands.run("reprocess", "--source", "main", "--state", "all", "--dry-run")
    assert "erased" in run(commands, "why", "ann@example.net")
    assert "done" in run(commands, "erase", '"ann lee"@example.net', "--yes"), "as it is kept, however odd"


def test_work_can_be_left_to_the_workers_and_watched_and_cancelled(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = run(commands, "import", "-", "--no-wait", says="email\nann@example.net\n")
    (job_id,) = re.findall(r"jobs wait ([0-9a-f-]{36})", output)
    assert "queued" in commands.run("jobs", "show", job_id)
    assert json.loads(commands.run("jobs", "show", job_id, "--json"))["kind"] == "import_suppressions"
    monkeypatch.setattr(job_commands, "QUEUED_NOTICE_SECONDS", 0.0)
    looks = iter(range(3))
    original = jobs.find

    def find(*values: Any) -> Any:
        if next(looks, None) is None:
            commands.system.execute("UPDATE jobs SET state = 'cancelled'")
        return original(*values)

    monkeypatch.setattr(jobs, "find", find)
    assert "No worker has started this job yet" in commands.run("jobs", "wait", job_id, code=1)
    monkeypatch.undo()
    commands.system.execute("UPDATE jobs SET state = 'queued'")
    assert "cancelled" in commands.run("jobs", "cancel", job_id)
    assert "cancelled" in commands.run("jobs", "cancel", job_id)
    assert len(commands.system.get("/v1/audit", action="job.cancelled")["items"]) == 1
    assert "cancelled" in commands.run("jobs", "list", "--state", "cancelled")
    assert "No jobs match" in commands.run("jobs", "list", "--kind", "erase")
    assert "has no output file" in commands.run("jobs", "file", job_id, code=2)


@pytest.mark.parametrize("command", ["show", "cancel", "wait", "file"])
def test_an_unknown_job_is_said_so(commands: Commands, command: str) -> None:
    assert "There is no job" in commands.run("jobs", command, str(uuid4()), code=2)
