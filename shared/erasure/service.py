"""The steps of an erasure, in order. Each works in pieces, and every piece may be repeated."""

from base64 import b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.encryption import SecretsError, Vault
from shared.erasure import store
from shared.erasure.matching import AddressMatcher
from shared.erasure.store import StoredReceipt, SweptTable
from shared.messages import search_store
from shared.suppression import jobs as suppression_jobs

RECEIPTS_LIMIT = 500
MAX_RECEIPT_BYTES = 8 << 20
MESSAGES_LIMIT = 200
FILES_LIMIT = 4
ANSWERS_LIMIT = 500
CACHED_SECONDS = 11.0  # deliverers cache a change for ten, and may begin a call at the end of them

Process = Callable[[Connection, Sequence[StoredReceipt]], Mapping[UUID, str]]
"""Processes pending receipts with the pseudonym in place of the address; returns why, for those that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Whose address is erased: normalized, with its key. Receipts and jobs from the id `until` on came too late."""

    matcher: AddressMatcher
    key: str
    until: UUID
    actor: str
    now: datetime
    process: Process
    vault: Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The result of a piece of the work: rows read, rows changed by kind, and where the next piece begins.

    `next` is None at the end. `waits`: another process has the address in memory; try the same piece again later.
    """

    looked: int = 0
    receipts: int = 0
    messages: int = 0
    entries: int = 0
    others: int = 0
    next: Sequence[str] | None = None
    waits: bool = False


Step = Callable[[Connection, Erasure, Sequence[str] | None], Piece]


def wait_for_imports(connection: Connection, erasure: Erasure, _after: Sequence[str] | None) -> Piece:
    """Wait for imports: their files contain the address, and are deleted only once they are on the list."""
    waits = store.has_open_jobs(connection, [suppression_jobs.IMPORT], erasure.until)
    return Piece(next=[] if waits else None, waits=waits)


def erase_messages(connection: Connection, erasure: Erasure, _after: Sequence[str] | None) -> Piece:
    """Rename the recipient in messages, with events or only announced, until no message names the address.

    The events also lead to receipts with an unusual spelling of the address, such as one with comments.
    """
    found = store.messages_to(connection, erasure.matcher.address, MESSAGES_LIMIT)
    if not found:
        return Piece()
    receipts = _erase_receipts(connection, erasure, store.receipts_about(connection, erasure.matcher.address, found))
    messages = store.rename_recipient(connection, found, erasure.matcher)
    return Piece(looked=len(found), receipts=receipts, messages=messages, next=[str(found[-1])])


def erase_receipts(connection: Connection, erasure: Erasure, after: Sequence[str] | None) -> Piece:
    """Delete the stored requests that contain the address, and pseudonymize their events."""
    begin = UUID(after[0]) if after else UUID(int=0)
    found = store.receipts_after(connection, begin, erasure.until, limit=RECEIPTS_LIMIT, max_bytes=MAX_RECEIPT_BYTES)
    if not found:
        return Piece()
    affected = []
    for receipt in found:
        parts = (receipt.body, receipt.headers, receipt.idempotency_key)
        # If an erasure of another address has deleted the body, only the events show whose address it contained.
        if receipt.body is None or any(part is not None and erasure.matcher.is_in(part) for part in parts):
            affected.append(receipt.id)
    receipts = _erase_receipts(connection, erasure, affected)
    return Piece(looked=len(found), receipts=receipts, next=[str(found[-1].id)])


def _erase_receipts(connection: Connection, erasure: Erasure, receipt_ids: Collection[UUID]) -> int:
    """Erase receipts and their events; return how many bodies were deleted.

    The events of others in a pending receipt must not be lost with its body, so it is processed first, and after the
    recipient was renamed: then its events join the states that are there.
    """
    if not receipt_ids:
        return 0
    pending = store.lock_receipts(connection, receipt_ids)
    store.copy_objects(connection, receipt_ids)
    messages = store.pseudonymize_events(connection, receipt_ids, erasure.matcher)
    store.rename_recipient(connection, messages, erasure.matcher)
    if pending:
        failed = erasure.process(connection, pending)
        processed = [receipt.id for receipt in pending]
        store.finish_pending(connection, processed, failed)
        store.copy_objects(connection, processed)
        store.pseudonymize_events(connection, processed, erasure.matcher)
    return store.delete_bodies(connection, receipt_ids, erasure.now)


def erase_entries(connection: Connection, erasure: Erasure, _after: Sequence[str] | None) -> Piece:
    """Remove the address from the suppression list, whose entries keep the key alone."""
    entries = store.pseudonymize_entries(connection, erasure.key, erasure.matcher, erasure.actor, erasure.now)
    return Piece(looked=entries, entries=entries)


def sweep(table: SweptTable) -> Step:
    """Return the step that erases the address from a table."""

    def step(connection: Connection, erasure: Erasure, after: Sequence[str] | None) -> Piece:
        looked, changed, next_key = store.sweep(connection, table, after, erasure.matcher)
        return Piece(looked=looked, others=changed, next=next_key)

    return step


def clear_signatures(connection: Connection, erasure: Erasure, after: Sequence[str] | None) -> Piece:
    """Clear the signatures of the search that may contain the address: a known address could be tested against them.

    The messages get new ones, of their texts as they are now.
    """
    cleared, last = search_store.clear_signatures_of(connection, erasure.matcher.address, int(after[0]) if after else 0)
    return Piece(looked=cleared, others=cleared, next=None if last is None else [str(last)])


def wait_for_exports(connection: Connection, _erasure: Erasure, after: Sequence[str] | None) -> Piece:
    """Wait for exports that may have read the list before the address was removed from it."""
    before = after or [str(ids.first_at(datetime.now(UTC)))]
    waits = store.has_open_jobs(connection, [suppression_jobs.EXPORT], UUID(before[0]))
    return Piece(next=before if waits else None, waits=waits)


def delete_files(connection: Connection, erasure: Erasure, after: Sequence[str] | None) -> Piece:
    """Delete the files of jobs that contain the address: lists that were imported, exported, or refused."""
    job_id, name, part = after or (str(UUID(int=0)), "", "0")
    found = store.files_after(connection, (UUID(job_id), name, int(part)), FILES_LIMIT)
    if not found:
        return Piece()
    files = {(job_id, name) for job_id, name, _, content in found if erasure.matcher.is_in(content)}
    deleted = sum(store.delete_file(connection, *file) for file in files)
    return Piece(looked=len(found), others=deleted, next=[str(value) for value in found[-1][:3]])


def wait_for_deliveries(connection: Connection, _erasure: Erasure, after: Sequence[str] | None) -> Piece:
    """Wait for deliveries of changes that were read before they were pseudonymized: they store captures at the end."""
    if not after:
        moment = store.cached_payloads_expire_at(connection, CACHED_SECONDS)
        return Piece() if moment is None else Piece(next=[moment.isoformat()])
    return Piece(next=after, waits=True) if store.has_calls_from_before(connection, after[0]) else Piece()


def delete_answers(connection: Connection, erasure: Erasure, after: Sequence[str] | None) -> Piece:
    """Delete the answers that contain the address: a request that is repeated after an erasure is a new one."""
    begin = UUID(after[0]) if after else UUID(int=0)
    found = store.answers_after(connection, begin, ANSWERS_LIMIT)
    if not found:
        return Piece()
    affected = []
    for answer in found:
        try:
            body = b64decode(erasure.vault.open(answer.body)["body"])
        except SecretsError:  # no key decrypts it any more
            affected.append(answer.key)
            continue
        if erasure.matcher.is_in(body) or erasure.matcher.is_in(answer.headers):
            affected.append(answer.key)
    deleted = store.delete_answers(connection, affected)
    return Piece(looked=len(found), others=deleted, next=[str(found[-1].key)])


STEPS: Sequence[Step] = (
    wait_for_imports,
    erase_messages,
    erase_receipts,
    erase_entries,
    *map(sweep, store.TABLES),
    clear_signatures,
    wait_for_exports,
    delete_files,
    wait_for_deliveries,
    *map(sweep, store.DELIVERY_TABLES),
    delete_answers,
)
"""In this order: exports of the list and deliveries of the log copy a table, so copies are erased after the table, and
after the processes that write them have finished.
"""
