"""Erases an address in pieces. Each piece can be repeated, so that another worker can continue after a crash."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from msgspec import structs
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared import ids
from shared.erasure import service, store
from shared.erasure.matching import AddressMatcher
from shared.erasure.service import Erasure
from shared.erasure.store import StoredReceipt
from shared.errors import TidingsError
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.messages import store as state
from shared.messages.store import NewEvent, SharedObject
from shared.postgres.engine import STATEMENT_ERRORS, is_database_fault
from shared.receipts import normalize
from shared.reprocessing import reprocess
from shared.rules.model import tallies
from shared.sources import store as source_store
from shared.sources.source import Source
from shared.suppression import evaluator as suppression_evaluator
from shared.suppression import recipient_hashes
from workers.context import WorkerContext
from workers.jobs.progress import Progress

log = structlog.get_logger()

WAIT_SECONDS = 0.5
_COUNTED = ("receipts", "messages", "entries", "others")
_EVENT_TEXTS = (
    "recipient", "sender", "subject", "provider_message_id", "request_id", "smtp_id", "tenant", "tag", "campaign",
    "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where to continue: the step and its next piece. Receipts with ids from `until` on are not erased."""

    until: str
    step: int = 0
    after: Sequence[str] | None = None


def run(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Erase the job's address. The report counts deleted receipts, changed messages and list entries, and others."""
    position = Position(**job.position) if job.position else Position(until=str(ids.first_at(datetime.now(UTC))))
    report = dict.fromkeys(_COUNTED, 0) | dict(job.report)
    done, total = job.done, job.total
    if total is None:
        with ctx.engine.begin() as connection:
            total = store.count_rows(connection)
    address, key = ctx.vault.open(job.parameters[jobs.SEALED].encode())["address"], job.parameters["key"]
    matcher = AddressMatcher(address, recipient_hashes.pseudonym(key))
    erasure = Erasure(
        matcher=matcher,
        key=key,
        until=UUID(position.until),
        actor=job.asked_by,
        now=datetime.now(UTC),
        process=partial(process_pending, ctx, matcher),
        vault=ctx.vault,
    )
    while position.step < len(service.STEPS):
        with ctx.engine.begin() as connection:
            piece = service.STEPS[position.step](connection, replace(erasure, now=datetime.now(UTC)), position.after)
            done += piece.looked
            report = {name: report[name] + getattr(piece, name) for name in _COUNTED}
            step = position.step if piece.next is not None else position.step + 1
            position = replace(position, step=step, after=piece.next)
            progress.record(connection, done, max(done, total), asdict(position), report)
        progress.end_turn_if_over()
        if piece.waits:
            time.sleep(WAIT_SECONDS)
    return report


def process_pending(
    ctx: WorkerContext, matcher: AddressMatcher, connection: Connection, receipts: Sequence[StoredReceipt]
) -> dict[UUID, str]:
    """Process receipts before their bodies are deleted, with the pseudonym in place of the address.

    Returns why, for those that cannot be processed. All are stored in one statement; if that fails, one by one.
    """
    versions = source_store.versions_of(connection, {receipt.source_id for receipt in receipts})
    sources = ctx.source_cache.of(connection, versions)
    events: dict[UUID, list[NewEvent]] = {}
    failed: dict[UUID, str] = {}
    for receipt in receipts:
        source = sources.get(receipt.source_id)
        try:
            if not isinstance(source, Source):
                raise TidingsError(f"its source cannot be used: {source}")
            rows = normalize.parse_events(source, receipt.id, receipt.received_at, receipt.body or b"")
            events[receipt.id] = _pseudonymize(rows, matcher)
        except Exception as error:  # noqa: BLE001  a parser's bug must not stop the erasure of other receipts
            failed[receipt.id] = matcher.pseudonymize(f"Its body was erased before it could be processed: {error}")
    try:
        with connection.begin_nested():
            _apply(ctx, connection, [receipt for receipt in receipts if receipt.id in events], events)
    except STATEMENT_ERRORS as error:
        if is_database_fault(error):
            raise  # a deadlock, or a lost connection: the whole piece is retried
        if len(receipts) == 1:
            cause = error.orig if isinstance(error, DBAPIError) else error
            failed |= dict.fromkeys(events, f"Its body was erased; its events cannot be stored: {type(cause).__name__}")
        else:
            for receipt in receipts:
                failed |= process_pending(ctx, matcher, connection, [receipt])
    for receipt_id, reason in failed.items():
        log.warning("a receipt is erased unprocessed", receipt=str(receipt_id), reason=reason)
    return failed


def _pseudonymize(rows: Sequence[NewEvent], matcher: AddressMatcher) -> list[NewEvent]:
    objects: dict[UUID, SharedObject] = {}
    erased = []
    for row in rows:
        columns: dict[str, Any] = {
            name: matcher.pseudonymize(text) for name in _EVENT_TEXTS if (text := getattr(row, name)) is not None
        }
        columns["data"] = matcher.pseudonymize_json(row.data)
        if row.provider_object is not None:
            columns["provider_object"] = matcher.delete_json(row.provider_object)
        if row.shared is not None:
            shared = row.shared
            if shared.id not in objects:
                provider_object = shared.provider_object and matcher.delete_json(shared.provider_object)
                data = matcher.pseudonymize_json(shared.data)
                objects[shared.id] = structs.replace(shared, data=data, provider_object=provider_object)
            columns["shared"] = objects[shared.id]
        erased.append(structs.replace(row, **columns))
    return erased


def _apply(
    ctx: WorkerContext, connection: Connection, receipts: Sequence[StoredReceipt], events: Mapping[UUID, list[NewEvent]]
) -> None:
    rules, now = ctx.rules.rules(connection), datetime.now(UTC)
    for receipt in receipts:
        if receipt.reprocess:
            reprocess.replace(connection, receipt.id, events[receipt.id], rules.suppression, ctx.hasher, now)
    rows = [row for receipt in receipts if not receipt.reprocess for row in events[receipt.id]]
    state.apply(connection, rows, tallies(rules.alerts))
    suppression_evaluator.apply_events(connection, rules.suppression, ctx.hasher, rows, now)
