"""Jobs that call a provider's API report their progress, and end with a report."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.broker import CALL_PROVIDERS
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.suppression import provider_sync
from shared.vocabulary import JobState
from simulator.providers.api import faults
from simulator.providers.mailchannels.api import MailChannelsAccount
from tests.support.provider_env import ProviderEnv, open_provider_env
from workers.jobs import provider as provider_jobs
from workers.jobs import runner as working


@pytest.fixture
def env(database_url: str) -> Iterator[ProviderEnv]:
    with open_provider_env(database_url) as opened:
        yield opened


@pytest.fixture
def account(env: ProviderEnv) -> MailChannelsAccount:
    return env.server.account("mc", MailChannelsAccount)


def work_on(env: ProviderEnv) -> bool:
    """One slice; whether there is more to do."""
    env.system.notifier.tasks.clear()
    working.run_due(env.system.ctx, at_providers=True)
    return CALL_PROVIDERS in env.system.notifier.tasks


def done(env: ProviderEnv, kind: str, **parameters: Any) -> Job:
    engine = env.system.ctx.engine
    with engine.begin() as connection:
        given = {"source": "mc", **parameters}
        job_id = jobs.create(connection, kind=kind, parameters=given, asked_by="ann", now=datetime.now(UTC))
    with env.worker_running():
        while work_on(env):
            pass
    with engine.begin() as connection:
        job = jobs.find(connection, job_id)
    assert job is not None
    return job


class TestReconciling:
    def test_reports_what_was_recovered(self, env: ProviderEnv) -> None:
        play = env.make_play("mc")
        failed = env.send_during_outage("mc", play)
        job = done(env, reconciliation.JOB)
        assert job.state is JobState.DONE, job.error
        assert (job.done, job.total) == (failed, failed)
        new_events = sum(failure.new_events or 0 for failure in env.failures("mc"))
        assert job.report == {
            "found": failed,
            "resent": failed,
            "recovered": failed,
            "new_events": new_events,
            "still_open": 0,
            "given_up": [],
            "reasons": [],
        }
        env.assert_everything_arrived_once(play)

    def test_keeps_to_the_time_that_was_asked_for(self, env: ProviderEnv) -> None:
        env.send_during_outage("mc", env.make_play("mc"))
        long_ago = datetime.now(UTC) - timedelta(days=20)
        span = {"since": (long_ago - timedelta(days=1)).isoformat(), "until": long_ago.isoformat()}
        assert done(env, reconciliation.JOB, **span).report["found"] == 0

    def test_fails_with_the_providers_reason(self, env: ProviderEnv, account: MailChannelsAccount) -> None:
        account.faults.add(faults.failing(403), calls=10)
        job = done(env, reconciliation.JOB)
        assert job.state is JobState.FAILED
        assert "`api_key`" in (job.error or "")

    def test_takes_turns_with_other_work(self, env: ProviderEnv, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(provider_jobs, "RUN_SECONDS", 0.3)
        play = env.make_play("mc")
        failed = env.send_during_outage("mc", play)
        job = done(env, reconciliation.JOB)
        assert job.state is JobState.DONE, job.error
        assert job.report["recovered"] == failed
        env.assert_everything_arrived_once(play)

    def test_waits_while_another_run_reconciles_the_source(self, env: ProviderEnv) -> None:
        source, engine = env.sources["mc"], env.system.ctx.engine
        env.send_during_outage("mc", env.make_play("mc"))
        with engine.begin() as connection:
            reconciliations.ensure(connection, [source.id])
            assert reconciliations.claim(connection, source.id, token=uuid4(), lease_seconds=1.0)
        job = done(env, reconciliation.JOB)
        assert (job.waits_for, bool(job.report["recovered"])) == (None, True)

    def test_tries_each_once_also_if_it_takes_several_turns(
        self, env: ProviderEnv, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(provider_jobs, "RUN_SECONDS", 0.3)
        failed = env.send_during_outage("mc", env.make_play("mc"))
        mailchannels = env.server.account("mc", MailChannelsAccount)
        mailchannels.faults.add(faults.failing(409), calls=2, to="/resend")
        job = done(env, reconciliation.JOB)
        assert job.report["resent"] == failed
        assert job.report["still_open"] >= 2  # one that is on its way when the turn ends is open, too
        assert "409" in job.report["reasons"][0]

    @pytest.mark.parametrize("slug", ["nobody", "cloud"])
    def test_of_a_source_that_cannot_be_asked_fails_with_the_reason(self, env: ProviderEnv, slug: str) -> None:
        env.system.add_source("cloud", "cloudmailin", {"username": "ann", "password": "hunter2-hunter2"})
        job = done(env, reconciliation.JOB, source=slug)
        assert job.state is JobState.FAILED
        assert ("no source" if slug == "nobody" else "CloudMailin has no API") in (job.error or "")


class TestSuppressions:
    def test_are_pulled(self, env: ProviderEnv, account: MailChannelsAccount) -> None:
        for number in range(3):
            account.suppressions.put(f"r{number}@x.example")
        counted = done(env, provider_sync.PULL, dry_run=True)
        assert counted.report["only_there"] == 3
        assert env.system.rows("SELECT count(*) FROM suppressions") == [(0,)]
        job = done(env, provider_sync.PULL)
        assert job.state is JobState.DONE, job.error
        assert (job.report["added"], job.report["there"]) == (3, 3)
        assert env.system.rows("SELECT count(*) FROM suppressions WHERE origin = 'provider'") == [(3,)]

    def test_are_pushed_and_foreign_entries_are_deleted_only_on_request(
        self, env: ProviderEnv, account: MailChannelsAccount
    ) -> None:
        account.suppressions.put("r0@x.example")
        done(env, provider_sync.PULL)
        env.system.execute("UPDATE suppressions SET origin = 'person'")
        account.suppressions.remove("r0@x.example", "all")
        account.suppressions.put("other@x.example")
        job = done(env, provider_sync.PUSH)
        assert (job.report["added"], job.report["removed"]) == (1, 0)
        assert account.suppressions.recipients() == {"r0@x.example", "other@x.example"}
        assert done(env, provider_sync.PUSH, delete=True).report["removed"] == 1
        assert account.suppressions.recipients() == {"r0@x.example"}

    @pytest.mark.parametrize("kind", [provider_sync.PUSH, provider_sync.PULL])
    def test_cannot_be_compared_while_the_provider_fails(
        self, env: ProviderEnv, account: MailChannelsAccount, kind: str
    ) -> None:
        account.faults.add(faults.failing(500), calls=10)
        job = done(env, kind)
        assert job.state is JobState.FAILED
        assert "500" in (job.error or "")
