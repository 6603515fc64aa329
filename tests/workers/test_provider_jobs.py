"""Jobs that ask a provider: they tell how far they got, and end with a report."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.doorbell import ASK
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.suppression import provider_sync
from shared.vocabulary import JobState
from simulator.providers.api import faults
from simulator.providers.mailchannels.api import MailChannelsAccount
from tests.management import scene as scenes
from tests.management.scene import Scene
from workers.jobs import provider as provider_jobs
from workers.jobs import runner as working


@pytest.fixture
def scene(database_url: str) -> Iterator[Scene]:
    with scenes.opened(database_url) as opened:
        yield opened


@pytest.fixture
def account(scene: Scene) -> MailChannelsAccount:
    return scene.server.account("mc", MailChannelsAccount)


def work_on(scene: Scene) -> bool:
    """One slice; whether there is more to do."""
    scene.workshop.bell.rings.clear()
    working.work(scene.workshop.ctx, at_providers=True)
    return ASK in scene.workshop.bell.rings


def done(scene: Scene, kind: str, **parameters: Any) -> Job:
    engine = scene.workshop.ctx.engine
    with engine.begin() as connection:
        given = {"source": "mc", **parameters}
        job_id = jobs.create(connection, kind=kind, parameters=given, asked_by="ann", now=datetime.now(UTC))
    with scene.working():
        while work_on(scene):
            pass
    with engine.begin() as connection:
        job = jobs.find(connection, job_id)
    assert job is not None
    return job


class TestReconciling:
    def test_reports_what_was_recovered(self, scene: Scene) -> None:
        play = scene.play("mc")
        failed = scene.suffer("mc", play)
        job = done(scene, reconciliation.JOB)
        assert job.state is JobState.DONE, job.error
        assert (job.done, job.total) == (failed, failed)
        new_events = sum(failure.new_events or 0 for failure in scene.failures("mc"))
        assert job.report == {
            "found": failed,
            "resent": failed,
            "recovered": failed,
            "new_events": new_events,
            "still_open": 0,
            "given_up": [],
            "reasons": [],
        }
        scene.everything_arrived_once(play)

    def test_keeps_to_the_time_that_was_asked_for(self, scene: Scene) -> None:
        scene.suffer("mc", scene.play("mc"))
        long_ago = datetime.now(UTC) - timedelta(days=20)
        span = {"since": (long_ago - timedelta(days=1)).isoformat(), "until": long_ago.isoformat()}
        assert done(scene, reconciliation.JOB, **span).report["found"] == 0

    def test_fails_with_the_providers_reason(self, scene: Scene, account: MailChannelsAccount) -> None:
        account.faults.add(faults.failing(403), calls=10)
        job = done(scene, reconciliation.JOB)
        assert job.state is JobState.FAILED
        assert "`api_key`" in (job.error or "")

    def test_takes_turns_with_other_work(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(provider_jobs, "_SLICE_SECONDS", 0.3)
        play = scene.play("mc")
        failed = scene.suffer("mc", play)
        job = done(scene, reconciliation.JOB)
        assert job.state is JobState.DONE, job.error
        assert job.report["recovered"] == failed
        scene.everything_arrived_once(play)

    def test_waits_until_nobody_else_is_at_it(self, scene: Scene) -> None:
        source, engine = scene.sources["mc"], scene.workshop.ctx.engine
        scene.suffer("mc", scene.play("mc"))
        with engine.begin() as connection:
            reconciliations.ensure(connection, [source.id])
            assert reconciliations.claim(connection, source.id, token=uuid4(), lease_seconds=1.0)
        assert done(scene, reconciliation.JOB).report["recovered"]

    def test_tries_each_once_also_if_it_takes_several_turns(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(provider_jobs, "_SLICE_SECONDS", 0.3)
        failed = scene.suffer("mc", scene.play("mc"))
        mailchannels = scene.server.account("mc", MailChannelsAccount)
        mailchannels.faults.add(faults.failing(409), calls=2, to="/resend")
        job = done(scene, reconciliation.JOB)
        assert (job.report["resent"], job.report["still_open"]) == (failed, 2)
        assert "409" in job.report["reasons"][0]

    @pytest.mark.parametrize("slug", ["nobody", "cloud"])
    def test_of_a_source_that_cannot_be_asked_fails_with_the_reason(self, scene: Scene, slug: str) -> None:
        scene.workshop.add_source("cloud", "cloudmailin", {"username": "ann", "password": "hunter2-hunter2"})
        job = done(scene, reconciliation.JOB, source=slug)
        assert job.state is JobState.FAILED
        assert ("no source" if slug == "nobody" else "CloudMailin has no API") in (job.error or "")


class TestSuppressions:
    def test_are_pulled(self, scene: Scene, account: MailChannelsAccount) -> None:
        for number in range(3):
            account.suppressions.put(f"r{number}@x.example")
        counted = done(scene, provider_sync.PULL, dry_run=True)
        assert counted.report["only_there"] == 3
        assert scene.workshop.rows("SELECT count(*) FROM suppressions") == [(0,)]
        job = done(scene, provider_sync.PULL)
        assert job.state is JobState.DONE, job.error
        assert (job.report["added"], job.report["there"]) == (3, 3)
        assert scene.workshop.rows("SELECT count(*) FROM suppressions WHERE origin = 'provider'") == [(3,)]

    def test_are_pushed_and_what_is_not_ours_is_deleted_only_when_asked(
        self, scene: Scene, account: MailChannelsAccount
    ) -> None:
        account.suppressions.put("r0@x.example")
        done(scene, provider_sync.PULL)
        scene.workshop.run("UPDATE suppressions SET origin = 'person'")
        account.suppressions.remove("r0@x.example", "all")
        account.suppressions.put("other@x.example")
        job = done(scene, provider_sync.PUSH)
        assert (job.report["added"], job.report["removed"]) == (1, 0)
        assert account.suppressions.recipients() == {"r0@x.example", "other@x.example"}
        assert done(scene, provider_sync.PUSH, delete=True).report["removed"] == 1
        assert account.suppressions.recipients() == {"r0@x.example"}

    @pytest.mark.parametrize("kind", [provider_sync.PUSH, provider_sync.PULL])
    def test_cannot_be_compared_while_the_provider_fails(
        self, scene: Scene, account: MailChannelsAccount, kind: str
    ) -> None:
        account.faults.add(faults.failing(500), calls=10)
        job = done(scene, kind)
        assert job.state is JobState.FAILED
        assert "500" in (job.error or "")
