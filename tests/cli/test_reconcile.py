"""`tidings reconcile` recovers missing webhooks; `tidings sources enrol` and the like register webhooks."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from cli.embedded.server import eventually
from cli.supervisor.environment import ROOT
from simulator import post
from simulator.providers.api import faults
from simulator.providers.api.faults import Fault
from simulator.providers.mailchannels.api import MailChannelsAccount
from tests.support.command_line import Commands
from tests.support.provider_env import ProviderEnv, open_provider_env
from tests.support.supervised_system import environment
from tests.support.system import System

PATIENCE_SECONDS = 60.0


@dataclass
class ReconcileEnv:
    """The command line, and what it works on."""

    provider: ProviderEnv
    commands: Commands

    @property
    def system(self) -> System:
        return self.commands.system

    def run(self, *words: str, says: str | None = None, code: int = 0) -> str:
        return self.commands.run(*words, says=says, code=code)

    @property
    def mailchannels(self) -> MailChannelsAccount:
        return self.provider.server.account("mc", MailChannelsAccount)


@pytest.fixture
def env(database_url: str) -> Iterator[ReconcileEnv]:
    with open_provider_env(database_url) as provider:
        yield ReconcileEnv(provider, Commands(provider.system, provider.system.environment))


class TestReconcile:
    def test_gets_everything_and_reports_it_by_source(self, env: ReconcileEnv) -> None:
        play = env.provider.make_play("mc")
        failed = env.provider.send_during_outage("mc", play)
        with env.provider.worker_running():
            output = env.run("reconcile")
            again = json.loads(env.run("reconcile", "--source", "mc", "--json").splitlines()[-1])
        new_events = sum(failure.new_events or 0 for failure in env.provider.failures("mc"))
        assert f"{failed} found, {failed} resent, {failed} recovered with {new_events} new events;" in output
        assert "0 still open, 0 given up" in output
        assert (again["source"], again["resent"], again["still_open"], again["error"]) == ("mc", 0, 0, None)
        assert new_events
        env.provider.assert_everything_arrived_once(play)

    def test_the_api_shows_what_came_that_way(self, env: ReconcileEnv) -> None:
        env.provider.send_during_outage("mc", env.provider.make_play("mc"))
        with env.provider.worker_running():
            env.run("reconcile", "--source", "mc")
        receipts = env.provider.system.list_items("/v1/receipts", source="mc")
        marked = {receipt["id"] for receipt in receipts if receipt["reconciled"]}
        assert marked == {str(id_) for id_ in env.provider.reconciled_receipt_ids()}
        assert len(marked) < len(receipts)
        assert env.provider.system.get(f"/v1/receipts/{min(marked)}")["reconciled"] is True
        events = env.provider.system.list_items("/v1/events", source="mc")
        assert {event["receipt_id"] for event in events if event["reconciled"]} == marked
        late = next(event for event in events if event["reconciled"] and event["message_id"])
        timeline = env.provider.system.list_items(f"/v1/messages/{late['message_id']}/events")
        assert late["id"] in {event["id"] for event in timeline if event["reconciled"]}
        traced = json.loads(env.run("trace", "--message-id", late["message_id"], "--json"))
        assert any(event["reconciled"] for event in traced["messages"][0]["events"])

    def test_a_dry_run_asks_and_changes_nothing(self, env: ReconcileEnv) -> None:
        failed = env.provider.send_during_outage("mc", env.provider.make_play("mc"))
        output = env.run("reconcile", "--source", "mc", "--dry-run")
        assert f"mc: {failed} failed deliveries" in output
        assert "no_response" in output
        assert "5xx" in output
        narrow = Commands(env.provider.system, {**env.commands.settings, "COLUMNS": "40"})
        shown = narrow.run("reconcile", "--source", "mc", "--dry-run")
        (found,) = map(json.loads, env.run("reconcile", "--source", "mc", "--dry-run", "--json").splitlines())
        assert len(found["missing"]) == failed
        for one in found["missing"][:20]:
            assert one["reference"] in shown
        assert env.provider.failures("mc") == []
        assert len(env.mailchannels.log.failed()) == failed

    def test_what_cannot_be_recovered_is_listed_with_the_reason_and_exit_code_1(self, env: ReconcileEnv) -> None:
        env.provider.send_during_outage("mc", env.provider.make_play("mc"))
        env.mailchannels.faults.add(Fault(status=404), to="/resend")
        with env.provider.worker_running():
            output = env.run("reconcile", "--source", "mc", code=1)
        assert "The provider no longer has it" in output

        env.provider.make_runs_due()
        with env.provider.worker_running():
            assert "no more" not in env.run("reconcile", "--source", "mc", "--given-up")
        assert env.provider.failure_states("mc") == {"recovered"}

    def test_a_receiver_that_is_down_is_reported_with_exit_code_1(self, env: ReconcileEnv) -> None:
        failed = env.provider.send_during_outage("mc", env.provider.make_play("mc"))
        env.provider.gate.shut(503)
        output = env.run("reconcile", "--source", "mc", code=1)
        assert "stopped after 3 in a row" in output
        assert f"{failed} still open" in output

    def test_a_provider_that_fails_is_reported_with_exit_code_1(self, env: ReconcileEnv) -> None:
        env.mailchannels.faults.add(Fault(status=403), calls=10)
        assert "rejected the `api_key`" in env.run("reconcile", "--source", "mc", code=1)
        assert "rejected the `api_key`" in env.run("reconcile", "--source", "mc", "--dry-run", code=1)

    def test_the_time_can_be_said(self, env: ReconcileEnv) -> None:
        failed = env.provider.send_during_outage("mc", env.provider.make_play("mc"))
        env.run("reconcile", "--source", "mc", "--since", "2020-01-01", "--until", "2020-02-05")
        assert env.provider.failures("mc") == []
        with env.provider.worker_running():
            env.run("reconcile", "--source", "mc", "--since", "2026-01-01")
        assert len(env.provider.failures("mc")) == failed

    def test_a_source_without_an_api_is_explained_if_it_is_named_and_passed_over_if_not(
        self, env: ReconcileEnv
    ) -> None:
        given = json.dumps({"username": "ann", "password": "hunter2-hunter2"})
        env.run("sources", "add", "cloud", "--provider", "cloudmailin", "--credentials", given)
        assert "CloudMailin has no API" in env.run("reconcile", "--source", "cloud", code=2)
        assert "cloud" not in env.run("reconcile")
        assert "no source called 'x'" in env.run("reconcile", "--source", "x", code=2)

    def test_without_any_source_that_can_be_asked_it_says_so(self, env: ReconcileEnv) -> None:
        env.provider.system.execute("UPDATE sources SET deleted_at = now()")
        assert "No source has an `api_key`" in env.run("reconcile")

    def test_killed_between_two_resends_it_is_gone_on_with(self, env: ReconcileEnv) -> None:
        play = env.provider.make_play("mc")
        failed = env.provider.send_during_outage("mc", play)
        half_done(env, signal.SIGKILL)
        assert "listed" in env.provider.failure_states("mc")

        env.provider.make_runs_due()
        with env.provider.worker_running():
            env.run("reconcile", "--source", "mc")

        env.provider.assert_everything_arrived_once(play)
        assert env.provider.failure_states("mc") == {"recovered"}
        assert len(env.provider.reconciled_receipt_ids()) == failed

    def test_interrupted_by_a_person_it_leaves_the_source_to_the_next_at_once(self, env: ReconcileEnv) -> None:
        play = env.provider.make_play("mc")
        env.provider.send_during_outage("mc", play)
        half_done(env, signal.SIGINT)
        assert (
            env.provider.system.execute("SELECT lease_token FROM reconciliations WHERE lease_token IS NOT NULL") == []
        )
        with env.provider.worker_running():
            env.run("reconcile", "--source", "mc")
        env.provider.assert_everything_arrived_once(play)


def half_done(env: ReconcileEnv, end: signal.Signals) -> None:
    """The command runs, and is ended in the middle of it."""
    env.mailchannels.faults.add(faults.slow(0.2), calls=1000, to="/resend")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "reconcile", "--source", "mc"],
        cwd=ROOT,
        env=environment(**env.commands.settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: resent(env) >= 2, timeout_seconds=PATIENCE_SECONDS)
        process.send_signal(end)
        process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    env.mailchannels.faults.clear()


def resent(env: ReconcileEnv) -> int:
    """How many batches that failed were taken the second time."""
    return len(env.provider.failures("mc")) - len(env.mailchannels.log.failed())


class TestEnrolment:
    URL = "https://hooks.example/webhooks/mc"

    @pytest.mark.parametrize("slug", ["mc", "ark"])
    def test_the_url_is_given_once_and_kept(self, env: ReconcileEnv, slug: str) -> None:
        url = f"https://hooks.example/webhooks/{slug}"
        assert "--url" in env.run("sources", "enrol", slug, code=2)
        assert "Registered" in env.run("sources", "enrol", slug, "--url", url)
        assert "already" in env.run("sources", "enrol", slug)
        assert json.loads(env.run("sources", "show", slug))["settings"]["webhook_url"] == url
        assert url in env.run("sources", "webhooks", slug)
        env.run("sources", "unenrol", slug, "--yes")
        audited = env.provider.system.rows("SELECT action, details FROM audit_log ORDER BY id")
        assert audited == [
            ("source.changed", {"settings": {"webhook_url": url}}),
            ("source.enrolled", {"url": url, "new": True}),
            ("source.enrolled", {"url": url, "new": False}),
            ("source.unenrolled", {"urls": [url]}),
        ]

    def test_the_list_distinguishes_our_webhooks_from_others(self, env: ReconcileEnv) -> None:
        env.mailchannels.enrol("https://other.example/hook")
        shown = env.run("sources", "webhooks", "mc")
        assert shown.count("enabled") == 2
        assert shown.count("ours") == 1
        found = {one["url"]: one["ours"] for one in json.loads(env.run("sources", "webhooks", "mc", "--json"))}
        assert found == {env.provider.url("mc"): True, "https://other.example/hook": False}
        assert env.provider.reconciliation("mc").enrolled is True

    def test_a_missing_webhook_is_reported_with_exit_code_1(self, env: ReconcileEnv) -> None:
        env.run("sources", "unenrol", "mc", "--yes")
        assert "tidings sources enrol mc" in env.run("sources", "webhooks", "mc", code=1)
        assert env.provider.reconciliation("mc").enrolled is False
        assert "does not post to mc" in env.run("sources", "validate", "mc", code=2)
        assert "does not post to mc" in env.run("sources", "unenrol", "mc", "--yes", code=2)

    def test_removing_one_of_mailchannels_asks_and_keeps_the_others(self, env: ReconcileEnv) -> None:
        env.mailchannels.enrol("https://other.example/hook")
        asked = env.run("sources", "unenrol", "mc", says="n\n", code=1)
        assert "removes all webhooks at once" in asked
        assert "https://other.example/hook" in asked
        assert len(env.mailchannels.webhooks) == 2
        env.run("sources", "unenrol", "mc", says="y\n")
        assert env.mailchannels.webhooks == ("https://other.example/hook",)

    def test_another_than_ours_can_be_removed_by_its_url(self, env: ReconcileEnv) -> None:
        env.mailchannels.enrol("https://old.example/hook")
        env.run("sources", "unenrol", "mc", "--url", "https://old.example/hook", "--yes")
        assert env.mailchannels.webhooks == (env.provider.url("mc"),)

    def test_a_validation_shows_the_response_of_the_receiver(self, env: ReconcileEnv) -> None:
        assert "answered 200" in env.run("sources", "validate", "mc")
        assert env.provider.reconciliation("mc").validated is True
        env.provider.gate.shut(401)
        assert "answered 401" in env.run("sources", "validate", "mc", code=1)
        assert env.provider.reconciliation("mc").validated is False

    def test_a_test_that_looks_like_a_real_event_is_asked_about_first(self, env: ReconcileEnv) -> None:
        assert "looks like a real event" in env.run("sources", "validate", "ark", says="n\n", code=1)
        assert env.provider.receipt_ids() == set()
        assert "answered 200" in env.run("sources", "validate", "ark", "--yes")
        assert len(env.provider.receipt_ids()) == 1

    def test_a_provider_without_such_an_api_is_explained(self, env: ReconcileEnv) -> None:
        given = json.dumps({"username": "ann", "password": "hunter2-hunter2"})
        env.run("sources", "add", "cloud", "--provider", "cloudmailin", "--credentials", given)
        for words in (("webhooks", "cloud"), ("validate", "cloud"), ("enrol", "cloud", "--url", self.URL)):
            assert "CloudMailin has no API" in env.run("sources", *words, code=2)

    def test_a_source_without_an_api_key_is_listed_with_how_to_get_one(self, env: ReconcileEnv) -> None:
        env.run("sources", "rotate", "mc", "--drop", "api_key")
        assert "has no `api_key`" in env.run("sources", "webhooks", "mc", code=2)


def test_what_failed_before_the_source_was_enrolled_here_is_not_asked_for(env: ReconcileEnv) -> None:
    account, play = env.mailchannels, env.provider.make_play("mc")
    account.enrol(f"{env.provider.gate.url}/elsewhere")
    env.provider.gate.shut(503)
    post.send(play.postings[:2], account.dialect, f"{env.provider.gate.url}/elsewhere", log=account.log)
    env.run("reconcile", "--source", "mc")
    assert env.provider.failures("mc") == []
