"""A loop that fails runs again, and is reported as failed until then."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from shared import supervision
from shared.supervision import SupervisedThread, failed_loops
from tests.support.cluster import eventually


def failing_first(error: BaseException, then: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """A loop that fails once, and ends at the second call."""
    errors = [error]

    def loop() -> None:
        if errors:
            raise errors.pop()
        then()

    return loop


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError(), SystemExit(1), OSError(28, "No space left")])
def test_a_thread_whatever_it_raises_is_restarted_and_named_meanwhile(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "RESTART_SECONDS", 3.0)  # the time in which the test has to see that it failed
    restarted = threading.Event()
    thread = SupervisedThread("writer", failing_first(error, restarted.set))
    thread.start()
    assert eventually(lambda: failed_loops() == ["writer"])
    assert restarted.wait(60)
    thread.join(60)
    assert not thread.is_alive()
    assert failed_loops() == []


def test_a_task_is_restarted_and_named_meanwhile() -> None:
    loop = failing_first(RuntimeError("a bug"))

    async def run() -> list[str]:
        async def asynchronous() -> None:
            loop()

        task = asyncio.create_task(supervision.supervise("connections", asynchronous))
        await asyncio.sleep(0)
        failed = failed_loops()
        await task
        return failed

    assert asyncio.run(run()) == ["connections"]
    assert failed_loops() == []


def test_a_cancelled_task_is_not_restarted() -> None:
    async def run() -> None:
        task = asyncio.create_task(supervision.supervise("connections", lambda: asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(run())
    assert failed_loops() == []
