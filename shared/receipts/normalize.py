"""From a stored receipt to the rows of its events."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from shared import ids
from shared.events import bots
from shared.events import event as events_event
from shared.events.event import Event
from shared.messages.state import RANKS, STANDINGS, WITHOUT_MESSAGE
from shared.messages.store import NewEvent
from shared.sources.source import Source
from shared.vocabulary import CHANGE_TYPES

_encode = msgspec.json.Encoder().encode

_MOST_AHEAD: Final = timedelta(days=1)
"""No clock that is merely wrong about its time zone is further ahead."""

_EFFECTS = {
    event_type: (int(weight), RANKS[status] if status else -1, None if status is None else str(status))
    for event_type, (weight, status) in STANDINGS.items()
}
_IN_DATA = (
    "sender",
    "subject",
    "request_id",
    "smtp_id",
    "provider_message_id",
    "tenant",
    "tag",
    "campaign",
    "remote_host",
    "url",
    "ip",
    "user_agent",
    "metadata",
    "problem",
)
"""The fields of an event that are kept as JSON, where they have a value; beside them `details` and `automated`."""


def rows(source: Source, receipt_id: UUID, received_at: datetime, body: bytes) -> list[NewEvent]:
    """The events of a body, as they are stored. Raises PayloadError."""
    parsed = source.provider.parse(body, source.credentials)
    return [_row(source.id, receipt_id, received_at, position, event) for position, event in enumerate(parsed)]


def _row(source_id: int, receipt_id: UUID, received_at: datetime, position: int, event: Event) -> NewEvent:
    # Without an identity of its own an event is what stands at this position of this receipt.
    identity = event.identity if event.identity is not None else f"{receipt_id}:{position}"
    weight, rank, status = _EFFECTS[event.type]
    message_key = None if event.type in WITHOUT_MESSAGE else event.message_key
    return NewEvent(
        id=ids.event_id(receipt_id, position),
        receipt_id=receipt_id,
        source_id=source_id,
        key=events_event.event_key(source_id, identity, event.recipient),
        type=event.type,
        message_id=None if message_key is None else events_event.message_id(source_id, message_key),
        recipient=event.recipient,
        occurred_at=_happened(event.occurred_at, received_at),
        received_at=received_at,
        sender=event.sender,
        subject=event.subject,
        provider_message_id=event.provider_message_id,
        request_id=event.request_id,
        smtp_id=event.smtp_id,
        tenant=event.tenant,
        tag=event.tag,
        campaign=event.campaign,
        classification=event.classification,
        smtp_status=event.smtp_status,
        enhanced_code=event.enhanced_code,
        reason=event.reason,
        data=_data(event),
        provider_object=event.provider_object.decode(),
        weight=weight,
        rank=rank,
        status=status,
        change_type=CHANGE_TYPES[event.type],
    )


def _happened(stated: datetime | None, received_at: datetime) -> datetime:
    """When it happened: a time far ahead would stand above everything that is told later, for years."""
    return received_at if stated is None or stated - received_at > _MOST_AHEAD else stated


def _data(event: Event) -> str:
    data: dict[str, Any] = {name: value for name in _IN_DATA if (value := getattr(event, name)) is not None}
    if event.details:
        data["details"] = event.details
    if sign := bots.detect(event.type, event.user_agent, event.ip):
        data["automated"] = sign
    return _encode(data).decode()
