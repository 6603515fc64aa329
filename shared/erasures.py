"""Erasing an address from everything that is kept: a pseudonym takes its place (`shared.domain.erasure`).

Receipts are changed in the only way they ever are, and marked. Their events are changed with them, and known by the
keys that the changed receipt gives: so processing it again changes nothing, and tells nothing new.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.db import erasures
from shared.db.erasures import KeptEvent, KeptReceipt, Renamed, Sweep
from shared.db.state import NewEvent
from shared.domain.erasure import Eraser, Understood

RECEIPTS_AT_ONCE = 500
_MOST_BYTES_AT_ONCE = 8 << 20
_MESSAGES_AT_ONCE = 200

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of the work that is done: how many rows were looked at, how many changed, and where the next begins."""

    looked: int = 0
    receipts: int = 0
    messages: int = 0
    entries: int = 0
    others: int = 0
    next: Sequence[str] | None = None


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


def on_the_list(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:  # noqa: ARG001
    """Erase it from the suppression list, which knows it by its key from now on."""
    entries = erasures.erase_entries(
        connection, subject.key, subject.address, subject.eraser.replacement, subject.actor, subject.now
    )
    return Piece(looked=entries, entries=entries)


def in_table(swept: Sweep) -> Step:
    """Erase it from some rows of one of the other tables."""

    def step(connection: Connection, subject: Subject, after: Sequence[str] | None) -> Piece:
        if not erasures.exists(connection, swept):
            return Piece()
        found = erasures.sweep(connection, swept, after, subject.eraser)
        return Piece(looked=found.looked, others=found.changed, next=found.next)

    return step


STEPS: Sequence[Step] = (
    in_receipts,
    in_messages,
    in_senders,
    on_the_list,
    *map(in_table, erasures.SWEEPS),
)
"""In this order: what comes of receipts is found by them, and they by what it says."""


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
