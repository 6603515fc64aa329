"""The recorded answers of recipients about their mailboxes.

An answer is stored with a hash of the address, as suppressions are, so that erasing a person leaves nothing to find.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as upsert

from shared.addresses import normalize
from shared.diagnosis.model import Answer, Place, RecipientAnswer
from shared.errors import InvalidFieldError
from shared.messages.queries import Message
from shared.messages.tables import recipient_answers
from shared.suppression.recipient_hashes import RecipientHasher


def read_answer(text: str) -> tuple[Place, Answer]:
    """Return the place and the answer of a text such as `spam=not_found`. Raises InvalidFieldError."""
    place, separator, answer = text.partition("=")
    try:
        return Place(place), Answer(answer)
    except ValueError:
        allowed = f"PLACE=ANSWER with a place of {', '.join(Place)} and an answer of {', '.join(Answer)}"
        message = f"--answer must be {allowed}, such as spam=not_found; it is {text!r}."
        raise InvalidFieldError("answer", text if separator else place, message) from None


def choose_recipient(message: Message, recipient: str | None) -> str:
    """Return the recipient who answered: the one that is named, or the only one. Raises InvalidFieldError."""
    named = [row.recipient for row in message.recipients if row.recipient]
    if recipient is None and len(named) == 1:
        return str(named[0])
    if recipient is None:
        count = f"has {len(named)} recipients" if named else "has no event that names a recipient"
        raise InvalidFieldError("recipient", None, f"recipient must say who answered: message {message.id} {count}.")
    chosen = normalize(recipient)
    if named and chosen not in named and message.next_recipients is None:
        shown = ", ".join(named[:5])
        raise InvalidFieldError(
            "recipient", recipient, f"{recipient!r} is not a recipient of message {message.id}: {shown}."
        )
    return chosen


def record_answers(
    connection: Connection,
    hasher: RecipientHasher,
    message_id: UUID,
    recipient: str,
    answers: Mapping[Place, Answer],
    *,
    recorded_by: str,
    now: datetime,
) -> None:
    """Store what a recipient answered. A later answer about the same place replaces the earlier one."""
    if not answers:
        return
    rows = [
        {
            "message_id": message_id,
            "recipient_key": hasher.hash_address(recipient),
            "place": place,
            "answer": answer,
            "answered_at": now,
            "recorded_by": recorded_by,
        }
        for place, answer in answers.items()
    ]
    statement = upsert(recipient_answers).values(rows)
    changed = {name: statement.excluded[name] for name in ("answer", "answered_at", "recorded_by")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["message_id", "recipient_key", "place"], set_=changed)
    )


def list_answers(
    connection: Connection, hasher: RecipientHasher, message_id: UUID, recipients: Sequence[str]
) -> tuple[RecipientAnswer, ...]:
    """Return what these recipients of a message answered, in the order of the recipients and places."""
    names = {hasher.hash_address(recipient): recipient for recipient in recipients}
    found = connection.execute(select(recipient_answers).where(recipient_answers.c.message_id == message_id))
    answers = [
        RecipientAnswer(
            recipient=names[row.recipient_key],
            place=Place(row.place),
            answer=Answer(row.answer),
            answered_at=row.answered_at,
            recorded_by=row.recorded_by,
        )
        for row in found
        if row.recipient_key in names
    ]
    order = list(Place)
    return tuple(sorted(answers, key=lambda one: (recipients.index(one.recipient), order.index(one.place))))
