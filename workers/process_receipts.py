"""Draining the queue: claim stored receipts, normalize them, fold them into state, in batches.

The batch is one transaction. If it fails, its receipts are worked on one by one, so that one poison receipt fails
alone; what keeps failing, or keeps killing its worker, ends as `dead`, with the reason.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from shared import backoff
from shared.broker import DELIVER
from shared.errors import PayloadError, TidingsError
from shared.messages import store as state
from shared.messages.store import Applied, NewEvent
from shared.receipts import normalize
from shared.receipts import store as receipts
from shared.receipts.store import Claimed
from shared.reprocessing import reprocess
from shared.rules.model import tallies
from shared.sources.source import Source
from shared.suppression import evaluator as suppression_evaluator
from workers.context import WorkerContext

LEASE_SECONDS = 30
_MOST_BYTES_IN_BATCH = 2 * 1024 * 1024
_LONGEST_RUN_SECONDS = 5.0
_UNTIL_MENDED_SECONDS = 30.0
_TRIES_AFTER_DEADLOCK = 3
_FEW_ROWS = 32
_ALONE_FROM_ATTEMPT = 3
"""From this attempt on a receipt is processed alone: it may be what killed the workers that had it before."""
_DEADLOCK_OR_SERIALIZATION = ("40P01", "40001")
_UNWRITABLE = (DBAPIError, ValueError)
"""What is wrong with the data: the database refuses it, or it cannot even be sent (half of a surrogate pair)."""

log = structlog.get_logger()


class LeaseLostError(TidingsError):
    """Another worker has taken over; what this one was about to write is not written."""


@dataclass(slots=True, kw_only=True)
class Drained:
    """What one run did."""

    receipts: int = 0
    new_events: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class _Ready:
    """A receipt with its events, or with the reason why it has none.

    `unreadable` is a fault of the body, which stays; `fault` is one of ours, which may be gone the next time.
    """

    claimed: Claimed
    rows: list[NewEvent]
    unreadable: str | None = None
    fault: str | None = None


def drain(ctx: WorkerContext, *, longest_run_seconds: float = _LONGEST_RUN_SECONDS) -> Drained:
    """Work until nothing is pending, or until it is another task's turn; then ring again for what is left."""
    done = Drained()
    until = time.monotonic() + longest_run_seconds
    while True:
        token = uuid4()
        with ctx.engine_small_batches.begin() as connection:
            claimed = receipts.claim(
                connection,
                limit=ctx.settings.batch_size,
                most_bytes=_MOST_BYTES_IN_BATCH,
                token=token,
                lease_seconds=LEASE_SECONDS,
            )
        if not claimed:
            return done
        _work(ctx, claimed, token, done)
        if time.monotonic() > until:
            ctx.notifier.notify()
            return done


def _work(ctx: WorkerContext, claimed: Sequence[Claimed], token: UUID, done: Drained) -> None:
    with ctx.engine.connect() as connection:
        opened = ctx.source_cache.of(connection, {receipt.source_id for receipt in claimed})
    usable = {id_: source for id_, source in opened.items() if isinstance(source, Source)}
    _leave_waiting(ctx, [receipt for receipt in claimed if receipt.source_id not in usable], opened, token)
    left = [receipt for receipt in claimed if receipt.source_id in usable and not _exhausted(ctx, receipt, token, done)]
    alone = [receipt for receipt in left if receipt.attempts >= _ALONE_FROM_ATTEMPT]
    replaced = [receipt for receipt in left if receipt.reprocess and receipt not in alone]
    plain = [receipt for receipt in left if receipt not in alone and not receipt.reprocess]
    _finish_together(ctx, [_ready(receipt, usable[receipt.source_id]) for receipt in plain], token, done)
    for receipt in replaced:
        _finish_alone(ctx, _ready(receipt, usable[receipt.source_id]), token, done)
    if alone:
        # It may be the one that kills: the others must not be charged with that attempt.
        with ctx.engine.begin() as connection:
            receipts.release(connection, [other.id for other in alone[1:]], token)
        _finish_alone(ctx, _ready(alone[0], usable[alone[0].source_id]), token, done)


def _leave_waiting(
    ctx: WorkerContext, unusable: Sequence[Claimed], opened: Mapping[int, Source | TidingsError], token: UUID
) -> None:
    """No attempt is charged to what cannot be read for its source's sake: an operator has to mend that."""
    if not unusable:
        return
    reason = f"its source cannot be used: {opened.get(unusable[0].source_id)}"
    log.error("receipts wait for their source", receipts=len(unusable), error=reason)
    waiting = [receipt.id for receipt in unusable]
    with ctx.engine.begin() as connection:
        receipts.postpone(connection, waiting, token, error=reason, delay_seconds=_UNTIL_MENDED_SECONDS)


def _exhausted(ctx: WorkerContext, receipt: Claimed, token: UUID, done: Drained) -> bool:
    """Whether it has had its attempts; then it is dead, unread: reading may be what kills."""
    if receipt.attempts <= ctx.settings.max_attempts:
        return False
    detail = f"{receipt.attempts - 1} attempts ended without a word: each may have killed its worker"
    _bury(ctx, receipt, token, "attempts_exhausted", detail, done)
    return True


def _ready(receipt: Claimed, source: Source) -> _Ready:
    try:
        return _Ready(receipt, normalize.rows(source, receipt.id, receipt.received_at, receipt.body))
    except PayloadError as error:
        return _Ready(receipt, [], unreadable=str(error))
    except Exception as error:  # a parser's fault in one body must not hold its neighbours up
        log.exception("a parser failed", receipt=str(receipt.id), source=source.slug)
        return _Ready(receipt, [], fault=f"the parser failed: {type(error).__name__}: {error}")


def _finish_together(ctx: WorkerContext, batch: list[_Ready], token: UUID, done: Drained) -> None:
    readable = [ready for ready in batch if ready.unreadable is None and ready.fault is None]
    try:
        _write(ctx, readable, token, done)
    except (*_UNWRITABLE, LeaseLostError) as error:
        if isinstance(error, OperationalError | InterfaceError) and error.connection_invalidated:
            raise  # the database is gone; the leases run out, and another try is made then
        log.warning("a batch is worked on one by one", receipts=len(readable), error=first_line(error))
        for ready in readable:
            _finish_alone(ctx, ready, token, done)
    for ready in batch:
        if ready.unreadable is not None:
            _bury(ctx, ready.claimed, token, "unreadable", ready.unreadable, done)
        elif ready.fault is not None:
            _give_back(ctx, ready.claimed, token, ready.fault, done)


def _finish_alone(ctx: WorkerContext, ready: _Ready, token: UUID, done: Drained) -> None:
    receipt = ready.claimed
    if ready.unreadable is not None:
        _bury(ctx, receipt, token, "unreadable", ready.unreadable, done)
        return
    if ready.fault is not None:
        _give_back(ctx, receipt, token, ready.fault, done)
        return
    try:
        _write(ctx, [ready], token, done)
    except LeaseLostError:
        log.info("a lease was lost", receipt=str(receipt.id))
    except _UNWRITABLE as error:
        if isinstance(error, OperationalError | InterfaceError):
            if error.connection_invalidated:
                raise
            _wait_for_database(ctx, receipt, token, first_line(error))
        else:
            _give_back(ctx, receipt, token, first_line(error), done)


def _wait_for_database(ctx: WorkerContext, receipt: Claimed, token: UUID, error: str) -> None:
    """A full disk, a lock that is held too long: none of the receipt's doing, so no attempt is charged."""
    log.error("the database refuses to write for now", receipt=str(receipt.id), error=error)
    with ctx.engine.begin() as connection:
        receipts.postpone(connection, [receipt.id], token, error=error, delay_seconds=_UNTIL_MENDED_SECONDS)


def _give_back(ctx: WorkerContext, receipt: Claimed, token: UUID, error: str, done: Drained) -> None:
    if receipt.attempts >= ctx.settings.max_attempts:
        _bury(ctx, receipt, token, "failed", error, done)
        return
    log.warning("a receipt will be tried again", receipt=str(receipt.id), error=error, attempts=receipt.attempts)
    with ctx.engine.begin() as connection:
        delay = backoff.RECEIPTS.delay_seconds(receipt.attempts)
        receipts.retry(connection, receipt.id, token, error=error, delay_seconds=delay)


def _bury(ctx: WorkerContext, receipt: Claimed, token: UUID, reason: str, detail: str, done: Drained) -> None:
    log.warning("a receipt is dead", receipt=str(receipt.id), reason=reason, detail=detail)
    with ctx.engine.begin() as connection:
        receipts.bury(connection, receipt.id, token, reason=reason, detail=detail)
    done.dead += 1


def _write(ctx: WorkerContext, batch: Sequence[_Ready], token: UUID, done: Drained) -> None:
    """Take the batch off the queue and write what it says, in one transaction. Raises as _write_once does."""
    if not batch:
        return
    for remaining in reversed(range(_TRIES_AFTER_DEADLOCK)):
        try:
            applied = _write_once(ctx, batch, token)
            break
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in _DEADLOCK_OR_SERIALIZATION or not remaining:
                raise
    done.receipts += len(batch)
    done.new_events += applied.new_events
    if applied.changes:
        ctx.notifier.notify(DELIVER)


def _write_once(ctx: WorkerContext, batch: Sequence[_Ready], token: UUID) -> Applied:
    with _engine(ctx, batch).begin() as connection:
        held = receipts.finish(connection, [ready.claimed.id for ready in batch], token)
        if held != len(batch):
            raise LeaseLostError(f"of {len(batch)} receipts only {held} are still leased to this worker")
        now = datetime.now(UTC)
        rules = ctx.rules.rules(connection)
        for ready in batch:
            if ready.claimed.reprocess:
                reprocess.replace(connection, ready.claimed.id, ready.rows, rules.suppression, ctx.hasher, now)
        rows = [row for ready in batch if not ready.claimed.reprocess for row in ready.rows]
        applied = state.apply(connection, rows, tallies(rules.alerts))
        suppression_evaluator.apply_events(connection, rules.suppression, ctx.hasher, rows, now)
        return applied


def _engine(ctx: WorkerContext, batch: Sequence[_Ready]) -> Engine:
    is_small = sum(len(ready.rows) for ready in batch) <= _FEW_ROWS
    return ctx.engine_small_batches if is_small and not any(ready.claimed.reprocess for ready in batch) else ctx.engine
