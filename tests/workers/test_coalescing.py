"""Neither the broker nor a worker keeps more wake-ups than are useful."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker import state, strategy

from shared.broker import PROCESS_RECEIPTS, QUEUE, TaskNotifier
from workers import coalescing


def test_without_workers_the_broker_keeps_a_thousand_wakeups_and_no_more(broker_url: str) -> None:
    broker = redis.Redis.from_url(broker_url)
    notifier = TaskNotifier(broker_url)
    try:
        assert all(notifier.notify() for _ in range(1500))
        assert 1000 <= broker.llen(QUEUE) <= 1101
        kept = broker.llen(QUEUE)
        notifier.notify()
        assert broker.llen(QUEUE) == kept
        broker.delete(QUEUE)
        notifier.notify()
        assert broker.llen(QUEUE) == 1
    finally:
        notifier.close()
        broker.close()


class Request:
    """As much of Celery's as the strategy looks at."""

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[Request], bool]:
    """Let a worker of two processes receive a wake-up. Return whether it kept it."""
    monkeypatch.setattr(state, "requests", {})

    def default(_task: Any, _app: Any, _consumer: Any) -> Callable[[Request], None]:
        return lambda request, *_: state.requests.update({id(request): request})

    monkeypatch.setattr(strategy, "default", default)
    consumer = SimpleNamespace(controller=SimpleNamespace(concurrency=2))

    def take_one(request: Request) -> bool:
        coalescing.coalesce(SimpleNamespace(name=request.name), None, consumer)(request, None, None)
        return id(request) in state.requests

    return take_one


class TestAWorker:
    def test_sends_no_acknowledgement(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(strategy, "default", lambda *_: lambda _message, _body, acknowledge, *_: acknowledge())
        monkeypatch.setattr(state, "requests", {})
        consumer = SimpleNamespace(controller=SimpleNamespace(concurrency=2))
        sent: list[object] = []
        receive = coalescing.coalesce(SimpleNamespace(name=PROCESS_RECEIPTS), None, consumer)
        receive(None, None, lambda *_: sent.append(None), None, None)
        assert not sent

    def test_keeps_one_wakeup_per_process_and_one_more(self, take: Callable[[Request], bool]) -> None:
        assert [take(Request(PROCESS_RECEIPTS)) for _ in range(5)] == [True, True, True, False, False]
        assert take(Request("tidings.sweep"))

    def test_keeps_another_once_it_has_started_one(self, take: Callable[[Request], bool]) -> None:
        kept = [Request(PROCESS_RECEIPTS) for _ in range(3)]
        assert all(map(take, kept))
        state.active_requests.add(kept[0])
        assert take(Request(PROCESS_RECEIPTS))
        assert not take(Request(PROCESS_RECEIPTS))
