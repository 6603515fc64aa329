"""Jobs that count what there is to do, then do it: each a piece at a time, along an order that does not change."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection

from shared.broker import DELIVER
from shared.jobs.store import Job
from workers.context import WorkerContext
from workers.jobs.progress import Progress

TO_DELIVER: Final = "to_deliver"
"""What the progress is counted by, in the report of such a job."""

Position = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What was found in a piece, by name, and where the next one begins; None at the end."""

    found: Mapping[str, int]
    next: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a job has got: in which pass, where its next piece begins, or that there is none."""

    sending: bool = False
    after: Position | None = None
    over: bool = False


Take = Callable[[Connection, Position | None, bool], Piece]
"""Looks at the piece that follows a position, and with True does what is to be done about it."""


def run(ctx: WorkerContext, job: Job, progress: Progress, take: Take, *, dry_run: bool) -> Mapping[str, Any]:
    """Count, and then do it all unless it is a dry run. A piece is done and noted at once: never twice, never not."""
    place, found, total = Place(**job.position), Counter({TO_DELIVER: 0, **job.report}), job.total
    while not place.over:
        with ctx.engine.begin() as connection:
            piece = take(connection, place.after, place.sending)
            found.update(piece.found)
            is_counted = piece.next is None and not place.sending
            if is_counted:
                total = found[TO_DELIVER]
            place = _next(place, piece, dry_run=dry_run)
            if is_counted and not place.over:
                found = Counter(dict.fromkeys(found, 0))
            done = found[TO_DELIVER] if place.sending else 0
            progress.note(connection, done, total, asdict(place), dict(found))
        if place.sending:
            ctx.notifier.notify(DELIVER)
        progress.give_way()
    return dict(found)


def _next(place: Place, piece: Piece, *, dry_run: bool) -> Place:
    if piece.next is not None:
        return Place(sending=place.sending, after=piece.next)
    return Place(sending=not dry_run, over=place.sending or dry_run)
