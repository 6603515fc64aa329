"""Commands and workers with providers' APIs: one that lists no failed webhooks, and one that replays them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.reconciliation import run as reconciliation
from simulator.connection import Exchange
from simulator.providers.base import Signed
from simulator.providers.postmark.api import PostmarkAccount
from simulator.providers.postmark.webhooks import Postmark
from simulator.providers.resend.api import ResendAccount
from simulator.providers.resend.webhooks import Resend
from simulator.server import ProviderServer
from tests.support.command_line import Commands
from tests.support.simulator_http import Receiver
from tests.support.system import System, open_system
from workers import reconcile, suppressions
from workers.jobs import runner

URL = "https://hooks.example/webhooks/pm"


@dataclass
class Env:
    system: System
    commands: Commands
    account: PostmarkAccount


@pytest.fixture
def env(database_url: str) -> Iterator[Env]:
    dialect = Postmark()
    with ProviderServer({"pm": dialect}) as server, open_system(database_url) as system:
        system.add_source("pm", "postmark", dialect.credentials(), **server.settings("pm"))
        yield Env(system, Commands(system, system.environment), server.account("pm", PostmarkAccount))


def test_webhooks_are_enrolled_listed_and_removed(env: Env) -> None:
    env.commands.run("sources", "enrol", "pm", "--url", URL, says="Registered")
    assert "already registered" in env.commands.run("sources", "enrol", "pm")
    assert "ours" in env.commands.run("sources", "webhooks", "pm")
    assert "no longer posts" in env.commands.run("sources", "unenrol", "pm", "--yes")
    assert env.account.webhooks == {}


def test_what_the_api_does_not_have_is_said(env: Env) -> None:
    assert "does not list failed webhooks" in env.commands.run("reconcile", "--source", "pm", code=2)
    assert "No source has an `api_key` for a provider that lists" in env.commands.run("reconcile")
    assert "sends no test" in env.commands.run("sources", "validate", "pm", code=2)
    with env.system.ctx.engine.begin() as connection:
        asked = {"source": "pm"}
        job_id = jobs.create(
            connection, kind=reconciliation.JOB, parameters=asked, asked_by="ann", now=datetime.now(UTC)
        )
    runner.run_due(env.system.ctx, at_providers=True)
    with env.system.ctx.engine.begin() as connection:
        job = jobs.find(connection, job_id)
    assert isinstance(job, Job)
    assert "does not list failed webhooks" in (job.error or "")


def test_workers_check_the_webhooks_and_list_no_failures(env: Env) -> None:
    env.commands.run("sources", "enrol", "pm", "--url", URL)
    env.account.webhooks.clear()
    env.system.execute("UPDATE reconciliations SET next_at = now() - interval '1 s', checked_at = NULL")
    reconcile.reconcile_due(env.system.ctx)
    assert env.system.rows("SELECT enrolled, last_error FROM reconciliations") == [(False, None)]


def test_suppressions_are_pulled_by_the_schedule_and_pushed_by_a_person(env: Env) -> None:
    env.account.put("gone@x.example")
    assert suppressions.schedule_pulls(env.system.ctx) == 1
    runner.run_due(env.system.ctx, at_providers=True)
    assert env.system.rows("SELECT address, reason, origin FROM suppressions") == [
        ("gone@x.example", "hard_bounce", "provider")
    ]
    env.commands.run("suppressions", "add", "here@x.example", "--reason", "manual")
    assert "1 of 1 entries were added" in env.commands.run("suppressions", "push", "--source", "pm", "--yes")
    assert env.account.suppressed() == {"gone@x.example": "HardBounce", "here@x.example": "ManualSuppression"}


def test_an_address_that_the_provider_keeps_does_not_stop_the_others(env: Env) -> None:
    for address, reason in {"a@x.example": "SpamComplaint", "b@x.example": "HardBounce"}.items():
        env.account.put(address, reason)
    assert "1 of 2 addresses could not" in env.commands.run(
        "suppressions", "push", "--source", "pm", "--delete", "--yes", code=2
    )
    assert env.account.suppressed() == {"a@x.example": "SpamComplaint"}


def test_webhooks_that_resend_could_not_deliver_are_replayed(database_url: str) -> None:
    dialect, at, body = Resend(), datetime.now(UTC), b'{"type": "email.sent", "data": {}}'
    with (
        Receiver() as receiver,
        ProviderServer({"x": dialect}) as server,
        open_system(database_url) as system,
    ):
        account = server.account("x", ResendAccount)
        account.enrol(receiver.endpoint)
        system.add_source("x", "resend", dialect.credentials(), **server.settings("x"))
        account.log.record(
            url=receiver.endpoint,
            request=Signed(dialect.sign(body, at), body),
            events=1,
            created_at=at - timedelta(minutes=1),
            exchange=Exchange(status=503, body=b"", seconds=0.1),
        )
        reconcile.reconcile_due(system.ctx)
        assert [json.loads(given) for given in receiver.bodies] == [json.loads(body)]
        assert system.rows("SELECT state, outcome FROM failed_deliveries") == [("recovered", "attempting")]
