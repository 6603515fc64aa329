"""Mailgun's webhooks: one event a request; the signature is in the body and covers a token, not the event.

Written from documentation.mailgun.com: "Webhooks", "Securing webhooks" and "Events".
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zlib import crc32

from shared.vocabulary import EventType
from simulator.mail import Happening, Message
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported
from simulator.providers.secrets import WithSecrets

_EVENTS: Mapping[EventType, str] = {
    EventType.QUEUED: "accepted",
    EventType.DELIVERED: "delivered",
    EventType.DEFERRED: "failed",
    EventType.BOUNCED: "failed",
    EventType.REJECTED: "rejected",
    EventType.OPENED: "opened",
    EventType.CLICKED: "clicked",
    EventType.COMPLAINED: "complained",
    EventType.UNSUBSCRIBED: "unsubscribed",
}
_MALFORMED: Sequence[Any] = ("", "zz", 5, None, "ä" * 64, "0" * 63, [], "a" * 5000)


class Mailgun(WithSecrets):
    """Mailgun with webhooks of one domain."""

    NAME = "mailgun"
    DOMAIN = "mg.shop.example"
    TRAITS = Traits(
        speaks=frozenset(_EVENTS),
        events_per_body=1,
        one_recipient=True,
        nameless=False,
        timed=True,
        explains=True,
        publishes_keys=False,
        rotates=False,
        forgeries=frozenset({Forgery.TAMPERED, Forgery.WRONG_KEY, Forgery.MALFORMED, Forgery.UNSIGNED}),
        retry=RetryRule(
            delays_seconds=(300, 600, 900, 3600, 7200, 14400),
            statuses=frozenset({0, *range(300, 600)}) - {406},
        ),
    )

    def credentials(self) -> dict[str, Any]:
        """Return the account's signing key, and the API key for the domain."""
        return {"signing_key": self.secret().hex(), "api_key": self.api_key, "domain": self.DOMAIN}

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the Message-Id, which Mailgun answers a send with."""
        return {"smtp_id": message.smtp_id}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return one event, with the signature over its token."""
        if len(happenings) != 1 or happenings[0].kind not in _EVENTS or len(happenings[0].recipients) != 1:
            raise unsupported(self.NAME, ", ".join(happening.kind for happening in happenings))
        event = _event(happenings[0])
        token = hashlib.sha256(json.dumps(event).encode()).hexdigest()[:50]
        at = str(int(happenings[0].at.timestamp()))
        signature = {"timestamp": at, "token": token, "signature": _sign(self.secret().hex(), at + token)}
        return _encode({"signature": signature, "event-data": event})

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:  # noqa: ARG002
        """Return the headers, of which none authenticates."""
        return {"Content-Type": "application/json", "User-Agent": "mailgun/treq-20.4.1"}

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        document = json.loads(body)
        given = document["signature"]
        match forgery:
            case Forgery.TAMPERED:  # the event could be changed unnoticed, but not under a token of one's own
                given["token"] = given["token"][::-1]
            case Forgery.WRONG_KEY:
                given["signature"] = _sign("guess", given["timestamp"] + given["token"])
            case Forgery.MALFORMED:
                given["signature"] = _MALFORMED[crc32(body) % len(_MALFORMED)]
            case Forgery.UNSIGNED:
                del document["signature"]
            case _:
                raise unsupported(self.NAME, forgery)
        return Signed(self.sign(body, now), _encode(document))


def _sign(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def _event(happening: Happening) -> dict[str, Any]:
    message, kind = happening.subject_message, happening.kind
    recipient = happening.recipients[0]
    event: dict[str, Any] = {
        "event": _EVENTS[kind],
        "id": hashlib.sha256(f"{message.uuid}/{kind}/{recipient}/{happening.at}".encode()).hexdigest()[:22],
        "timestamp": happening.at.timestamp() + 0.25,
        "log-level": "info",
        "recipient": recipient,
        "recipient-domain": recipient.rpartition("@")[2],
        "message": {
            "headers": {
                "message-id": message.smtp_id,
                "to": recipient,
                "from": message.sender,
                "subject": message.subject,
            },
            "attachments": [],
            "size": 867,
        },
        "flags": {"is-routed": False, "is-authenticated": True, "is-system-test": False, "is-test-mode": False},
        "tags": [message.tag] if message.tag else [],
        "user-variables": {"number": str(message.number)},
        "campaigns": [],
    }
    reply = happening.reply
    if kind in (EventType.DEFERRED, EventType.BOUNCED):
        event |= {"severity": "temporary" if kind is EventType.DEFERRED else "permanent", "reason": "generic"}
        event["log-level"] = "warn" if kind is EventType.DEFERRED else "error"
        event["delivery-status"] = {
            "attempt-no": 1,
            "code": int(reply.smtp_status) if reply else 605,
            "enhanced-code": reply.enhanced_code if reply else "",
            "message": reply.text if reply else "",
            "description": "" if reply else "Not delivering to previously bounced address",
            "mx-host": happening.remote_host,
        }
    elif kind is EventType.REJECTED:
        event["reject"] = {"reason": "Sandbox subdomains are for test purposes only.", "description": ""}
    elif kind in (EventType.OPENED, EventType.CLICKED):
        event |= {"ip": happening.ip, "client-info": {"user-agent": happening.user_agent, "device-type": "desktop"}}
        event |= {"url": happening.url} if happening.url else {}
    return event
