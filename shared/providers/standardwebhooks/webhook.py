"""Any sender that signs by Standard Webhooks: `{type, timestamp, data}`, and Loops' and Tidings' own form of it.

Source: the payload that the specification suggests; loops.so/docs/api-reference/webhooks. The names of the fields are
not standardized, so the usual ones are looked for.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from shared.events.event import Event
from shared.providers.webhooks import payload
from shared.providers.webhooks.translation import at, first, named, parse_object, translate
from shared.vocabulary import EventType

EVENTS: Mapping[str, EventType] = {
    **{str(kind): kind for kind in EventType if kind is not EventType.UNKNOWN},
    "accepted": EventType.QUEUED,
    "scheduled": EventType.QUEUED,
    "reception": EventType.QUEUED,
    "processed": EventType.QUEUED,
    "transient_error": EventType.DEFERRED,
    "delayed": EventType.DEFERRED,
    "delivery_delayed": EventType.DEFERRED,
    "soft_bounced": EventType.DEFERRED,
    "soft_bounce": EventType.DEFERRED,
    "hard_bounced": EventType.BOUNCED,
    "hard_bounce": EventType.BOUNCED,
    "bounce": EventType.BOUNCED,
    "suppressed": EventType.REJECTED,
    "dropped": EventType.REJECTED,
    "complaint": EventType.COMPLAINED,
    "spam_reported": EventType.COMPLAINED,
    "spam_complaint": EventType.COMPLAINED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "received": EventType.INBOUND,
    "ping": EventType.TEST,
}
_PREFIXES = frozenset({"email", "message", "mail", "transactional", "campaign", "loop", "webhook", "event"})
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_RECIPIENT = ("recipient", "recipients", "to", "email_address", "rcpt_to", "address")
_MESSAGE = ("email_id", "message_id", "provider_message_id", "emailMessageId", "messageId")
_PLACES = ("data", "email", "contactIdentity", "event", "message")


def parse(body: bytes, _credentials: object, /) -> list[Event]:
    """Return the event of a body, once for each recipient. Raises PayloadError if it is not an object."""
    return parse_object(body, _translate)


def _translate(item: payload.Item, value: Mapping[str, Any]) -> list[Event]:
    data = value.get("data") if isinstance(value.get("data"), dict) else {}
    places = [
        place
        for part in (data, value)
        for place in (part, *(at(part, name) for name in _PLACES))
        if isinstance(place, dict)
    ]
    word = first(value.get("type"), value.get("eventName"), value.get("event"), value.get("event_type"))
    email = _find(places, ("email",))
    address = next((place["email"] for place in places if isinstance(place.get("email"), str)), None)
    message_id = payload.read_identifier(first(_find(places, _MESSAGE), at(email, "id")))
    return translate(
        item,
        named(_shorten(word), EVENTS),
        word=word,
        recipients=first(_find(places, _RECIPIENT), address),
        identity=first(value.get("id"), value.get("event_id")),
        occurred_at=first(*(value.get(name) for name in ("timestamp", "created_at", "eventTime", "occurred_at"))),
        message_key=f"id:{message_id}" if message_id else None,
        sender=_find(places, ("from", "sender")),
        subject=_find(places, ("subject",)),
        smtp_id=_find(places, ("smtp_id", "message_id_header", "internet_message_id")),
        request_id=_find(places, ("request_id",)),
        provider_message_id=message_id,
        failure=_find(places, ("classification", "bounce_type")),
        smtp_status=_find(places, ("smtp_status", "smtp_code", "code", "status_code")),
        enhanced_code=_find(places, ("enhanced_code", "enhanced_status_code")),
        reason=_find(places, ("reason", "response", "error", "diagnostic", "description")),
        url=_find(places, ("url", "link")),
        ip=_find(places, ("ip", "ip_address", "ipAddress")),
        user_agent=_find(places, ("user_agent", "userAgent")),
        tags=_find(places, ("tags", "tag")),
        campaign=_find(places, ("campaign", "campaignId", "campaign_id")),
        metadata=_find(places, ("metadata",)),
        is_automated=_find(places, ("is_bot", "bot")) is True,
    )


def _shorten(word: object) -> str | None:
    """Return a word without its prefixes, in lower case: `email.hardBounced` and `message.hard_bounced` are one."""
    text = payload.read_text(word) if isinstance(word, str) else None
    if text is None:
        return None
    parts = [_CAPITAL.sub("_", part).lower().replace("-", "_") for part in text.strip().split(".")]
    kept = [part for part in parts if part not in _PREFIXES]
    return ".".join(kept) or parts[-1]


def _find(places: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    return first(*(place.get(name) for name in names for place in places))
