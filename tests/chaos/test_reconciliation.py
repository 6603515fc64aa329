"""An outage of the receivers in which a provider gives up on its webhooks: what it failed to deliver is made up for."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest

from cli.supervisor.environment import environment_with
from cli.supervisor.procfile import ROOT
from shared.sources import service as source_service
from simulator import post
from simulator.mail import Happening
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.server import ProviderServer
from simulator.staging import Posting
from tests import effects
from tests.chaos import traffic
from tests.chaos.stage import Stage

_RECEIVERS = ("receiver", "receiver 2")
_COMMAND_SECONDS = 120.0


@dataclass
class Outage:
    """A provider that posts to the house, and what it has to tell."""

    stage: Stage
    account: MailChannelsAccount
    url: str

    def send(self, bodies: Sequence[bytes]) -> set[int]:
        """The statuses that a provider gets which posts each body once."""
        postings = [Posting(body=body, events=len(json.loads(body))) for body in bodies]
        dialect, log = self.stage.dialect, self.account.log
        return set(post.send(postings, dialect, self.url, log=log).statuses)

    def last_while_the_provider_sends(self, bodies: Sequence[bytes]) -> None:
        """Every receiver is killed, and comes back when the provider has given up."""
        for name in _RECEIVERS:
            self.stage.house.processes[name].kill()
        assert self.send(bodies) == {post.NO_ANSWER}
        for name in _RECEIVERS:
            self.stage.house.start(name)
        self.stage.house.wait_until_ready()

    def nothing_is_missing(self, told: Sequence[Happening]) -> None:
        house = self.stage.house
        house.settle()
        assert house.states(self.stage.source_id) == effects.expected(self.stage.source_id, told)
        house.nothing_is_doubled()

    def marked(self) -> set[UUID]:
        query = "SELECT receipt_id FROM reconciled_receipts WHERE source_id = %(id)s"
        return {row[0] for row in self.stage.house.rows(query, id=self.stage.source_id)}


@pytest.fixture
def outage(stage: Stage) -> Iterator[Outage]:
    with ProviderServer({stage.slug: stage.dialect}) as server:
        house = stage.house
        with house.engine.begin() as connection:
            source_service.change(
                connection,
                house.vault,
                stage.slug,
                credentials={"api_key": stage.dialect.api_key},
                settings=server.settings(stage.slug),
            )
        account = server.account(stage.slug, MailChannelsAccount)
        url = account.enrol(house.urls(stage.slug)[0])
        yield Outage(stage, account, url)


def test_a_command_recovers_every_event_and_marks_it(outage: Outage) -> None:
    house, told = outage.stage.house, traffic.happenings(300, seed=11)
    bodies = outage.stage.bodies(told, seed=11)
    third = len(bodies) // 3
    assert outage.send(bodies[:third]) == {200}
    outage.last_while_the_provider_sends(bodies[third : 2 * third])
    assert outage.send(bodies[2 * third :]) == {200}

    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "reconcile", "--source", outage.stage.slug],
        cwd=ROOT,
        env=environment_with({**house._environment, "COLUMNS": "200"}),
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr + house.last_words(*house.processes)
    outage.nothing_is_missing(told)
    assert len(outage.marked()) == third
    missing = house.rows(
        "SELECT sum(new_events) FROM failed_deliveries WHERE source_id = %(id)s", id=outage.stage.source_id
    )
    assert missing == house.rows(
        "SELECT count(*) FROM events JOIN reconciled_receipts AS r USING (receipt_id) WHERE r.source_id = %(id)s",
        id=outage.stage.source_id,
    )


def test_workers_recover_it_by_themselves_and_one_that_is_killed_meanwhile_changes_nothing(outage: Outage) -> None:
    house, told = outage.stage.house, traffic.happenings(200, seed=12)
    bodies = outage.stage.bodies(told, seed=12)
    outage.last_while_the_provider_sends(bodies)

    house.start_and_wait("deliverer", "deliverer 2")
    house.must_come(lambda: len(outage.marked()) >= 2, "deliverer", "deliverer 2")
    house.bring_back("deliverer")
    query = "UPDATE reconciliations SET lease_until = least(lease_until, now()), next_at = now()"

    def recovered() -> bool:
        with house.engine.begin() as connection:
            connection.exec_driver_sql(query)  # so that the test need not sit the lease of a dead one out
        return len(outage.marked()) == len(bodies)

    house.must_come(recovered, "deliverer", "deliverer 2")
    outage.nothing_is_missing(told)
