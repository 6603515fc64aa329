"""The events of Postal and of Ark, which extends Postal's format.

Sources: postalserver/postal `app/models`, Ark's pages of its events.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from shared.addresses import strip_brackets
from shared.classification.classify import classify, find_codes
from shared.errors import PayloadError
from shared.events.event import Event
from shared.events.identity import scope_to_tenant
from shared.providers.webhooks import payload
from shared.providers.webhooks.payload import read_identifier, read_text
from shared.providers.webhooks.postal_payloads import (
    BODY,
    ENVELOPE,
    IDENTIFYING,
    OBJECT,
    Body,
    Message,
    Payload,
    guess_name,
)
from shared.vocabulary import EventType, SetAsideReason

EVENTS: Mapping[str, EventType] = {
    "MessageSent": EventType.DELIVERED,  # "sent" means that the recipient's server took it
    "MessageDelayed": EventType.DEFERRED,
    "MessageDeliveryFailed": EventType.BOUNCED,
    "MessageHeld": EventType.HELD,
    "MessageBounced": EventType.BOUNCED,  # a bounce message, after the delivery
    "MessageLoaded": EventType.OPENED,
    "MessageLinkClicked": EventType.CLICKED,
    "DomainDNSError": EventType.DOMAIN_DNS_ERROR,
    "SendLimitApproaching": EventType.SEND_LIMIT_APPROACHING,
    "SendLimitExceeded": EventType.SEND_LIMIT_EXCEEDED,
}
_WITHOUT_MESSAGE = frozenset(
    {EventType.DOMAIN_DNS_ERROR, EventType.SEND_LIMIT_APPROACHING, EventType.SEND_LIMIT_EXCEEDED}
)
_FAILURES = frozenset({EventType.DEFERRED, EventType.BOUNCED})


# What describes a domain or an account, kept under its own name.
_ACCOUNT_FIELDS = (
    *("server", "domain", "uuid", "volume", "limit", "spf_status", "spf_error", "dkim_status", "dkim_error"),
    *("mx_status", "mx_error", "return_path_status", "return_path_error"),
)
_LONGEST_DETAILS = 1000

# As in: Message for maria@customer.example accepted by 192.0.2.25:25 (mx1.customer.example)
_SERVER = re.compile(r" (?:accepted by|failed at) ([0-9A-Fa-f.:\[\]]{2,64}):[0-9]{1,5}(?: \(([^\s()]{1,255})\))?")


def parse(body: bytes, *, tenant_id: str | None, accepts_without_tenant: bool = False) -> list[Event]:
    """Return the event of a body, once for each recipient.

    `tenant_id` is the only accepted tenant, None to accept all. An event that names none is set aside then, unless
    `accepts_without_tenant`: then it is the tenant's. Raises PayloadError if the body is not an object.
    """
    item = payload.read(body)
    try:
        found, unread = payload.decode_fields(item.clean, BODY, IDENTIFYING)
    except PayloadError as error:
        payload.decode(item.clean, OBJECT)
        return [payload.refuse(item, str(error))]
    tenant = read_identifier(found.tenant_id)
    foreign, reason = None, SetAsideReason.OTHER_ACCOUNT
    if tenant_id is not None and tenant is None and not accepts_without_tenant:
        reason = SetAsideReason.NO_TENANT
        foreign = "It names no tenant; settings.events_without_tenant accepts the events of a tenant's own webhook"
    elif tenant_id is not None and tenant not in (None, tenant_id):
        foreign = f"Of another tenant: {payload.quote(tenant)}"
    inner = found.payload or found
    name = found.event or guess_name(inner)
    kind = EVENTS.get(name, EventType.UNKNOWN) if name else EventType.UNKNOWN
    message = (name == "MessageBounced" and inner.original_message) or inner.message
    if kind is EventType.UNKNOWN:
        problem = f"Unknown event kind: {payload.quote(name)}" if name else "The event kind cannot be determined"
    elif message is None and kind not in _WITHOUT_MESSAGE:
        kind, problem = EventType.UNKNOWN, f"{name} has no `message` object"
    elif message and _came_in(message):
        kind, problem = (
            EventType.UNKNOWN,
            f"{name} of incoming mail: it concerns a route of the account, not a recipient",
        )
    else:
        problem = None
    message = message or Message()
    if any(part.test is True for part in (found, inner, message)):
        kind, problem = EventType.TEST, None
    try:
        if foreign and kind is not EventType.TEST:
            built = _build(item, found, message, tenant, kind, name, problem, unread)
            return [payload.set_aside(built[0], foreign, reason)]
        return _build(item, found, message, tenant or tenant_id, kind, name, problem, unread)
    except PayloadError as error:
        return [payload.refuse(item, str(error), tenant=tenant)]


def _build(
    item: payload.Item,
    found: Body,
    message: Message,
    tenant: str | None,
    kind: EventType,
    name: str | None,
    problem: str | None,
    unread: Sequence[str],
) -> list[Event]:
    inner = found.payload or found
    untouched = kind in _WITHOUT_MESSAGE or kind is EventType.TEST or _came_in(message)
    smtp_status, enhanced_code = find_codes(inner.smtp_enhanced_code, inner.output, inner.details)
    reason = read_text(inner.output) or read_text(inner.details)
    classification = None
    if kind in _FAILURES:
        word = inner.classification or read_text(inner.classification_code)
        classification = classify(word=word, enhanced_code=enhanced_code, smtp_status=smtp_status, text=reason)
    server = _SERVER.search(inner.details[:_LONGEST_DETAILS]) if inner.details else None
    if name == "MessageBounced":
        own_time = payload.read_time(inner.bounce.timestamp) if inner.bounce else None
    else:
        own_time = payload.read_time(inner.timestamp) or payload.read_time(inner.dns_checked_at)
    sent_at = payload.read_time(found.timestamp) if found.payload else None
    details = _collect(inner, message, name, server[1] if server else None, unread)
    return [
        Event(
            type=kind,
            provider_object=item.exact,
            identity=_identify(item, found, has_time=own_time is not None),
            # A replay has the same id, and a new time in its envelope.
            identity_at=own_time or (None if read_identifier(found.uuid) else sent_at),
            message_key=None if untouched else _name_message(message, tenant),
            recipient=recipient,
            occurred_at=own_time or sent_at,
            sender=payload.read_address(message.from_),
            subject=read_text(message.subject),
            smtp_id=read_identifier(message.message_id and strip_brackets(message.message_id)),
            provider_message_id=read_identifier(message.id),
            tenant=tenant,
            classification=classification,
            smtp_status=smtp_status,
            enhanced_code=enhanced_code,
            reason=reason,
            remote_host=read_text(inner.remote_host) or (read_text(server[2]) if server else None),
            url=read_text(inner.url),
            ip=read_text(inner.ip_address),
            user_agent=read_text(inner.user_agent),
            tag=read_identifier(message.tag),
            metadata=payload.plain(message.metadata) if isinstance(message.metadata, dict) else None,
            details=details,
            problem=problem,
        )
        for recipient in payload.read_addresses(message.to)
    ]


def _came_in(message: Message) -> bool:
    """Return whether the message is incoming mail, whose events concern a route of the account.

    Mail to oneself has the same Message-Id in both directions, so such an event must not affect the sent message.
    """
    return (message.direction or "").lower() == "incoming"


def _identify(item: payload.Item, found: Body, *, has_time: bool) -> str | None:
    if found.payload is None:
        # An open or send limit without an envelope has neither id nor time: two genuine ones look alike.
        return payload.fingerprint(item.clean) if has_time else None
    if uuid := read_identifier(found.uuid):
        return uuid
    # A replay has a new time in its envelope, so the envelope's time counts only if the payload has none.
    text = bytes(payload.decode(item.clean, ENVELOPE).payload) if has_time else item.clean
    return payload.fingerprint(text)


def _name_message(message: Message, tenant: str | None) -> str | None:
    """Return the key that all events of a message share. Message-Ids and numbers are unique only within a tenant."""
    if smtp_id := strip_brackets(message.message_id or ""):
        return scope_to_tenant(tenant, f"smtp:{smtp_id}")
    if message.token:
        return scope_to_tenant(tenant, f"token:{message.token}")
    return scope_to_tenant(tenant, f"id:{message.id}") if message.id is not None else None


def _collect(
    inner: Payload, message: Message, name: str | None, remote_ip: str | None, unread: Sequence[str]
) -> Mapping[str, Any]:
    bounce = inner.bounce
    return payload.present(
        event=name,
        summary=inner.details,
        output=inner.output,
        remote_ip=remote_ip,
        sent_with_ssl=inner.sent_with_ssl,
        seconds=inner.time,
        direction=message.direction,
        spam_status=message.spam_status,
        timestamp=None if payload.read_time(inner.timestamp) else inner.timestamp,
        message_timestamp=message.timestamp,
        message_token=message.token,
        unread=unread or None,
        link_token=inner.token,
        metadata=None if isinstance(message.metadata, dict) else message.metadata,
        bounce=bounce
        and {
            "id": bounce.id,
            "message_id": bounce.message_id,
            "from": bounce.from_,
            "to": bounce.to,
            "subject": bounce.subject,
            "spam_status": bounce.spam_status,
        },
        **{field: getattr(inner, field) for field in _ACCOUNT_FIELDS},
    )
