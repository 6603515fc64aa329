"""Waiting for what is bound to happen."""

import time
from collections.abc import Callable
from typing import TypeVar

_PAUSE_SECONDS = 0.2

_Seen = TypeVar("_Seen")


def until(look: Callable[[], _Seen], *, within_seconds: float) -> _Seen | None:
    """What is seen as soon as it is something; None if that takes too long. It looks once at least."""
    deadline = time.monotonic() + within_seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE_SECONDS)
    return found
