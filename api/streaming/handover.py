"""What a view hands over to the event loop, because it would otherwise hold its thread for as long as it lasts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Request

from shared.auth.keys import Caller
from shared.changes.filters import ChangeFilter
from shared.changes.log import Cursor

IN_ENVIRON: Final = "tidings.handover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What somebody sees of the log: what is wanted, and of that what a key of `tenant` is shown (None: all)."""

    wanted: ChangeFilter
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Ask the view again as soon as something that is wanted follows, or when the time is over."""

    wanted: ChangeFilter
    after: Cursor
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """Send what is wanted as it comes, for as long as `is_admitted`, which reads the database, says yes.

    What it says of one is true of all of the same `caller`.
    """

    sight: Sight
    after: Cursor
    caller: Caller
    is_admitted: Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class Handover:
    """What goes from the loop to a view, and back.

    `again_after` is set where the view is asked again. `is_full`: there is no room for another who stays. `left` is
    what the view leaves to the loop.
    """

    is_full: bool = False
    again_after: Cursor | None = None
    left: Wait | Follow | None = None


def of(request: Request) -> Handover:
    """The handover of this request. Where no loop is around, what is left to it is not done."""
    found: Handover = request.environ.get(IN_ENVIRON) or Handover()
    return found
