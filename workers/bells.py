"""How bells are taken: of those that say the same, no more wait than could be of use."""

from collections.abc import Callable
from typing import Any, Final

from celery import Task
from celery.worker import state, strategy

_SPARE: Final = 1


class Bell(Task):  # type: ignore[misc]
    """A task that says "look", and not at what."""

    Strategy = "workers.bells:coalesce"


def coalesce(task: Task, app: Any, consumer: Any, **options: Any) -> Callable[..., None]:
    """Celery's strategy, but a bell is dropped while others like it wait to be answered: whoever looks, sees all.

    Because nothing is acknowledged a worker takes every bell at once, however many it has no time for. Those that
    expire meanwhile Celery lets go of one inside another: a few hundred, and the worker ends with a RecursionError.

    As many as have processes may wait only seemingly, because the word that they have begun is still on its way, and
    may have looked already; one more is kept, which begins after all that rang before it.
    """
    take = strategy.default(task, app, consumer, **options)
    most = consumer.controller.concurrency + _SPARE

    def take_unless_many_wait(message: Any, body: Any, *callbacks: Any, **more: Any) -> None:
        if _waiting(task.name) < most:
            take(message, body, *callbacks, **more)

    return take_unless_many_wait


def _waiting(name: str) -> int:
    # A copy, made in one go: where the tasks run in threads, these take away their own meanwhile.
    taken = list(state.requests.values())
    return sum(request.name == name and request not in state.active_requests for request in taken)
