"""What a view leaves to the event loop, because it would otherwise occupy its thread while it waits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Request

from shared.auth.keys import Caller
from shared.changes.filters import ChangeFilter
from shared.changes.log import Cursor

ENVIRON_KEY: Final = "tidings.deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The part of the log that a client sees: the changes it asks for that its tenant may see (None: all)."""

    wanted: ChangeFilter
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Call the view again as soon as a change matches, or when the time is up."""

    wanted: ChangeFilter
    after: Cursor
    seconds: float
    caller: Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """Send changes as they are logged, while `is_authorized` returns True.

    `is_authorized` reads the database. Its result holds for all streams of the same caller.
    """

    view: View
    after: Cursor
    caller: Caller
    is_authorized: Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class DeferredResponse:
    """What passes between the event loop and a view.

    `is_full`: no more connections may wait. `exceeded` returns why a caller may not wait although others may.
    `again_after` is set when the view is called again. The view sets `action` to what the loop is to do.
    """

    is_full: bool = False
    exceeded: Callable[[Caller], str | None] = lambda _caller: None
    again_after: Cursor | None = None
    action: Wait | Follow | None = None


def of(request: Request) -> DeferredResponse:
    """Return the deferred response of a request. Without an event loop, its action is not carried out."""
    deferred: DeferredResponse = request.environ.get(ENVIRON_KEY) or DeferredResponse()
    return deferred
