"""Without its database Tidings accepts nothing, tells each provider so in its own words, and recovers by itself."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import pytest

from cli import embedded
from cli.supervisor import process_groups
from shared.providers.registry import PROVIDERS
from shared.vocabulary import EventType
from simulator.mail import Happening
from simulator.providers.registry import DIALECTS
from tests.chaos import traffic
from tests.chaos.house import House, frozen
from tests.chaos.stage import Stage
from tests.chaos.traffic import Provider

ANSWER_SECONDS = 5.0  # 1.5 on a machine that has nothing else to do


@contextmanager
def down(postgres: embedded.Postgres) -> Iterator[None]:
    postgres.kill()
    yield
    postgres.start()


TROUBLES: Mapping[str, Callable[[embedded.Postgres], AbstractContextManager[None]]] = {"down": down, "frozen": frozen}


def pids(house: House) -> list[list[int]]:
    return [process_groups.members(house.processes[name].pid) for name in sorted(house.processes)]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_every_provider_is_told_to_try_again_and_soon(house: House, trouble: str) -> None:
    kinds = {"mailwebhook": EventType.INBOUND}
    posts = []
    for name, make in DIALECTS.items():
        dialect = make()
        slug = f"{name}-{trouble}"
        house.add_source(slug, dialect)
        [message] = {happening.message for happening in traffic.happenings(1, seed=20)}
        assert message
        kind = kinds.get(name, EventType.DELIVERED)
        happening = Happening(kind=kind, at=message.submitted_at, message=message, recipients=message.recipients)
        posts.append((name, Provider(dialect, house.urls(slug)), dialect.body([happening])))
    before = pids(house)

    with TROUBLES[trouble](house.postgres):
        for name, provider, body in posts:
            answer = provider.post(body)
            assert answer.status == PROVIDERS[name].STATUS_CODES.unavailable
            assert int(answer.headers["retry-after"]) > 0
            assert answer.seconds < ANSWER_SECONDS
    house.wait_until_ready()

    assert [provider.post(body).status for _, provider, body in posts] == [200] * len(posts)
    house.settle()
    assert pids(house) == before, "something was started again"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_providers_send_again_afterwards_is_there_once(stage: Stage, trouble: str) -> None:
    told = traffic.happenings(100, seed=21)
    bodies = stage.bodies(told)
    before = pids(stage.house)
    with TROUBLES[trouble](stage.house.postgres):
        refused = [stage.provider.post(body) for body in bodies[:3]]
    assert {sent.status for sent in refused} == {503}
    done = stage.provider.send(bodies)
    stage.every_acknowledged_event_had_its_effect_once(told, done)
    assert pids(stage.house) == before
