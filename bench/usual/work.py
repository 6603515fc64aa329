"""How the usual way processes one event, in the transaction of its task."""

from datetime import UTC, datetime
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from bench.usual.models import ChangeRecord, CountRecord, EventKeyRecord, EventRecord, MessageRecord, StateRecord
from shared.messages.store import NewEvent

_EVENT_COLUMNS = (
    "id",
    "receipt_id",
    "source_id",
    "type",
    "recipient",
    "occurred_at",
    "received_at",
    "classification",
    "smtp_status",
    "enhanced_code",
    "reason",
    "data",
    "provider_object",
)
_OF_MESSAGE = ("provider_message_id", "request_id", "smtp_id", "sender", "subject", "tenant", "tag", "campaign")
_OF_STANDING = ("weight", "rank", "status", "classification", "smtp_status", "enhanced_code", "reason")
_COUNTED = {"opened": ("opens", "opened_at"), "clicked": ("clicks", "clicked_at"), "read": ("reads", "read_at")}
_LATEST = {"unsubscribed": "unsubscribed_at", "subscribed": "subscribed_at"}
_OF_COUNT = ("dimension", "minute", "source_id", "value", "type", "shard")
_MAX_SILENT = 1
"""Events up to this weight do not determine the delivery state, and are recorded beside it."""


def include_object(event: NewEvent, body: bytes) -> NewEvent:
    """Return the event with its provider's object, which is a part of the body."""
    place = event.shared or event
    if place.object_at is None or place.object_length is None:
        return event
    text = body[place.object_at : place.object_at + place.object_length].decode()
    shared = None if event.shared is None else replace(event.shared, provider_object=text)
    return replace(event, provider_object=text, shared=shared)


def apply(session: Session, event: NewEvent) -> None:
    """Keep an event that is new, let it change the state of its message and recipient, and count it."""
    key = UUID(event.key)
    new = insert(EventKeyRecord).values(key=key, event_id=event.id).on_conflict_do_nothing()
    if session.execute(new.returning(EventKeyRecord.key)).first():
        _keep(session, event, key)
        _tally(session, event)


def _keep(session: Session, event: NewEvent, key: UUID) -> None:
    message_id = None if event.message_key is None else UUID(event.message_key)
    columns = {name: getattr(event, name) for name in _EVENT_COLUMNS}
    if event.shared is not None:
        columns["provider_object"] = event.shared.provider_object
    session.add(EventRecord(key=key, message_id=message_id, **columns))
    if message_id is None:
        _log(session, event, None, None)
        return
    _keep_message(session, event, message_id)
    state, is_new = _state(session, event, message_id, key)
    previous = state.status
    rose = is_new or _fold(state, event, key)
    if is_new:
        previous = None
    if rose or event.weight <= _MAX_SILENT:
        _log(session, event, state, previous)


def _keep_message(session: Session, event: NewEvent, message_id: UUID) -> None:
    """Make the message, or add to it what this event knows; of two words the lesser stays."""
    known = {name: getattr(event, name) for name in _OF_MESSAGE}
    message = session.get(MessageRecord, message_id, with_for_update=True)
    if message is None:
        fresh = insert(MessageRecord).values(
            id=message_id,
            source_id=event.source_id,
            created_at=event.received_at,
            first_event_at=event.occurred_at,
            **known,
        )
        if session.execute(fresh.on_conflict_do_nothing().returning(MessageRecord.id)).first():
            return
        message = session.get_one(MessageRecord, message_id, with_for_update=True)  # another worker was quicker
    message.first_event_at = min(message.first_event_at, event.occurred_at)
    for name, value in known.items():
        current = getattr(message, name)
        if value is not None and (current is None or value < current):
            setattr(message, name, value)


def _state(session: Session, event: NewEvent, message_id: UUID, key: UUID) -> tuple[StateRecord, bool]:
    """Return the recipient's state, locked, and whether it was made just now, of this event."""
    identity = (message_id, event.recipient or "")
    state = session.get(StateRecord, identity, with_for_update=True)
    if state is not None:
        return state, False
    values = _first(event, message_id, key)
    fresh = insert(StateRecord).values(**values).on_conflict_do_nothing()
    if session.execute(fresh.returning(StateRecord.message_id)).first():
        return StateRecord(**values), True
    return session.get_one(StateRecord, identity, with_for_update=True), False  # another worker was quicker


def _first(event: NewEvent, message_id: UUID, key: UUID) -> dict[str, object]:
    state = StateRecord(opens=0, clicks=0, reads=0, remarks=0)
    _count(state, event)
    return {
        "message_id": message_id,
        "recipient": event.recipient or "",
        "source_id": event.source_id,
        "smtp_id": event.smtp_id,
        "status_at": event.occurred_at,
        "status_key": key,
        "status_event_id": event.id,
        **{name: getattr(event, name) for name in _OF_STANDING},
        **{name: getattr(state, name) for name in ("opens", "clicks", "reads", "remarks")},
        **{name: getattr(state, name) for name in ("opened_at", "clicked_at", "read_at", "complained_at")},
        **{name: getattr(state, name) for name in ("unsubscribed_at", "subscribed_at")},
        "version": 1,
        "updated_at": datetime.now(UTC),
    }


def _fold(state: StateRecord, event: NewEvent, key: UUID) -> bool:
    """Merge an event into a locked state; return whether the status has changed."""
    theirs = (event.weight, event.occurred_at, event.rank, key)
    rises = theirs > (state.weight, state.status_at, state.rank, state.status_key)
    if rises:
        state.previous_status = state.status
        state.status_at, state.status_key, state.status_event_id = event.occurred_at, key, event.id
        for name in _OF_STANDING:
            setattr(state, name, getattr(event, name))
    _count(state, event)
    if event.smtp_id is not None and (state.smtp_id is None or event.smtp_id < state.smtp_id):
        state.smtp_id = event.smtp_id
    if rises or event.weight <= _MAX_SILENT:
        state.version += 1
        state.updated_at = datetime.now(UTC)
    return rises


def _count(state: StateRecord, event: NewEvent) -> None:
    if event.weight <= _MAX_SILENT:
        state.remarks += 1
    if event.type in _COUNTED:
        counter, first = _COUNTED[event.type]
        setattr(state, counter, getattr(state, counter) + 1)
        setattr(state, first, min(getattr(state, first) or event.occurred_at, event.occurred_at))
    if event.type == "complained":
        state.complained_at = min(state.complained_at or event.occurred_at, event.occurred_at)
    if event.type in _LATEST:
        name = _LATEST[event.type]
        setattr(state, name, max(getattr(state, name) or event.occurred_at, event.occurred_at))


def _tally(session: Session, event: NewEvent) -> None:
    """Count last: other transactions that count in this minute wait for this row."""
    minute = min(event.occurred_at, event.received_at).replace(second=0, microsecond=0)
    one = insert(CountRecord).values(
        dimension="",
        minute=minute,
        source_id=event.source_id,
        value="",
        type=event.type,
        shard=0,
        count=1,
        last_event_id=event.id,
    )
    counted = {
        "count": CountRecord.count + 1,
        "last_event_id": func.greatest(CountRecord.last_event_id, one.excluded.last_event_id),
    }
    session.execute(one.on_conflict_do_update(index_elements=_OF_COUNT, set_=counted))


def _log(session: Session, event: NewEvent, state: StateRecord | None, previous: str | None) -> None:
    status = state.status if state else None
    reported = previous if state and state.status_event_id == event.id else status
    session.add(
        ChangeRecord(
            type=event.change_type,
            source_id=event.source_id,
            message_id=None if event.message_key is None else UUID(event.message_key),
            recipient=event.recipient,
            event_id=event.id,
            status=status,
            previous_status=reported,
            version=state.version if state else None,
        )
    )
