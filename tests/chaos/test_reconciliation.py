"""After an outage in which a provider gave up on its webhooks, reconciliation recovers what it failed to deliver."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest

from cli.supervisor.environment import ROOT, merge_environment
from shared.sources import service as source_service
from shared.sources import store as sources
from simulator import post
from simulator.mail import Happening
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.server import ProviderServer
from simulator.staging import Posting
from tests.support import state_checks, traffic
from tests.support.cluster import SimulatedSource

_RECEIVERS = ("receiver", "receiver 2")
_COMMAND_SECONDS = 300.0


@dataclass
class Outage:
    """A provider that posts to the cluster, and what it has to tell."""

    source: SimulatedSource
    account: MailChannelsAccount
    url: str

    def send(self, bodies: Sequence[bytes]) -> set[int]:
        """The statuses that a provider gets which posts each body once."""
        postings = [Posting(body=body, events=len(json.loads(body))) for body in bodies]
        dialect, log = self.source.dialect, self.account.log
        return set(post.send(postings, dialect, self.url, log=log).statuses)

    def last_while_the_provider_sends(self, bodies: Sequence[bytes]) -> None:
        """Every receiver is killed, and comes back when the provider has given up."""
        for name in _RECEIVERS:
            self.source.cluster.processes[name].kill()
        assert self.send(bodies) == {post.NO_ANSWER}
        for name in _RECEIVERS:
            self.source.cluster.start(name)
        self.source.cluster.wait_until_ready()

    def nothing_is_missing(self, happenings: Sequence[Happening]) -> None:
        cluster = self.source.cluster
        cluster.wait_until_processed()
        assert cluster.states(self.source.source_id) == state_checks.expected_states(self.source.source_id, happenings)
        cluster.assert_nothing_doubled()

    def marked(self) -> set[UUID]:
        query = "SELECT receipt_id FROM reconciled_receipts WHERE source_id = %(id)s"
        return {row[0] for row in self.source.cluster.rows(query, id=self.source.source_id)}


@pytest.fixture
def outage(source: SimulatedSource) -> Iterator[Outage]:
    with ProviderServer({source.slug: source.dialect}) as server:
        cluster = source.cluster
        with cluster.engine.begin() as connection:
            source_service.change(
                connection,
                cluster.vault,
                source.slug,
                credentials={"api_key": source.dialect.api_key},
                settings=server.settings(source.slug),
            )
        account = server.account(source.slug, MailChannelsAccount)
        url = account.enrol(cluster.urls(source.slug)[0])
        yield Outage(source, account, url)
    with cluster.engine.begin() as connection:
        sources.delete(connection, source.slug)  # later tests need not wait for calls to it that fail


def test_a_command_recovers_every_event_and_marks_it(outage: Outage) -> None:
    cluster, happenings = outage.source.cluster, traffic.happenings(300, seed=11)
    bodies = outage.source.bodies(happenings, seed=11)
    third = len(bodies) // 3
    assert outage.send(bodies[:third]) == {200}
    outage.last_while_the_provider_sends(bodies[third : 2 * third])
    assert outage.send(bodies[2 * third :]) == {200}

    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "reconcile", "--source", outage.source.slug],
        cwd=ROOT,
        env=merge_environment({**cluster.environment, "COLUMNS": "200"}),
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr + cluster.log_tails(*cluster.processes)
    outage.nothing_is_missing(happenings)
    assert len(outage.marked()) == third
    missing = cluster.rows(
        "SELECT sum(new_events) FROM failed_deliveries WHERE source_id = %(id)s", id=outage.source.source_id
    )
    assert missing == cluster.rows(
        "SELECT count(*) FROM events AS e JOIN reconciled_receipts AS r"
        " ON left(r.receipt_id::text, 31) = left(e.id::text, 31) WHERE r.source_id = %(id)s",
        id=outage.source.source_id,
    )


def test_workers_recover_it_by_themselves_and_one_that_is_killed_meanwhile_changes_nothing(outage: Outage) -> None:
    cluster, happenings = outage.source.cluster, traffic.happenings(200, seed=12)
    bodies = outage.source.bodies(happenings, seed=12)
    outage.last_while_the_provider_sends(bodies)

    cluster.start_and_wait("deliverer", "deliverer 2")
    cluster.wait_for(lambda: len(outage.marked()) >= 2, "deliverer", "deliverer 2")
    cluster.restart("deliverer")
    with cluster.engine.begin() as connection:  # so that the test need not sit the lease of the dead one out
        connection.exec_driver_sql("UPDATE reconciliations SET lease_until = least(lease_until, now())")
    is_free = "coalesce(lease_until, now()) <= now()"  # what a living one does is left to it

    def recovered() -> bool:
        with cluster.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE reconciliations SET next_at = now() WHERE {is_free}")
        return len(outage.marked()) == len(bodies)

    cluster.wait_for(recovered, "deliverer", "deliverer 2")
    outage.nothing_is_missing(happenings)
