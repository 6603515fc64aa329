"""The payloads of Postal, which Ark extends by more fields.

Written from github.com/postalserver/postal 3.3.6: lib/postal/message_db/{message,delivery}.rb,
lib/tracking_middleware.rb, app/models/{server,concerns/has_dns_checks}.rb.
"""

import hashlib
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from shared.vocabulary import EventType
from simulator.mail import Happening, Reply

_DELIVERY = {
    EventType.DELIVERED: ("MessageSent", "Sent"),
    EventType.DEFERRED: ("MessageDelayed", "SoftFail"),
    EventType.BOUNCED: ("MessageDeliveryFailed", "HardFail"),
    EventType.HELD: ("MessageHeld", "Held"),
}
_OTHER = {
    EventType.OPENED: "MessageLoaded",
    EventType.CLICKED: "MessageLinkClicked",
    EventType.DOMAIN_DNS_ERROR: "DomainDNSError",
    EventType.SEND_LIMIT_APPROACHING: "SendLimitApproaching",
    EventType.SEND_LIMIT_EXCEEDED: "SendLimitExceeded",
}
_EVENTS_BY_STATUS = {status: name for name, status in _DELIVERY.values()}
_VOLUMES = {EventType.SEND_LIMIT_APPROACHING: 950, EventType.SEND_LIMIT_EXCEEDED: 1000}
_SERVER = {
    "uuid": "54529725-8807-4069-ab29-a3746c1bbd98",
    "name": "Main",
    "permalink": "main",
    "organization": "acme",
}
_MX = "192.0.2.25"

KINDS = frozenset(_DELIVERY) | frozenset(_OTHER)


def event_name(happening: Happening) -> str:
    """Return the name in the envelope. A bounce is known by how it came: at the SMTP dialogue, or as an email."""
    if happening.after_delivery and happening.kind is EventType.BOUNCED:
        return "MessageBounced"
    if happening.kind in _DELIVERY:
        return _DELIVERY[happening.kind][0]
    if happening.kind not in _OTHER:
        raise ValueError(f"Postal has no word for {happening.kind}")
    return _OTHER[happening.kind]


def event_of(payload: Mapping[str, Any]) -> str:
    """Return the event name of a payload, inferred from its fields: the payload does not contain it."""
    if "status" in payload:
        return _EVENTS_BY_STATUS[payload["status"]]
    for key, name in (("bounce", "MessageBounced"), ("url", "MessageLinkClicked"), ("ip_address", "MessageLoaded")):
        if key in payload:
            return name
    if "domain" in payload:
        return "DomainDNSError"
    return "SendLimitExceeded" if payload["volume"] >= payload["limit"] else "SendLimitApproaching"


def fingerprint(happening: Happening) -> str:
    """Return the identity of this event."""
    message = happening.message.uuid if happening.message else ""
    return f"{happening.kind}/{message}/{','.join(happening.recipients)}/{happening.at.isoformat()}"


def payload(happening: Happening) -> dict[str, Any]:
    """Return the payload of a happening."""
    name = event_name(happening)
    if name == "MessageBounced":
        return _bounce(happening)
    if happening.kind in _DELIVERY:
        return _delivery(happening)
    if happening.kind is EventType.OPENED:
        return {"message": _message(happening)} | _visitor(happening)
    if happening.kind is EventType.CLICKED:
        token = _token(happening, "click")
        return {"message": _message(happening), "url": happening.url, "token": token} | _visitor(happening)
    if happening.kind is EventType.DOMAIN_DNS_ERROR:
        return _dns_error(happening)
    return {"server": _SERVER, "volume": _VOLUMES[happening.kind], "limit": 1000}


def _message(happening: Happening) -> dict[str, Any]:
    message = happening.subject_message
    return {
        # A message to three people is three messages to Postal, each with a different number.
        "id": crc32(f"{message.uuid}/{happening.recipients[0]}".encode()) & 0x7FFFFFFF,
        "token": _token(happening, "message"),
        "direction": "outgoing",
        "message_id": message.smtp_id,
        "to": happening.recipients[0],
        "from": message.sender,
        "subject": message.subject,
        "timestamp": message.submitted_at.timestamp() + 0.25,
        "spam_status": "Spam" if happening.kind is EventType.HELD else "NotChecked",
        "tag": message.tag,
    }


def _token(happening: Happening, purpose: str) -> str:
    text = f"{purpose}/{happening.subject_message.uuid}/{happening.recipients[0]}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _delivery(happening: Happening) -> dict[str, Any]:
    held = happening.kind is EventType.HELD
    output = reply_line(happening.reply) if happening.reply else "250 2.0.0 Ok: queued as 4X1Y2Z"
    return {
        "message": _message(happening),
        "status": _DELIVERY[happening.kind][1],
        "details": _details(happening),
        "output": "" if held else output,
        "sent_with_ssl": not held,
        "timestamp": happening.at.timestamp() + 0.125,
        "time": 0 if held else 0.92,
    }


def _details(happening: Happening) -> str:
    recipient = happening.recipients[0]
    host = happening.remote_host or f"mx1.{recipient.rpartition('@')[2]}"
    if happening.kind is EventType.HELD:
        return "Message held due to high spam score"
    if happening.reply is None:
        return f"Message for {recipient} accepted by {_MX}:25 ({host})"
    words = happening.reply.classification.replace("_", " ")
    return f"{happening.reply.smtp_status} {words}: Delivery to {recipient} failed at {_MX}:25 ({host})"


def reply_line(reply: Reply) -> str:
    """Return a server's answer as it came over the wire (RFC 5321 4.2, RFC 2034)."""
    return f"{reply.smtp_status} {reply.enhanced_code} {reply.text}"


def _bounce(happening: Happening) -> dict[str, Any]:
    original = _message(happening)
    domain = happening.recipients[0].rpartition("@")[2]
    bounce = {
        "id": original["id"] ^ 0x40000000,
        "token": _token(happening, "bounce"),
        "direction": "incoming",
        "message_id": f"{original['token']}.bounce@mx1.{domain}",
        "to": f"{original['token']}@psrp.shop.example",
        "from": f"mailer-daemon@mx1.{domain}",
        "subject": "Undelivered Mail Returned to Sender",
        "timestamp": happening.at.timestamp() + 0.5,
        "spam_status": "NotSpam",
        "tag": None,
    }
    return {"original_message": original, "bounce": bounce}


def _visitor(happening: Happening) -> dict[str, Any]:
    return {"ip_address": happening.ip, "user_agent": happening.user_agent}


def _dns_error(happening: Happening) -> dict[str, Any]:
    return {
        "server": _SERVER,
        "domain": "shop.example",
        "uuid": "a1b2c3d4-e5f6-47f8-9a0b-1c2d3e4f5a6b",
        "dns_checked_at": happening.at.timestamp() + 0.125,
        "spf_status": "Missing",
        "spf_error": "No SPF record exists for this domain",
        "dkim_status": "OK",
        "dkim_error": None,
        "mx_status": "OK",
        "mx_error": None,
        "return_path_status": "Missing",
        "return_path_error": "There is no return path record at rp.shop.example",
    }
