"""Erasing an address, a piece at a time. Every piece may be done again: after a worker that died comes another."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection

from shared import erasures, ids
from shared.db import erasure_sweeps
from shared.db.erasures import KeptReceipt
from shared.domain import erasure
from shared.domain.erasure import Eraser
from shared.erasures import Piece, Subject
from shared.errors import TidingsError
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.messages.store import NewEvent
from shared.receipts import normalize
from shared.sources.source import Source
from workers.context import WorkerContext
from workers.jobs.progress import Progress

log = structlog.get_logger()

_PATIENCE_SECONDS = 0.5
_COUNTED = ("receipts", "messages", "entries", "others")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far it has got: the step, where its next piece begins, and from which receipt on it is too late."""

    until: str
    step: int = 0
    after: Sequence[str] | None = None


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Erase the job's address. The report counts what was changed."""
    place = Place(**job.position) if job.position else Place(until=str(ids.first_at(datetime.now(UTC))))
    report = dict.fromkeys(_COUNTED, 0) | dict(job.report)
    done, total = job.done, job.total
    if total is None:
        with ctx.engine.begin() as connection:
            total = erasure_sweeps.rows_to_look_at(connection)
    while place.step < len(erasures.STEPS):
        with ctx.engine.begin() as connection:
            piece = erasures.STEPS[place.step](connection, _subject(ctx, job, place, connection), place.after)
            done += piece.looked
            report = {name: report[name] + getattr(piece, name) for name in _COUNTED}
            place = _next(place, piece)
            progress.note(connection, done, max(done, total), asdict(place), report)
        progress.give_way()
        if piece.waits:
            time.sleep(_PATIENCE_SECONDS)
    return report


def _next(place: Place, piece: Piece) -> Place:
    if piece.next is None:
        return replace(place, step=place.step + 1, after=None)
    return replace(place, after=piece.next)


def _subject(ctx: WorkerContext, job: Job, place: Place, connection: Connection) -> Subject:
    address, key = ctx.vault.open(job.parameters[jobs.SEALED].encode())["address"], job.parameters["key"]

    def read(receipt: KeptReceipt) -> Sequence[NewEvent] | None:
        return _read(ctx, connection, receipt)

    return Subject(
        address=address,
        key=key,
        eraser=Eraser(address, erasure.pseudonym(key)),
        until=UUID(place.until),
        actor=job.asked_by,
        now=datetime.now(UTC),
        read=read,
        vault=ctx.vault,
    )


def _read(ctx: WorkerContext, connection: Connection, receipt: KeptReceipt) -> Sequence[NewEvent] | None:
    source = ctx.source_cache.of(connection, [receipt.source_id]).get(receipt.source_id)
    if not isinstance(source, Source):
        return None
    try:
        return normalize.rows(source, receipt.id, receipt.received_at, receipt.body)
    except TidingsError:
        return None
    except Exception:  # a parser's fault in one body must not keep all others from being erased
        log.exception("a parser failed", receipt=str(receipt.id), source=source.slug)
        return None
