"""Erasing an address from everything that is kept: a pseudonym takes its place (`shared.domain.erasure`).

Receipts are changed in the only way they ever are, and marked. Their events are changed with them, and known by the
keys that the changed receipt gives: so processing it again changes nothing, and tells nothing new.
"""

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.db import bystanders, erasure_sweeps, erasures
from shared.db.erasure_sweeps import Sweep
from shared.db.erasures import KeptAnswer, KeptEvent, KeptReceipt, Renamed
from shared.domain.erasure import Eraser, Understood
from shared.encryption import SecretsError, Vault
from shared.messages.store import NewEvent
from shared.suppression import jobs as suppression_jobs

RECEIPTS_AT_ONCE = 500
_MOST_BYTES_AT_ONCE = 8 << 20
_MESSAGES_AT_ONCE = 200
_ANSWERS_AT_ONCE = 500
_LIST_JOBS = (suppression_jobs.IMPORT, suppression_jobs.EXPORT)
_REMEMBERED_SECONDS = 11.0  # deliverers keep a change that they have read for ten, and begin their calls right then

Read = Callable[[KeptReceipt], Sequence[NewEvent] | None]
"""The events of a receipt, or None where it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose address is erased: normalized, with its key. Receipts from `until` on have come too late."""

    address: str
    key: str
    eraser: Eraser
    until: UUID
    actor: str
    now: datetime
    read: Read
    vault: Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of the work that is done: how many rows were looked at, how many changed, and where the next begins.

    `waits` is whether others are in the way: a moment later the same may be possible.
    """

    looked: int = 0
    receipts: int = 0
    messages: int = 0
    entries: int = 0
    others: int = 0
    next: Sequence[str] | None = None
    waits: bool = False


Step = Callable[[Connection, Subject, Sequence[str] | None], Piece]
"""Does a piece, from where the last one ended; everything it does may be repeated."""


def in_receipts(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:
    """Erase it from some receipts, and from all that came of them."""
    begin = UUID(after[0]) if after else UUID(int=0)
    found = erasures.receipts_after(
        connection, begin, subject.until, limit=RECEIPTS_AT_ONCE, most_bytes=_MOST_BYTES_AT_ONCE
    )
    if not found:
        return Piece()
    holding = [receipt.id for receipt in found if _replaced(receipt, subject.eraser) != receipt]
    receipts, messages = _rewrite(connection, subject, holding, subject.eraser)
    return Piece(looked=len(found), receipts=receipts, messages=messages, next=[str(found[-1].id)])


def in_messages(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:
    """Erase it from some of the recipient's messages, whether they had events or were only announced.

    What was understood as this address and is written as nobody would (comments inside, say) is found here.
    """
    begin = UUID(after[0]) if after else UUID(int=0)
    found = erasures.messages_to(connection, subject.address, begin, _MESSAGES_AT_ONCE)
    if not found:
        return Piece()
    odd = erasures.receipts_about(connection, subject.address, found)
    receipts, _ = _rewrite(connection, subject, odd, Understood(subject.address, subject.eraser.replacement))
    messages = erasures.erase_messages(connection, found, subject.address, subject.eraser)
    return Piece(looked=len(found), receipts=receipts, messages=messages, next=[str(found[-1])])


def in_senders(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:  # noqa: ARG001
    """Erase it from some of the messages that it is the sender of."""
    found = erasures.messages_from(connection, subject.address, _MESSAGES_AT_ONCE)
    if not found:
        return Piece()
    messages = erasures.erase_messages(connection, found, subject.address, subject.eraser)
    return Piece(looked=len(found), messages=messages, next=[] if messages else None)


def out_of_jobs(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:  # noqa: ARG001
    """Have imports read again, as the receipts' workers do: what they have read is still the address."""
    return Piece() if bystanders.take_from_jobs(connection, _LIST_JOBS) else Piece(next=[], waits=True)


def on_the_list(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:  # noqa: ARG001
    """Erase it from the suppression list, which knows it by its key from now on.

    No import writes meanwhile what was staged with the address, and no export what it has read of the list.
    """
    if not bystanders.take_from_jobs(connection, _LIST_JOBS):
        return Piece(next=[], waits=True)
    entries = erasures.erase_entries(
        connection, subject.key, subject.address, subject.eraser.replacement, subject.actor, subject.now
    )
    return Piece(looked=entries, entries=entries)


def in_table(swept: Sweep) -> Step:
    """Erase it from some rows of one of the other tables."""

    def step(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:
        if not erasure_sweeps.exists(connection, swept):
            return Piece()
        found = erasure_sweeps.sweep(connection, swept, after, subject.eraser)
        return Piece(looked=found.looked, others=found.changed, next=found.next)

    return step


def out_of_deliveries(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:  # noqa: ARG001
    """Wait for the deliveries of what the log said before: what was sent is noted when the call has ended."""
    if not after:
        moment = bystanders.deliverers_forget_at(connection, _REMEMBERED_SECONDS)
        return Piece() if moment is None else Piece(next=[moment.isoformat()])
    return Piece(next=after, waits=True) if bystanders.calls_since_before(connection, after[0]) else Piece()


def in_answers(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:
    """Forget the answers that hold it: a request that is repeated after an erasure is a new one."""
    begin = UUID(after[0]) if after else UUID(int=0)
    found = erasures.answers_after(connection, begin, _ANSWERS_AT_ONCE)
    if not found:
        return Piece()
    forgotten = erasures.forget_answers(connection, [answer.key for answer in found if _holds(answer, subject)])
    return Piece(looked=len(found), others=forgotten, next=[str(found[-1].key)])


STEPS: Sequence[Step] = (
    in_receipts,
    in_messages,
    in_senders,
    in_table(erasure_sweeps.GIVEN_FILES),
    out_of_jobs,
    in_table(erasure_sweeps.STAGED),
    on_the_list,
    *map(in_table, erasure_sweeps.OTHERS),
    out_of_deliveries,
    *map(in_table, erasure_sweeps.DELIVERED),
    in_answers,
)
"""In this order: what comes of receipts is found by them, and they by what it says; and what others make of a table,
such as imports of their files, or deliverers of the log, is gone through after it and after them.
"""


def _holds(answer: KeptAnswer, subject: Subject) -> bool:
    """Whether the address stands in an answer; also where nobody can read it any more."""
    try:
        body = b64decode(subject.vault.open(answer.body)["body"])
    except SecretsError:
        return True
    return subject.eraser.erase_bytes(body) is not body or subject.eraser.erase(answer.headers) is not answer.headers


def _rewrite(connection: Connection, subject: Subject, receipt_ids: Sequence[UUID], eraser: Eraser) -> tuple[int, int]:
    """Change these receipts and all that came of them; return how many of them and of their messages were changed."""
    if not receipt_ids:
        return 0, 0
    changed = 0
    messages: set[UUID] = set()
    for before in erasures.hold(connection, receipt_ids):
        after = _replaced(before, eraser)
        if after != before:
            erasures.write_receipt(connection, after, subject.now)
            changed += 1
        keys = _new_keys(subject, before, after)
        events = erasures.events_of(connection, before.id)
        altered = [(event, new) for event in events if (new := _replaced_event(event, subject, eraser, keys)) != event]
        erasures.write_events(connection, [new for _, new in altered])
        erasures.rename_keys(connection, [_renamed(event, new) for event, new in altered if event.key != new.key])
        messages |= {event.message_id for event, _ in altered if event.message_id}
    return changed, erasures.erase_messages(connection, messages, subject.address, eraser)


def _replaced(receipt: KeptReceipt, eraser: Eraser) -> KeptReceipt:
    return receipt._replace(
        idempotency_key=receipt.idempotency_key and eraser.erase(receipt.idempotency_key),
        headers=eraser.erase(receipt.headers),
        body=eraser.erase_bytes(receipt.body),
    )


def _replaced_event(event: KeptEvent, subject: Subject, eraser: Eraser, keys: Mapping[str, str]) -> KeptEvent:
    named = event.recipient == subject.address
    return event._replace(
        key=keys.get(event.key, event.key),
        recipient=eraser.replacement if named else event.recipient and eraser.erase(event.recipient),
        reason=event.reason and eraser.erase(event.reason),
        data=eraser.erase(event.data),
        provider_object=eraser.erase(event.provider_object),
    )


def _renamed(event: KeptEvent, new: KeptEvent) -> Renamed:
    return Renamed(event.id, event.message_id, event.recipient or "", event.key, new.key)


def _new_keys(subject: Subject, before: KeptReceipt, after: KeptReceipt) -> Mapping[str, str]:
    """The keys by which events are known from now on, by those of before: keys are made of what they say."""
    if before.body == after.body:
        return {}
    old, new = subject.read(before), subject.read(after)
    if old is None or new is None or len(old) != len(new):
        return {}
    return {event.key: other.key for event, other in zip(old, new, strict=True) if event.key != other.key}
