"""`tidings reconcile` gets what is missing; `tidings sources enrol` and its like say where the provider posts to."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from cli.embedded.server import eventually
from cli.supervisor.procfile import ROOT
from shared.encryption import new_key
from simulator import post
from simulator.providers.api import faults
from simulator.providers.api.faults import Fault
from simulator.providers.mailchannels.api import MailChannelsAccount
from tests.api.house import House, opened
from tests.management import scene as scenes
from tests.management.scene import Scene
from tests.ops.commands import Commands
from tests.ops.running import environment

PATIENCE_SECONDS = 60.0


@dataclass
class Stage:
    """The command line, and what it works on."""

    scene: Scene
    commands: Commands

    @property
    def house(self) -> House:
        return self.commands.house

    def run(self, *words: str, says: str | None = None, code: int = 0) -> str:
        return self.commands.run(*words, says=says, code=code)

    @property
    def mailchannels(self) -> MailChannelsAccount:
        return self.scene.server.account("mc", MailChannelsAccount)


@pytest.fixture
def stage(database_url: str) -> Iterator[Stage]:
    key = new_key()
    settings = {"TIDINGS_DATABASE_URL": database_url, "TIDINGS_SECRET_KEYS": key, "TIDINGS_BROKER_URL": ""}
    with opened(database_url, key) as house, scenes.opened(database_url, key=key) as scene:
        yield Stage(scene, Commands(house, settings))


class TestReconcile:
    def test_gets_everything_and_tells_what_and_whence(self, stage: Stage) -> None:
        play = stage.scene.play("mc")
        failed = stage.scene.suffer("mc", play)
        with stage.scene.working():
            output = stage.run("reconcile")
        row = next(line for line in output.splitlines() if "mc" in line)
        new_events = sum(failure.new_events or 0 for failure in stage.scene.failures("mc"))
        assert [cell.strip() for cell in row.strip("│ ").split("│")][:7] == [
            "mc", str(failed), str(failed), str(failed), str(new_events), "0", "0",
        ]  # fmt: skip
        assert new_events
        stage.scene.everything_arrived_once(play)

    def test_the_api_shows_what_came_that_way(self, stage: Stage) -> None:
        stage.scene.suffer("mc", stage.scene.play("mc"))
        with stage.scene.working():
            stage.run("reconcile", "--source", "mc")
        receipts = stage.house.items("/v1/receipts", source="mc")
        marked = {receipt["id"] for receipt in receipts if receipt["reconciled"]}
        assert marked == {str(id_) for id_ in stage.scene.marked()}
        assert len(marked) < len(receipts)
        assert stage.house.get(f"/v1/receipts/{min(marked)}")["reconciled"] is True
        events = stage.house.items("/v1/events", source="mc")
        assert {event["receipt_id"] for event in events if event["reconciled"]} == marked
        late = next(event for event in events if event["reconciled"] and event["message_id"])
        timeline = stage.house.items(f"/v1/messages/{late['message_id']}/events")
        assert late["id"] in {event["id"] for event in timeline if event["reconciled"]}
        traced = json.loads(stage.run("trace", "--message-id", late["message_id"], "--json"))
        assert any(event["reconciled"] for event in traced["messages"][0]["events"])

    def test_a_dry_run_asks_and_changes_nothing(self, stage: Stage) -> None:
        failed = stage.scene.suffer("mc", stage.scene.play("mc"))
        output = stage.run("reconcile", "--source", "mc", "--dry-run")
        assert f"mc: {failed} deliveries" in output
        assert "no_response" in output
        assert "5xx" in output
        assert stage.scene.failures("mc") == []
        assert len(stage.mailchannels.log.failed()) == failed

    def test_what_cannot_be_recovered_is_told_with_the_reason_and_exit_code_1(self, stage: Stage) -> None:
        stage.scene.suffer("mc", stage.scene.play("mc"))
        stage.mailchannels.faults.add(Fault(status=404), to="/resend")
        with stage.scene.working():
            output = stage.run("reconcile", "--source", "mc", code=1)
        assert "the provider has it no more" in output

        stage.scene.let_time_pass()
        with stage.scene.working():
            assert "no more" not in stage.run("reconcile", "--source", "mc", "--given-up")
        assert stage.scene.states("mc") == {"recovered"}

    def test_a_receiver_that_is_down_is_told_with_exit_code_1(self, stage: Stage) -> None:
        failed = stage.scene.suffer("mc", stage.scene.play("mc"))
        stage.scene.gate.shut(503)
        output = stage.run("reconcile", "--source", "mc", code=1)
        assert "stopped after 3 in a row" in output
        assert f"│ {failed} " in output

    def test_a_provider_that_fails_is_told_with_exit_code_1(self, stage: Stage) -> None:
        stage.mailchannels.faults.add(Fault(status=403), calls=10)
        assert "does not take the `api_key`" in stage.run("reconcile", "--source", "mc", code=1)
        assert "does not take the `api_key`" in stage.run("reconcile", "--source", "mc", "--dry-run", code=1)

    def test_the_time_can_be_said(self, stage: Stage) -> None:
        failed = stage.scene.suffer("mc", stage.scene.play("mc"))
        stage.run("reconcile", "--source", "mc", "--since", "2020-01-01", "--until", "2020-02-05")
        assert stage.scene.failures("mc") == []
        with stage.scene.working():
            stage.run("reconcile", "--source", "mc", "--since", "2026-01-01")
        assert len(stage.scene.failures("mc")) == failed

    def test_a_source_without_an_api_is_explained_if_it_is_named_and_passed_over_if_not(self, stage: Stage) -> None:
        given = json.dumps({"username": "ann", "password": "hunter2-hunter2"})
        stage.run("sources", "add", "cloud", "--provider", "cloudmailin", "--credentials", given)
        assert "CloudMailin has no API" in stage.run("reconcile", "--source", "cloud", code=2)
        assert "cloud" not in stage.run("reconcile")
        assert "no source called 'x'" in stage.run("reconcile", "--source", "x", code=2)

    def test_without_any_source_that_can_be_asked_it_says_so(self, stage: Stage) -> None:
        stage.house.execute("UPDATE sources SET deleted_at = now()")
        assert "no source whose provider has an API" in stage.run("reconcile")

    def test_killed_between_two_resends_it_is_gone_on_with(self, stage: Stage) -> None:
        play = stage.scene.play("mc")
        failed = stage.scene.suffer("mc", play)
        half_done(stage, signal.SIGKILL)
        assert "listed" in stage.scene.states("mc")

        stage.scene.let_time_pass()
        with stage.scene.working():
            stage.run("reconcile", "--source", "mc")

        stage.scene.everything_arrived_once(play)
        assert stage.scene.states("mc") == {"recovered"}
        assert len(stage.scene.marked()) == failed

    def test_interrupted_by_a_person_it_leaves_the_source_to_the_next_at_once(self, stage: Stage) -> None:
        play = stage.scene.play("mc")
        stage.scene.suffer("mc", play)
        half_done(stage, signal.SIGINT)
        assert stage.house.execute("SELECT lease_token FROM reconciliations WHERE lease_token IS NOT NULL") == []
        with stage.scene.working():
            stage.run("reconcile", "--source", "mc")
        stage.scene.everything_arrived_once(play)


def half_done(stage: Stage, end: signal.Signals) -> None:
    """The command runs, and is ended in the middle of it."""
    stage.mailchannels.faults.add(faults.slow(0.2), calls=1000, to="/resend")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "reconcile", "--source", "mc"],
        cwd=ROOT,
        env=environment(**stage.commands.settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: resent(stage) >= 2, timeout_seconds=PATIENCE_SECONDS)
        process.send_signal(end)
        process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    stage.mailchannels.faults.clear()


def resent(stage: Stage) -> int:
    """How many batches that failed were taken the second time."""
    return len(stage.scene.failures("mc")) - len(stage.mailchannels.log.failed())


class TestEnrolment:
    URL = "https://hooks.example/webhooks/mc"

    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_the_url_is_given_once_and_kept(self, stage: Stage, slug: str) -> None:
        url = f"https://hooks.example/webhooks/{slug}"
        assert "--url" in stage.run("sources", "enrol", slug, code=2)
        assert "is enrolled" in stage.run("sources", "enrol", slug, "--url", url)
        assert "already" in stage.run("sources", "enrol", slug)
        assert json.loads(stage.run("sources", "show", slug))["settings"]["webhook_url"] == url
        assert url in stage.run("sources", "webhooks", slug)
        stage.run("sources", "unenrol", slug, "--yes")
        audited = stage.scene.workshop.rows("SELECT action, details FROM audit_log ORDER BY id")
        assert audited == [
            ("source.changed", {"settings": {"webhook_url": url}}),
            ("source.enrolled", {"url": url, "new": True}),
            ("source.enrolled", {"url": url, "new": False}),
            ("source.unenrolled", {"urls": [url]}),
        ]

    def test_the_list_tells_ours_from_others(self, stage: Stage) -> None:
        stage.mailchannels.enrol("https://other.example/hook")
        lines = stage.run("sources", "webhooks", "mc").splitlines()
        (own,) = [line for line in lines if stage.scene.url("mc") in line]
        (other,) = [line for line in lines if "other.example" in line]
        assert own.count("yes") == 2
        assert other.count("yes") == 1
        assert stage.scene.standing("mc").enrolled is True

    def test_that_nothing_leads_here_is_told_with_exit_code_1(self, stage: Stage) -> None:
        stage.run("sources", "unenrol", "mc", "--yes")
        assert "tidings sources enrol mc" in stage.run("sources", "webhooks", "mc", code=1)
        assert stage.scene.standing("mc").enrolled is False
        assert "does not post to mc" in stage.run("sources", "validate", "mc", code=2)
        assert "does not post to mc" in stage.run("sources", "unenrol", "mc", "--yes", code=2)

    def test_removing_one_of_mailchannels_asks_and_keeps_the_others(self, stage: Stage) -> None:
        stage.mailchannels.enrol("https://other.example/hook")
        asked = stage.run("sources", "unenrol", "mc", says="n\n", code=1)
        assert "removes all webhooks at once" in asked
        assert "https://other.example/hook" in asked
        assert len(stage.mailchannels.webhooks) == 2
        stage.run("sources", "unenrol", "mc", says="y\n")
        assert stage.mailchannels.webhooks == ("https://other.example/hook",)

    def test_another_than_ours_can_be_removed_by_its_url(self, stage: Stage) -> None:
        stage.mailchannels.enrol("https://old.example/hook")
        stage.run("sources", "unenrol", "mc", "--url", "https://old.example/hook", "--yes")
        assert stage.mailchannels.webhooks == (stage.scene.url("mc"),)

    def test_a_validation_tells_what_the_receiver_answered(self, stage: Stage) -> None:
        assert "answered 200" in stage.run("sources", "validate", "mc")
        assert stage.scene.standing("mc").validated is True
        stage.scene.gate.shut(401)
        assert "answered 401" in stage.run("sources", "validate", "mc", code=1)
        assert stage.scene.standing("mc").validated is False

    def test_a_test_that_looks_like_a_real_event_is_asked_about_first(self, stage: Stage) -> None:
        assert "looks like a real event" in stage.run("sources", "validate", "ark", says="n\n", code=1)
        assert stage.scene.receipts() == set()
        assert "answered 200" in stage.run("sources", "validate", "ark", "--yes")
        assert len(stage.scene.receipts()) == 1

    def test_a_provider_without_such_an_api_is_explained(self, stage: Stage) -> None:
        given = json.dumps({"username": "ann", "password": "hunter2-hunter2"})
        stage.run("sources", "add", "cloud", "--provider", "cloudmailin", "--credentials", given)
        for words in (("webhooks", "cloud"), ("validate", "cloud"), ("enrol", "cloud", "--url", self.URL)):
            assert "CloudMailin has no API" in stage.run("sources", *words, code=2)

    def test_a_source_without_a_key_is_told_how_to_get_one(self, stage: Stage) -> None:
        stage.run("sources", "rotate", "mc", "--drop", "api_key")
        assert "has no `api_key`" in stage.run("sources", "webhooks", "mc", code=2)


def test_what_failed_before_the_source_was_enrolled_here_is_not_asked_for(stage: Stage) -> None:
    account, play = stage.mailchannels, stage.scene.play("mc")
    account.enrol(f"{stage.scene.gate.url}/elsewhere")
    stage.scene.gate.shut(503)
    post.send(play.postings[:2], account.dialect, f"{stage.scene.gate.url}/elsewhere", log=account.log)
    stage.run("reconcile", "--source", "mc")
    assert stage.scene.failures("mc") == []
