"""Providers' suppression lists are pulled by themselves: daily, and sooner after a failure."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy

from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.suppression import provider_sync
from shared.vocabulary import JobState
from simulator.providers.api import faults
from simulator.providers.ark.api import ArkAccount
from simulator.providers.mailchannels.api import MailChannelsAccount
from tests.support.command_line import Commands
from tests.support.provider_env import ProviderEnv, open_provider_env
from workers import suppressions
from workers.jobs import runner


@pytest.fixture
def env(database_url: str) -> Iterator[ProviderEnv]:
    with open_provider_env(database_url) as opened:
        yield opened


def pull(env: ProviderEnv, later: timedelta = timedelta()) -> int:
    """Create the jobs that are due, and run them; how many there are."""
    created = suppressions.schedule_pulls(env.system.ctx, datetime.now(UTC) + later)
    runner.run_due(env.system.ctx, at_providers=True)
    return created


def last(env: ProviderEnv, slug: str = "mc") -> Job:
    with env.system.ctx.engine.begin() as connection:
        job = provider_sync.last_pulls(connection, slug)[0]
    assert job is not None
    return job


def entries(env: ProviderEnv) -> dict[str, tuple[str, str, str]]:
    found = env.system.rows(
        "SELECT s.address, s.origin, o.slug, s.note FROM suppressions AS s JOIN sources AS o ON o.id = s.source_id"
    )
    return {row[0]: (row[1], row[2], row[3]) for row in found}


@pytest.fixture
def mailchannels(env: ProviderEnv) -> MailChannelsAccount:
    return env.server.account("mc", MailChannelsAccount)


class TestLists:
    def test_are_pulled_at_once_then_daily_and_entries_keep_their_origin(
        self, env: ProviderEnv, mailchannels: MailChannelsAccount
    ) -> None:
        mailchannels.suppressions.put("gone@x.example")
        env.server.account("ark", ArkAccount).suppressions.put("left@x.example", "unsubscribe")
        assert pull(env) == 2
        assert entries(env) == {
            "gone@x.example": ("provider", "mc", "hard_bounce"),
            "left@x.example": ("provider", "ark", "unsubscribe"),
        }
        assert (last(env).state, last(env).asked_by) == (JobState.DONE, "the schedule")
        mailchannels.suppressions.put("new@x.example")
        assert pull(env, timedelta(hours=23)) == 0
        assert pull(env, timedelta(hours=25)) == 2
        assert last(env).report["added"] == 1

    def test_that_could_not_be_pulled_are_tried_again_after_a_quarter_of_an_hour(
        self, env: ProviderEnv, mailchannels: MailChannelsAccount
    ) -> None:
        mailchannels.suppressions.put("gone@x.example")
        mailchannels.faults.add(faults.failing(403), calls=1, to="/suppression-list")
        pull(env)
        assert last(env).state is JobState.FAILED
        found = json.loads(Commands(env.system, env.system.environment).run("status", "--json", code=1))
        (failed,) = [stage["count"] for stage in found["stages"] if stage["stage"] == "jobs_failed"]
        assert failed == 0, "it is repeated by itself"
        assert pull(env, timedelta(minutes=14)) == 0
        assert pull(env, timedelta(minutes=16)) == 1
        assert last(env).state is JobState.DONE
        assert "gone@x.example" in entries(env)

    def test_that_are_always_refused_are_pulled_ever_more_rarely_until_the_source_is_changed(
        self, env: ProviderEnv, mailchannels: MailChannelsAccount
    ) -> None:
        commands = Commands(env.system, env.system.environment)
        mailchannels.suppressions.put("gone@x.example")
        mailchannels.faults.add(faults.failing(403), calls=11, to="/suppression-list")
        wait, hours = timedelta(), []
        for _ in range(11):
            pull(env, wait)
            with env.system.ctx.engine.begin() as connection:
                found = provider_sync.describe_pulls(connection, "mc")
            assert found is not None
            hours.append((found["next_at"] - last(env).finished_at) / timedelta(hours=1))
            wait = found["next_at"] - datetime.now(UTC) + timedelta(seconds=1)
        assert hours == [0.25, 0.25, 0.25, 0.5, 1, 2, 4, 8, 16, 24, 24]
        (problem,) = (
            one for one in json.loads(commands.run("status", "--json", code=1))["problems"] if "mc" in one["about"]
        )
        assert "could not be pulled 11 times in a row" in problem["found"]
        assert problem["mend"] == "tidings sources check mc"
        checked = " ".join(commands.run("sources", "list").split())
        assert "could not be pulled, 11 times in a row" in checked
        assert "or at once when the source is changed" in checked
        api_key = env.server.dialects["mc"].credentials()["api_key"]
        commands.run("sources", "rotate", "mc", "--credentials", json.dumps({"api_key": api_key}))
        with env.system.ctx.engine.begin() as connection:
            found = provider_sync.describe_pulls(connection, "mc")
        assert found is not None
        assert found["next_at"] <= datetime.now(UTC)
        assert found["failures"] == 0
        pull(env, timedelta(days=2))  # later than the last one, so that it is the newest
        assert last(env).state is JobState.DONE
        assert "gone@x.example" in entries(env)
        assert "suppression list" not in commands.run("status", code=1)

    def test_are_not_pulled_twice_at_once(self, env: ProviderEnv) -> None:
        assert suppressions.schedule_pulls(env.system.ctx) == 2
        assert suppressions.schedule_pulls(env.system.ctx) == 0

    def test_of_sources_without_a_key_or_that_must_not_be_pulled_stay_where_they_are(self, env: ProviderEnv) -> None:
        system = env.system
        system.add_source("cloud", "cloudmailin", {"username": "ann", "password": "hunter2-hunter2"})
        system.add_source("keyless", "mailchannels", {"customer_handles": ["acme"]})
        system.execute('UPDATE sources SET settings = settings || \'{"pull_suppressions": "never"}\', version = 9')
        assert pull(env) == 0

    def test_are_pulled_by_a_persons_job_too(self, env: ProviderEnv) -> None:
        with env.system.ctx.engine.begin() as connection:
            asked = {"source": "mc", "dry_run": False}
            jobs.create(connection, kind=provider_sync.PULL, parameters=asked, asked_by="ann", now=datetime.now(UTC))
        assert pull(env) == 1, "only that of the other source"

    def test_show_how_they_differ_where_a_source_is_checked(
        self, env: ProviderEnv, mailchannels: MailChannelsAccount
    ) -> None:
        commands = Commands(env.system, env.system.environment)
        mailchannels.suppressions.put("both@x.example")
        mailchannels.suppressions.put("fleeting@x.example")
        commands.run("suppressions", "add", "here@x.example", "--reason", "manual")
        pull(env)
        mailchannels.suppressions.remove("fleeting@x.example", "all")
        pull(env, timedelta(days=2))
        report = last(env).report
        assert (report["here"], report["there"]) == (3, 1)
        assert (report["only_here"], report["only_there"], report["removed_there"], report["added"]) == (1, 0, 1, 0)
        shown = " ".join(commands.run("sources", "list").split())
        assert "1 addresses at the provider, of which 0 were new here" in shown
        assert "1 only here, 1 removed there since" in shown
        checked = " ".join(commands.run("sources", "check", "mc").split())
        assert "tidings suppressions push --source mc --dry-run" in checked
        mailchannels.faults.add(faults.failing(403), calls=1, to="/suppression-list")
        pull(env, timedelta(days=4))
        assert "suppression list could not be pulled:" in " ".join(commands.run("sources", "list").split())


class TestDates:
    def test_that_a_list_does_not_have_are_those_of_the_first_sight(
        self, env: ProviderEnv, mailchannels: MailChannelsAccount
    ) -> None:
        before = datetime.now(UTC)
        mailchannels.suppressions.put("undated@x.example", created_at=None)
        mailchannels.suppressions.put("zero@x.example", created_at=datetime(1970, 1, 1, tzinfo=UTC))
        mailchannels.suppressions.put("one@x.example", created_at=datetime(1, 1, 1, tzinfo=UTC))
        pull(env)
        pull(env, timedelta(days=2))
        found = env.system.rows("SELECT since FROM suppressions UNION ALL SELECT since FROM suppression_history")
        assert len(found) == 6
        assert all(before <= since <= datetime.now(UTC) for (since,) in found)

    def test_that_are_unknown_are_before_any_lift(self, env: ProviderEnv, mailchannels: MailChannelsAccount) -> None:
        mailchannels.suppressions.put("forgiven@x.example", created_at=None)
        pull(env)
        Commands(env.system, env.system.environment).run("suppressions", "lift", "forgiven@x.example")
        pull(env, timedelta(days=2))
        assert entries(env) == {}


def test_an_address_that_two_providers_list_stays_with_the_first(database_url: str) -> None:
    """Otherwise both pulls would write it every day, and announce it whenever they list it for different mail."""
    with open_provider_env(database_url, ("mc", "mc2")) as env:
        accounts = [env.server.account(slug, MailChannelsAccount) for slug in ("mc", "mc2")]
        accounts[0].suppressions.put("ann@x.example", types=("transactional",))
        pull(env)
        accounts[1].suppressions.put("ann@x.example", types=("non-transactional",))
        pull(env, timedelta(days=2))
        changes = sqlalchemy.text("SELECT count(*) FROM state_changes")
        with env.system.ctx.engine.connect() as connection:
            announced = connection.scalar(changes)
        for days in (4, 6, 8):
            pull(env, timedelta(days=days))
        with env.system.ctx.engine.connect() as connection:
            assert connection.scalar(changes) == announced
        assert env.system.rows("SELECT types FROM suppressions") == [(["non_transactional", "transactional"],)]
        assert entries(env)["ann@x.example"][1] == "mc"
