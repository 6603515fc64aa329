"""`tidings status` and `GET /v1/status`: what needs a person comes first, and everything else is shown."""

import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import Engine

from cli.context import complete_command
from cli.main import main
from shared.counters import metric_store
from shared.counters.metric_store import Metric
from shared.operations import stats, status
from tests.support.alerts import fire
from tests.support.command_line import Commands, check_advice
from tests.support.system import System, mailchannels_event


@pytest.fixture
def working(commands: Commands) -> Commands:
    """An installation all of whose processes have just worked."""
    report_all_roles(commands.system.engine)
    return commands


def report_all_roles(engine: Engine) -> None:
    """Store what the processes of an installation report while they work, for as long as a test may take."""
    with engine.begin() as connection:
        metric_store.add(connection, {(Metric.ACTIVITY, 0, "receiver"): 1.0, (Metric.ACTIVITY, 0, "api"): 1.0})
        later = "now() + interval '10 min'"
        connection.exec_driver_sql(f"UPDATE metric_totals SET updated_at = {later}")
        connection.exec_driver_sql(
            "INSERT INTO periodic_tasks (task, ran_at, wake_up_at)"
            f" VALUES ('tidings.sweep', {later}, {later}), ('tidings.deliver', {later}, {later})"
        )


def read(commands: Commands, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(commands.run("status", "--json", code=code))
    for problem in found["problems"]:
        check_advice(problem["mend"])
    return found


def problems(commands: Commands) -> list[str]:
    return [problem["about"] for problem in read(commands, code=1)["problems"]]


def test_nothing_needs_a_person_in_an_installation_that_works(working: Commands) -> None:
    assert "all is well" in working.run("status")
    assert read(working)["state"] == "ok"


def test_roles_that_never_worked_or_stopped_are_absent(working: Commands) -> None:
    working.system.execute("UPDATE periodic_tasks SET wake_up_at = now() - interval '2 min'")
    working.system.execute("DELETE FROM metric_totals WHERE label = 'api'")
    assert problems(working) == ["role beat", "role api"]
    assert "tidings run beat" in working.run("status", code=1)


def test_beat_is_not_called_absent_while_no_worker_runs_what_it_starts(working: Commands) -> None:
    working.system.execute("UPDATE periodic_tasks SET ran_at = now() - interval '2 min'")
    working.system.execute("UPDATE periodic_tasks SET wake_up_at = now() - interval '2 min'")
    assert problems(working) == ["role worker", "role deliverer"]


def test_critical_alerts_come_first_and_warnings_last(working: Commands) -> None:
    with working.system.engine.begin() as connection:
        fire(connection, rule="small", severity="warning")
        alert_id = fire(connection, rule="large", subject="other", severity="critical")
    working.system.execute("UPDATE periodic_tasks SET problem = 'it refuses messages'")
    assert problems(working) == ["critical alert large", "broker", "warning alert small"]
    assert f"tidings alerts show {alert_id}" in working.run("status", code=1)


def test_what_waits_too_long_needs_a_person(working: Commands) -> None:
    system = working.system
    system.create_source()
    system.queue_body(b"[]", at=datetime.now(UTC) - timedelta(minutes=5))
    system.insert_subscription()
    system.log_change(changed_at=datetime.now(UTC) - timedelta(minutes=5))
    assert problems(working) == ["receipts pending", "changes to fan out"]
    system.fan_out()
    system.execute("UPDATE pending_deliveries SET available_at = now() - interval '5 min'")
    assert problems(working) == ["receipts pending", "deliveries pending"]


def test_what_became_dead_in_the_last_day_needs_a_person(working: Commands) -> None:
    system = working.system
    system.create_source()
    dead, old = (system.queue_body(b"not JSON", at=datetime.now(UTC)) for _ in range(2))
    system.execute("DELETE FROM pending_receipts")
    for receipt_id, parked_at in ((dead, "now()"), (old, "now() - interval '2 days'")):
        system.execute(
            "INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, bytes, available_at, parked_at)"
            f" SELECT id, source_id, 'dead', 'unreadable', '', 1, now(), {parked_at} FROM receipts WHERE id = %(id)s",
            id=receipt_id,
        )
    found = read(working, code=1)
    assert [problem["found"] for problem in found["problems"]] == ["1 receipts became dead in the last day"]
    stage = next(stage for stage in found["stages"] if stage["stage"] == "receipts_dead")
    assert (stage["count"], stage["recent"]) == (2, 1)
    assert stage["oldest_age_seconds"] > 100_000


def test_what_waits_or_ended_at_any_stage_is_mended_by_a_command_that_runs(working: Commands) -> None:
    stages = [{"stage": name, "oldest_age_seconds": 3600.0, "recent": 1} for name in status.STAGES]
    mends = [problem.mend for problem in status.find_stage_problems(stages)]
    assert len(mends) == 6
    for mend in mends:
        check_advice(mend)
        _, *words = shlex.split(mend[mend.index("tidings ") :])
        if words[0] not in ("run", "doctor"):
            working.run(*words)


def test_a_role_of_an_installation_of_tidings_up_is_not_started_again_but_its_logs_are_shown() -> None:
    with click.Context(main) as context, pytest.MonkeyPatch.context() as environment:
        environment.delenv("TIDINGS_DATABASE_URL", raising=False)
        context.params["data"] = Path("/srv/its data")
        for text in ("tidings run worker", "start more workers: tidings run worker"):
            assert complete_command(text) == "tail '/srv/its data'/logs/worker*.log"


def test_a_source_shows_its_last_event_and_refusal(working: Commands) -> None:
    system = working.system
    source_id = system.create_source()
    with system.engine.begin() as connection:
        metric_store.add(connection, {(Metric.EVENTS, source_id, "opened"): 1.0})
    system.execute(
        "INSERT INTO refusals (id, source, refused_at, status_code, reason, detail, headers, bytes) VALUES"
        " (gen_random_uuid(), 'main', now() - interval '3 min', 401, 'bad_signature', '', '{}', 0)"
    )
    (source,) = read(working)["sources"]
    assert source["last_event_at"] is not None
    assert source["last_refusal_reason"] == "bad_signature"
    assert "last refusal 3 min ago (bad_signature)" in " ".join(working.run("status").split())


def test_a_source_that_cannot_be_used_needs_a_person(working: Commands) -> None:
    system = working.system
    system.create_source()
    system.execute("UPDATE sources SET credentials = '\\x00'")
    assert problems(working) == ["source main"]


def test_no_line_is_wider_than_eighty_columns_unless_it_is_a_command(working: Commands) -> None:
    system = working.system
    system.create_source("a-source-with-a-name-that-is-as-long-as-names-may-be-here")
    with system.engine.begin() as connection:
        fire(connection, summary="Much of the mail of one sender bounced. " * 5)
    system.execute("UPDATE sources SET credentials = '\\x00'")
    lines = working.run("status", code=1).splitlines()
    assert [line for line in lines if len(line) > 80 and "→" not in line] == []
    assert any("→" in line for line in lines)


def test_a_database_that_cannot_be_read_is_another_exit_code(working: Commands) -> None:
    working.settings["TIDINGS_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    assert "cannot be reached" in working.run("status", code=2)


def test_the_api_answers_what_the_command_prints(working: Commands) -> None:
    system: System = working.system
    system.create_source()
    system.process_events(mailchannels_event("delivered", "a@example.net"))
    printed, answered = read(working), system.get("/v1/status")
    for name in ("at", "roles", "database"):  # they change from one moment to the next
        assert printed.pop(name).__class__ is answered.pop(name).__class__
    for found in (printed, answered):
        for stage in found["stages"]:
            stage["oldest_age_seconds"] = stage["oldest_age_seconds"] is not None
    assert answered == printed


def test_the_api_names_every_role(working: Commands) -> None:
    assert [role["role"] for role in working.system.get("/v1/status")["roles"]] == list(stats.ROLES)
