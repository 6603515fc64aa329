"""MailChannels Email API: signed arrays of delivery events.

Sources: docs.mailchannels.com "Delivery Events" and its JSON schema; the verification of the official SDKs.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from shared.addresses import strip_brackets
from shared.classification.classify import classify, find_codes
from shared.errors import PayloadError
from shared.events.event import Event
from shared.events.identity import scope_to_tenant
from shared.providers.mailchannels.credentials import Credentials
from shared.providers.webhooks import http_signatures, payload
from shared.providers.webhooks.base import KeyLookup, WebhookRequest
from shared.providers.webhooks.elliptic import read_ed25519
from shared.vocabulary import EventType, SetAsideReason

EVENTS: Mapping[str, EventType] = {
    "processed": EventType.QUEUED,
    "delivered": EventType.DELIVERED,
    "soft-bounced": EventType.DEFERRED,
    "hard-bounced": EventType.BOUNCED,
    "dropped": EventType.REJECTED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "complained": EventType.COMPLAINED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "test": EventType.TEST,
}
_FAILURES = frozenset({EventType.DEFERRED, EventType.BOUNCED, EventType.REJECTED})


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:
    """Verify the RFC 9421 signature (Ed25519 over Content-Digest, at most 5 minutes old). Raises VerificationError."""
    http_signatures.verify(request, credentials.public_keys, now)


def tenants(credentials: Credentials, /) -> frozenset[str]:
    """Return the accepted account handles; every event names one. Sub-accounts are not known by name."""
    return frozenset() if credentials.sub_accounts else credentials.customer_handles


def key_lookup(key_id: str, /) -> KeyLookup:
    """Return the public-key endpoint, which needs no API key."""
    url = "https://api.mailchannels.net/tx/v1/webhook/public-key"
    return KeyLookup(url=url, api_path="webhook/public-key", query={"id": key_id})


class _KeyDocument(msgspec.Struct):
    id: str
    key: str


_key_document = msgspec.json.Decoder(_KeyDocument)


def read_keys(document: bytes, _key_id: str, /) -> Mapping[str, str]:
    """Return the key of `{"id", "key"}` by its id. Raises PayloadError."""
    found, _ = payload.decode_fields(payload.read(document).clean, _key_document, frozenset({"id", "key"}))
    if not found.id or read_ed25519(found.key) is None:
        raise PayloadError(f"The document has no Ed25519 key: {payload.quote(found.key)}")
    return {found.id: found.key}


class _Item(msgspec.Struct, gc=False):
    event: str
    customer_handle: str
    timestamp: int | float | str | None = None
    email: Any = None
    request_id: str | int | None = None
    smtp_id: str | None = None
    campaign_id: str | int | None = None
    recipients: Any = None
    status: str | int | None = None
    reason: str | None = None
    user_agent: str | None = None
    ip: str | None = None
    url: str | None = None


_item = msgspec.json.Decoder(_Item)
_IDENTIFYING = frozenset({"event", "customer_handle", "request_id", "smtp_id"})


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:
    """Return the events of an array, up to a thousand. Raises PayloadError if the body is not an array."""
    events: list[Event] = []
    for item in payload.split(body):
        try:
            found, unread = payload.decode_fields(item.clean, _item, _IDENTIFYING)
            translated = _translate(item, found, unread)
            if credentials.accepts(found.customer_handle):
                events.extend(translated)
            else:
                problem = f"Of another account: {payload.quote(found.customer_handle)}"
                problem += "; settings.sub_accounts accepts sub-accounts"
                events.append(payload.set_aside(translated[0], problem, SetAsideReason.OTHER_ACCOUNT))
        except PayloadError as error:
            events.append(payload.refuse(item, str(error)))
    return events


def _translate(item: payload.Item, found: _Item, unread: Sequence[str]) -> Sequence[Event]:
    kind = EVENTS.get(found.event, EventType.UNKNOWN)
    identity = payload.fingerprint(item.clean)
    request_id = payload.read_identifier(found.request_id)
    smtp_id = payload.read_identifier(found.smtp_id and strip_brackets(found.smtp_id))
    occurred_at = payload.read_time(found.timestamp)
    smtp_status = enhanced_code = classification = None
    if found.status is not None or found.reason:
        smtp_status, enhanced_code = find_codes(payload.read_text(found.status), found.reason)
    if kind in _FAILURES:
        classification = classify(
            word=found.event, enhanced_code=enhanced_code, smtp_status=smtp_status, text=found.reason
        )
    recipients = payload.read_addresses(found.recipients)
    event = Event(
        type=kind,
        provider_object=item.exact,
        identity=identity,
        identity_at=occurred_at,
        message_key=_name_message(kind, found, request_id, smtp_id, identity),
        recipient=recipients[0],
        occurred_at=occurred_at,
        sender=payload.read_address(found.email),
        request_id=request_id,
        smtp_id=smtp_id,
        tenant=payload.read_identifier(found.customer_handle),
        classification=classification,
        smtp_status=smtp_status,
        enhanced_code=enhanced_code,
        reason=found.reason or None,
        url=found.url or None,
        ip=found.ip or None,
        user_agent=found.user_agent or None,
        campaign=payload.read_identifier(found.campaign_id),
        details=payload.present(timestamp=None if occurred_at else found.timestamp, unread=unread or None)
        if unread or not occurred_at
        else {},
        problem=f"An event of a new kind: {payload.quote(found.event)}" if kind is EventType.UNKNOWN else None,
    )
    return [event, *(replace(event, recipient=recipient) for recipient in recipients[1:])]


def _name_message(
    kind: EventType, found: _Item, request_id: str | None, smtp_id: str | None, identity: str
) -> str | None:
    if kind is EventType.TEST:
        return None  # the message of a test event was never sent
    if request_id:
        return f"request:{request_id}"
    # Some events name nothing at all (an open may not): each of them stands alone.
    return scope_to_tenant(found.customer_handle, f"smtp:{smtp_id}") if smtp_id else f"event:{identity}"
