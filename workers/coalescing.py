"""Coalesces duplicate wake-up tasks that wait in a worker."""

from collections.abc import Callable
from typing import Any, Final

from celery import Task
from celery.worker import state, strategy

_SPARE: Final = 1


class WakeUpTask(Task):  # type: ignore[misc]
    """A task that says that there is work, without saying what."""

    Strategy = "workers.coalescing:coalesce"


def coalesce(task: Task, app: Any, consumer: Any, **options: Any) -> Callable[..., None]:
    """Return Celery's default strategy, but drop a wake-up while enough equal ones wait: each of them finds all work.

    Without acknowledgements a worker receives all wake-ups at once, however busy it is. Celery discards those that
    expire meanwhile recursively: after a few hundred, the worker ends with a RecursionError.

    One wake-up per process is not enough: that it has started may not be known here yet, and it may have looked for
    work already. One more is kept, which starts after all that were sent before it.
    """
    receive = strategy.default(task, app, consumer, **options)
    max_waiting = consumer.controller.concurrency + _SPARE

    def receive_unless_many_wait(message: Any, body: Any, *callbacks: Any, **more: Any) -> None:
        # A copy, made at once: where tasks run in threads, these remove their own meanwhile.
        requests = list(state.requests.values())
        waiting = sum(request.name == task.name and request not in state.active_requests for request in requests)
        if waiting < max_waiting:
            receive(message, body, *callbacks, **more)

    return receive_unless_many_wait
