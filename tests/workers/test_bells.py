"""Bells say "look": more of them than could be of use are not kept, neither by the broker nor by a worker."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker import state, strategy

from shared.doorbell import DRAIN, QUEUE, Doorbell
from workers import bells


def test_while_nobody_listens_the_broker_keeps_a_thousand_and_no_more(broker_url: str) -> None:
    broker = redis.Redis.from_url(broker_url)
    bell = Doorbell(broker_url)
    try:
        assert all(bell.ring() for _ in range(1500))
        assert 1000 <= broker.llen(QUEUE) <= 1101
        kept = broker.llen(QUEUE)
        bell.ring()
        assert broker.llen(QUEUE) == kept
        broker.delete(QUEUE)
        bell.ring()
        assert broker.llen(QUEUE) == 1
    finally:
        bell.close()
        broker.close()


class Request:
    """As much of Celery's as the strategy looks at."""

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[Request], bool]:
    """Have a worker of two processes take a bell; whether it kept it."""
    monkeypatch.setattr(state, "requests", {})

    def default(_task: Any, _app: Any, _consumer: Any) -> Callable[[Request], None]:
        return lambda request, *_: state.requests.update({id(request): request})

    monkeypatch.setattr(strategy, "default", default)
    consumer = SimpleNamespace(controller=SimpleNamespace(concurrency=2))

    def take_one(request: Request) -> bool:
        bells.coalesce(SimpleNamespace(name=request.name), None, consumer)(request, None)
        return id(request) in state.requests

    return take_one


class TestAWorker:
    def test_keeps_no_more_bells_of_a_kind_than_its_processes_and_one(self, take: Callable[[Request], bool]) -> None:
        assert [take(Request(DRAIN)) for _ in range(5)] == [True, True, True, False, False]
        assert take(Request("tidings.sweep"))

    def test_keeps_another_once_it_has_begun_with_one(self, take: Callable[[Request], bool]) -> None:
        kept = [Request(DRAIN) for _ in range(3)]
        assert all(map(take, kept))
        state.active_requests.add(kept[0])
        assert take(Request(DRAIN))
        assert not take(Request(DRAIN))
