"""CloudMailin outbound: batches of delivery events behind basic authentication.

Sources: docs.cloudmailin.com "Sending email events webhook" and the history of that page (legacy kinds). No
signature is documented for these events; basic authentication from the URL's `user:pass@` is checked (RFC 7617).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from shared.addresses import strip_brackets
from shared.classification.classify import classify, find_codes
from shared.errors import PayloadError
from shared.events.event import Event
from shared.providers.webhooks import payload
from shared.providers.webhooks.authentication import BASIC_FIELDS, read_basic, require_body, verify_basic
from shared.providers.webhooks.base import SourceSettings, WebhookRequest
from shared.providers.webhooks.payload import read_identifier, read_text
from shared.vocabulary import EventType

CREDENTIAL_FIELDS = BASIC_FIELDS

# Events have neither id nor time, so two genuine soft bounces can have the same body. Retries come soon.
DEDUPE_WINDOW_SECONDS = 60

ONE_SHOT: Mapping[str, EventType] = {
    # These happen once per message and recipient: a second one is a repetition.
    "registration": EventType.QUEUED,
    "process": EventType.QUEUED,  # internal, before the dispatch
    "dispatch": EventType.SENT,
    "delivery": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "dispatch_bounce": EventType.BOUNCED,  # legacy
    "suppressed": EventType.REJECTED,
    "blocked": EventType.REJECTED,  # legacy, of the same meaning
    "spamd": EventType.REJECTED,  # legacy: refused by the check of its content
    "retries_exhausted": EventType.FAILED,
    "error": EventType.FAILED,
    "complaint": EventType.COMPLAINED,  # no longer documented
}
REPEATABLE: Mapping[str, EventType] = {
    "soft_bounce": EventType.DEFERRED,
    "dispatch_soft_bounce": EventType.DEFERRED,
    "rate_limit": EventType.RATE_LIMITED,
    "rate_limited": EventType.RATE_LIMITED,  # legacy
    "open": EventType.OPENED,
    "read": EventType.READ,
    "click": EventType.CLICKED,
    "auto_reply": EventType.AUTORESPONDED,
    "bounce_reply": EventType.REPLIED,
}
EVENTS: Mapping[str, EventType] = {**ONE_SHOT, **REPEATABLE}
_FAILURES = frozenset({EventType.DEFERRED, EventType.BOUNCED, EventType.REJECTED, EventType.FAILED})

# The contents of `details` are not documented. Look for each of these names there and beside the documented fields.
_NAMES: Mapping[str, Sequence[str]] = {
    "url": ("url", "link", "href", "target", "target_url", "clicked_url"),
    "ip": ("ip", "ip_address", "client_ip", "remote_ip"),
    "user_agent": ("user_agent", "useragent", "userAgent", "ua"),
    "remote_host": ("remote_host", "host", "hostname", "mx", "server", "remote_server"),
    "reason": (
        "reason",
        "message",
        "response",
        "smtp_response",
        "output",
        "error",
        "diagnostic",
        "description",
    ),
    "status": ("status", "smtp_status", "smtp_code", "code", "response_code"),
    "enhanced": ("enhanced_code", "enhanced_status", "smtp_enhanced_code", "dsn"),
    "subject": ("subject",),
    "sender": ("from", "sender", "mail_from"),
    "tag": ("tag", "tags"),
    "campaign": ("campaign", "campaign_id"),
    "smtp_id": ("original_message_id", "smtp_message_id"),
    "timestamp": ("timestamp", "occurred_at", "created_at"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """SHA-256 digests of the accepted `username:password` pairs."""

    accepted: Sequence[bytes]


def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Credentials:
    """Parse `{username, password, previous?: [{username, password}]}`; `previous` is for a rotation.

    Raises CredentialsError.
    """
    return Credentials(accepted=read_basic(raw))


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:  # noqa: ARG001
    """Verify basic authentication in constant time. Raises VerificationError."""
    verify_basic(request, credentials.accepted)
    require_body(request)


class _Body(msgspec.Struct):
    events: list[msgspec.Raw]


class _Item(msgspec.Struct):
    kind: str
    recipient: Any = None
    message_id: str | int | None = None
    details: Any = None


_body = msgspec.json.Decoder(_Body)
_item = msgspec.json.Decoder(_Item)
_IDENTIFYING = frozenset({"kind", "message_id"})
_everything = msgspec.json.Decoder(dict[str, Any])


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:  # noqa: ARG001
    """Return the events of `{"events": [...]}`. Raises PayloadError for any other body."""
    whole = payload.read(body)
    items = payload.align(whole, payload.decode(whole.clean, _body).events)
    events: list[Event] = []
    for item in items:
        try:
            found, _ = payload.decode_fields(item.clean, _item, _IDENTIFYING)
            everything, _ = payload.decode_fields(item.clean, _everything, _IDENTIFYING)
            events.extend(_translate(item, found, everything))
        except PayloadError as error:
            events.append(payload.refuse(item, str(error)))
    return events


def _translate(item: payload.Item, found: _Item, everything: Mapping[str, Any]) -> Iterator[Event]:
    kind = EVENTS.get(found.kind, EventType.UNKNOWN)
    details = found.details if isinstance(found.details, dict) else {}
    named = {name: _find(names, details, everything) for name, names in _NAMES.items()}
    kept = payload.plain(details) if details else payload.present(details=found.details or None)
    tags = named["tag"]  # may be a list: use the first one; `details` keep them all
    message_id = read_identifier(found.message_id)
    occurred_at = payload.read_time(named["timestamp"])
    if occurred_at is None and named["timestamp"] is not None:
        kept = {**kept, "timestamp": payload.plain(named["timestamp"])}
    reason = read_text(named["reason"])
    smtp_status, enhanced_code = find_codes(read_text(named["status"]), read_text(named["enhanced"]), reason)
    # A time, should it be there, tells repeatable events apart; without it two genuine ones look alike.
    identity = payload.fingerprint(item.clean) if occurred_at else None
    identity_at = occurred_at
    if found.kind in ONE_SHOT and message_id:
        identity, identity_at = f"{found.kind}:{message_id}", None  # whatever time a repetition gives
    classification = None
    if kind in _FAILURES:
        classification = classify(word=found.kind, enhanced_code=enhanced_code, smtp_status=smtp_status, text=reason)
    for recipient in payload.read_addresses(found.recipient):
        yield Event(
            type=kind,
            provider_object=item.exact,
            identity=identity,
            identity_at=identity_at,
            message_key=f"id:{message_id}" if message_id else None,
            recipient=recipient,
            occurred_at=occurred_at,
            sender=payload.read_address(named["sender"]),
            subject=read_text(named["subject"]),
            smtp_id=read_identifier(strip_brackets(read_text(named["smtp_id"]) or "")),
            provider_message_id=message_id,
            classification=classification,
            smtp_status=smtp_status,
            enhanced_code=enhanced_code,
            reason=reason,
            remote_host=read_text(named["remote_host"]),
            url=read_text(named["url"]),
            ip=read_text(named["ip"]),
            user_agent=read_text(named["user_agent"]),
            tag=read_identifier(tags[0] if isinstance(tags, list) else tags),
            campaign=read_identifier(named["campaign"]),
            details=kept,
            problem=f"Unknown event kind: {payload.quote(found.kind)}" if kind is EventType.UNKNOWN else None,
        )


def _find(names: Sequence[str], *places: Mapping[str, Any]) -> object:
    for place in places:
        for name in names:
            if (value := place.get(name)) not in (None, "", [], {}):
                return value
    return None
