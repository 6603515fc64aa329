"""Normalization: from the body of a receipt to the rows of its events."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from shared import ids
from shared.events import bots
from shared.events import event as event_ids
from shared.messages.state import RANKS, STATUS_EFFECTS, WITHOUT_MESSAGE
from shared.messages.store import NewEvent
from shared.sources.source import Source
from shared.vocabulary import CHANGE_TYPES

_encode = msgspec.json.Encoder().encode

_MAX_CLOCK_AHEAD: Final = timedelta(days=1)
"""A provider's clock with a wrong time zone is at most this far ahead."""

_EFFECTS = {
    event_type: (int(weight), RANKS[status] if status else -1, None if status is None else str(status))
    for event_type, (weight, status) in STATUS_EFFECTS.items()
}
_DATA_FIELDS = (
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
"""The fields of an event that are stored as JSON if they have a value, beside `details` and `automated`."""


def parse_events(source: Source, receipt_id: UUID, received_at: datetime, body: bytes) -> list[NewEvent]:
    """Parse a body and return its events as rows. Raises PayloadError."""
    found = []
    for position, event in enumerate(source.provider.parse(body, source.credentials)):
        # Without an identity from the provider, the position in the receipt identifies the event.
        identity = event.identity if event.identity is not None else f"{receipt_id}:{position}"
        weight, rank, status = _EFFECTS[event.type]
        message_key = None if event.type in WITHOUT_MESSAGE else event.message_key
        # A time far ahead would outrank all later events for years.
        occurred_at = event.occurred_at
        details = event.details
        if occurred_at is not None and occurred_at - received_at > _MAX_CLOCK_AHEAD:
            details = {**details, "unusable_time": occurred_at.isoformat()}
            occurred_at = None
        if occurred_at is None:
            occurred_at = received_at
        data: dict[str, Any] = {name: value for name in _DATA_FIELDS if (value := getattr(event, name)) is not None}
        if details:
            data["details"] = details
        if sign := bots.detect_automation(event.type, event.user_agent, event.ip):
            data["automated"] = sign
        found.append(
            NewEvent(
                id=ids.event_id(receipt_id, position),
                receipt_id=receipt_id,
                source_id=source.id,
                key=event_ids.event_key(source.id, identity, event.recipient),
                type=event.type,
                message_id=None if message_key is None else event_ids.message_id(source.id, message_key),
                recipient=event.recipient,
                occurred_at=occurred_at,
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
                data=_encode(data).decode(),
                provider_object=event.provider_object.decode(),
                weight=weight,
                rank=rank,
                status=status,
                change_type=CHANGE_TYPES[event.type],
            )
        )
    return found
