"""SendGrid's event webhook: arrays of events, signed by ECDSA.

Written from Twilio's "Event Webhook Reference" and "Getting Started with the Event Webhook Security Features".
"""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zlib import crc32

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.vocabulary import EventType
from simulator.mail import Happening
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported
from simulator.providers.secrets import WithSecrets

_SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
_TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
_WORDS: Mapping[EventType, str] = {
    EventType.QUEUED: "processed",
    EventType.DEFERRED: "deferred",
    EventType.DELIVERED: "delivered",
    EventType.BOUNCED: "bounce",
    EventType.REJECTED: "dropped",
    EventType.OPENED: "open",
    EventType.CLICKED: "click",
    EventType.COMPLAINED: "spamreport",
    EventType.UNSUBSCRIBED: "unsubscribe",
    EventType.SUBSCRIBED: "group_resubscribe",
}
_MALFORMED = ("", "MEUC", "!!!!", "\xff", "AAAA", "MEQCIA==", "=" * 200)


class SendGrid(WithSecrets):
    """SendGrid with one event webhook, whose verification key the operator copies."""

    NAME = "sendgrid"
    TRAITS = Traits(
        speaks=frozenset(_WORDS) - {EventType.SUBSCRIBED},
        events_per_body=1000,
        one_recipient=True,
        nameless=False,
        timed=True,
        explains=True,
        publishes_keys=False,
        rotates=True,
        forgeries=frozenset({Forgery.TAMPERED, Forgery.WRONG_KEY, Forgery.MALFORMED, Forgery.UNSIGNED}),
        retry=RetryRule(delays_seconds=(60, 300, 900, 3600, 14400, 28800)),
    )

    def _key(self, key_id: str | None = None) -> ec.EllipticCurvePrivateKey:
        number = int.from_bytes(self.secret(key_id)[:31], "big") + 1  # below the order of the curve
        return ec.derive_private_key(number, ec.SECP256R1())

    def credentials(self) -> dict[str, Any]:
        """Return the verification keys, as SendGrid shows them, and the key to its API."""
        keys = [self._key(key_id).public_key() for key_id in self._secrets]
        texts = [
            base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode("ascii")
            for key in keys
        ]
        return {"public_key": texts[0] if len(texts) == 1 else texts, "api_key": self.api_key}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return an array of events, with the line end that SendGrid signs too."""
        events = [_event(happening) for happening in happenings]
        return json.dumps(events, ensure_ascii=False, separators=(",", ":")).encode() + b"\r\n"

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:
        """Return the signature over time and body."""
        return _sign(body, now, self._key(key_id))

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        match forgery:
            case Forgery.TAMPERED:
                return Signed(self.sign(body, now), body.rstrip(b"\r\n"))
            case Forgery.WRONG_KEY:
                return Signed(_sign(body, now, ec.derive_private_key(7, ec.SECP256R1())), body)
            case Forgery.MALFORMED:
                return Signed(self.sign(body, now) | {_SIGNATURE: _MALFORMED[crc32(body) % len(_MALFORMED)]}, body)
            case Forgery.UNSIGNED:
                return Signed({"Content-Type": "application/json"}, body)
            case _:
                raise unsupported(self.NAME, forgery)


def _sign(body: bytes, now: datetime, key: ec.EllipticCurvePrivateKey) -> Headers:
    at = str(int(now.timestamp()))
    signature = key.sign(at.encode("ascii") + body, ec.ECDSA(hashes.SHA256()))
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "SendGrid Event API",
        _SIGNATURE: base64.b64encode(signature).decode("ascii"),
        _TIMESTAMP: at,
    }


def _event(happening: Happening) -> dict[str, Any]:
    message = happening.subject_message
    if happening.kind not in _WORDS or len(happening.recipients) != 1:
        raise unsupported(SendGrid.NAME, happening.kind)
    word = _WORDS[happening.kind]
    event: dict[str, Any] = {
        "email": happening.recipients[0],
        "timestamp": int(happening.at.timestamp()),
        "event": word,
        "sg_event_id": base64.urlsafe_b64encode(f"{word}-{message.number}-{happening.at:%H%M%S}".encode()).decode(),
        "sg_message_id": f"{message.uuid}.recvd-5f54b5d587-2r5pn-1-5DC32E1B-39.0",
    }
    if happening.kind is not EventType.CLICKED:  # opens and clicks often lack it
        event["smtp-id"] = f"<{message.uuid}@geopod-ismtpd-6.sendgrid.net>"
    if message.tag:
        event["category"] = [message.tag]
    reply = happening.reply
    if reply:
        text = f"{reply.smtp_status} {reply.enhanced_code} {reply.text}"
        event["response" if happening.kind is EventType.DEFERRED else "reason"] = text
    return event | _describe(happening)


def _describe(happening: Happening) -> dict[str, Any]:
    """Return what an event of this kind says beside the message."""
    reply, seen = happening.reply, {"useragent": happening.user_agent, "ip": happening.ip}
    match happening.kind:
        case EventType.BOUNCED:
            found: dict[str, Any] = {"type": "bounce", "tls": 1, "ip": "192.0.2.10"}
            return found | ({"status": reply.enhanced_code} if reply else {})
        case EventType.DEFERRED:
            return {"attempt": "5"}
        case EventType.DELIVERED:
            return {"response": "250 OK"}
        case EventType.REJECTED:
            return {"reason": "Bounced Address", "status": "5.0.0"}
        case EventType.OPENED:
            return {**seen, "sg_machine_open": False}
        case EventType.CLICKED:
            return {**seen, "url": happening.url}
    return {}
