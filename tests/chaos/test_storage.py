"""Without its database Tidings accepts nothing, answers with the code of each provider, and recovers by itself."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import pytest

from cli import embedded
from cli.supervisor import process_groups
from shared.providers.registry import PROVIDERS
from shared.vocabulary import EventType
from simulator.mail import Happening
from simulator.providers.registry import DIALECTS
from tests.support import traffic
from tests.support.cluster import Cluster, SimulatedSource, crash, frozen
from tests.support.traffic import Provider

ANSWER_SECONDS = 10.0  # 1.5 on a machine that has nothing else to do


@contextmanager
def down(postgres: embedded.Postgres) -> Iterator[None]:
    crash(postgres)
    yield
    postgres.start()


TROUBLES: Mapping[str, Callable[[embedded.Postgres], AbstractContextManager[None]]] = {"down": down, "frozen": frozen}


def pids(cluster: Cluster) -> list[list[int]]:
    return [process_groups.members(cluster.processes[name].pid) for name in sorted(cluster.processes)]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_every_provider_is_asked_to_retry_and_soon(cluster: Cluster, trouble: str) -> None:
    kinds = {"mailwebhook": EventType.INBOUND}
    posts = []
    for name, make in DIALECTS.items():
        if PROVIDERS[name].status_codes.hang_seconds:
            continue  # it is left without an answer: tests/receiver/test_pause.py
        dialect = make()
        slug = f"{name}-{trouble}"
        cluster.add_source(slug, dialect)
        [message] = {happening.message for happening in traffic.happenings(1, seed=20)}
        assert message
        kind = kinds.get(name, EventType.DELIVERED)
        happening = Happening(kind=kind, at=message.submitted_at, message=message, recipients=message.recipients)
        posts.append((name, Provider(dialect, cluster.urls(slug)), dialect.body([happening])))
    before = pids(cluster)

    with TROUBLES[trouble](cluster.postgres):
        for name, provider, body in posts:
            answer = provider.post(body)
            assert answer.status == PROVIDERS[name].status_codes.unavailable
            assert int(answer.headers["retry-after"]) > 0
            assert answer.seconds < ANSWER_SECONDS
    cluster.wait_until_ready()

    assert [provider.post(body).status for _, provider, body in posts] == [200] * len(posts)
    cluster.wait_until_processed()
    assert pids(cluster) == before, "something was started again"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_providers_send_again_afterwards_is_there_once(source: SimulatedSource, trouble: str) -> None:
    happenings = traffic.happenings(100, seed=21)
    bodies = source.bodies(happenings)
    before = pids(source.cluster)
    with TROUBLES[trouble](source.cluster.postgres):
        refused = [source.provider.post(body) for body in bodies[:3]]
    assert {sent.status for sent in refused} == {503}
    done = source.provider.send(bodies)
    source.assert_every_acknowledged_event_stored_once(happenings, done)
    assert pids(source.cluster) == before
