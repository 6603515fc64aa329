"""Coalesces duplicate wake-up tasks that wait in a worker."""

from collections.abc import Callable
from typing import Any, Final

from celery import Task
from celery.worker import state, strategy

_SPARE: Final = 1


class WakeUpTask(Task):  # type: ignore[misc]
    """A task without arguments: its worker looks for work in the database."""

    Strategy = "workers.coalescing:coalesce"


def coalesce(task: Task, app: Any, consumer: Any, **options: Any) -> Callable[..., None]:
    """Return Celery's default strategy, but drop a wake-up while enough of the same task wait: one finds all work.

    Without acknowledgements a busy worker receives all wake-ups at once. Celery discards expired ones recursively:
    after a few hundred, the worker would end with a RecursionError.

    One waiting wake-up per process is not enough: a process may have started it, and looked for work already, before
    this consumer knows. So one more is kept. It starts later than every wake-up that was dropped.
    """
    receive = strategy.default(task, app, consumer, **options)
    max_waiting = consumer.controller.concurrency + _SPARE

    def receive_unless_many_wait(message: Any, body: Any, _acknowledge: Any, *callbacks: Any, **more: Any) -> None:
        # A copy: with the thread pool, other threads remove requests during the iteration.
        requests = list(state.requests.values())
        waiting = sum(request.name == task.name and request not in state.active_requests for request in requests)
        if waiting < max_waiting:
            # The queues have no acknowledgements, but with Redis Celery would send one.
            receive(message, body, _send_nothing, *callbacks, **more)

    return receive_unless_many_wait


def _send_nothing(*_: Any) -> None:
    pass
