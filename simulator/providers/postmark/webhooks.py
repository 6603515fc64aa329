"""Postmark's webhooks: one event a request, behind basic authentication.

Written from postmarkapp.com/developer/webhooks.
"""

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zlib import crc32

from shared.vocabulary import Classification, EventType
from simulator.mail import Happening
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported
from simulator.providers.secrets import WithSecrets

_RECORDS: Mapping[EventType, str] = {
    EventType.DELIVERED: "Delivery",
    EventType.BOUNCED: "Bounce",
    EventType.DEFERRED: "Bounce",
    EventType.REJECTED: "Bounce",
    EventType.FAILED: "Bounce",
    EventType.AUTORESPONDED: "Bounce",
    EventType.COMPLAINED: "SpamComplaint",
    EventType.OPENED: "Open",
    EventType.CLICKED: "Click",
    EventType.UNSUBSCRIBED: "SubscriptionChange",
}
_TYPES: Mapping[EventType, tuple[str, int]] = {
    EventType.BOUNCED: ("HardBounce", 1),
    EventType.DEFERRED: ("Transient", 2),
    EventType.REJECTED: ("ManuallyDeactivated", 100002),
    EventType.FAILED: ("SMTPApiError", 100007),
    EventType.AUTORESPONDED: ("AutoResponder", 64),
    EventType.COMPLAINED: ("SpamComplaint", 100001),
}
_MALFORMED = ("Basic", "Basic \xff\xfe", "Basic !!!!", "Basic bm9jb2xvbg==", "Bearer abc", "Digest x=1")
_RETRIED = frozenset({0, 408, 429, *range(500, 600)})


class Postmark(WithSecrets):
    """Postmark with one webhook of a message stream."""

    NAME = "postmark"
    TRAITS = Traits(
        speaks=frozenset(_RECORDS) - {EventType.AUTORESPONDED},
        events_per_body=1,
        one_recipient=True,
        nameless=False,
        timed=True,
        explains=False,
        publishes_keys=False,
        rotates=False,
        forgeries=frozenset({Forgery.WRONG_KEY, Forgery.UNKNOWN_KEY, Forgery.MALFORMED, Forgery.UNSIGNED}),
        retry=RetryRule(delays_seconds=(60, 300, 900, 60, 300, 600, 600, 600, 900), statuses=_RETRIED),
    )

    def credentials(self) -> dict[str, Any]:
        """Return user and password of the webhook, and the server's token."""
        return {"username": "tidings", "password": self.secret().hex(), "api_key": self.api_key}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return one event."""
        if len(happenings) != 1 or happenings[0].kind not in _RECORDS or len(happenings[0].recipients) != 1:
            raise unsupported(self.NAME, ", ".join(happening.kind for happening in happenings))
        return json.dumps(_event(happenings[0]), ensure_ascii=False).encode()

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:  # noqa: ARG002
        """Return basic authentication, and the trace's id, which stays the same in retries."""
        return _headers(body, _basic("tidings", self.secret().hex()))

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:  # noqa: ARG002
        """Return the request as a forger makes it."""
        match forgery:
            case Forgery.WRONG_KEY:
                return Signed(_headers(body, _basic("tidings", "guess")), body)
            case Forgery.UNKNOWN_KEY:
                return Signed(_headers(body, _basic("nobody", self.secret().hex())), body)
            case Forgery.MALFORMED:
                return Signed(_headers(body, _MALFORMED[crc32(body) % len(_MALFORMED)]), body)
            case Forgery.UNSIGNED:
                return Signed(_headers(body, None), body)
            case _:
                raise unsupported(self.NAME, forgery)


def _headers(body: bytes, authorization: str | None) -> Headers:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Postmark",
        "X-PM-Retries-Remaining": "9",
        "X-PM-Webhook-Trace-Id": str(uuid.UUID(int=crc32(body) << 64 | len(body))),
    }
    return headers | {"Authorization": authorization} if authorization is not None else headers


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def _event(happening: Happening) -> dict[str, Any]:
    message, record = happening.subject_message, _RECORDS[happening.kind]
    event: dict[str, Any] = {
        "RecordType": record,
        "MessageID": message.uuid,
        "ServerID": 23,
        "MessageStream": "outbound",
        "Tag": message.tag or "",
        "Metadata": {"number": str(message.number)},
    }
    recipient, at = happening.recipients[0], f"{happening.at:%Y-%m-%dT%H:%M:%S}.1234567Z"
    match record:
        case "Bounce" | "SpamComplaint":
            name, code = _TYPES[happening.kind]
            reply = happening.reply
            if happening.kind is EventType.BOUNCED and reply and reply.classification is Classification.MAILBOX_FULL:
                name, code = "SoftBounce", 4096
            return event | {
                "ID": (message.number + 1) * 1000 + happening.at.minute * 60 + happening.at.second,
                "Type": name,
                "TypeCode": code,
                "Name": name,
                "Description": "See the details.",
                "Details": f"smtp;{reply.smtp_status} {reply.enhanced_code} {reply.text}" if reply else "",
                "Email": recipient,
                "From": message.sender,
                "BouncedAt": at,
                "DumpAvailable": True,
                "Inactive": happening.kind is EventType.BOUNCED,
                "CanActivate": True,
                "Subject": message.subject,
                "Content": "",
            }
        case "Delivery":
            return event | {"Recipient": recipient, "DeliveredAt": at, "Details": "Test delivery webhook details"}
        case "Open" | "Click":
            event |= {
                "Recipient": recipient,
                "ReceivedAt": at,
                "UserAgent": happening.user_agent,
                "Platform": "Desktop",
            }
            event |= {"Geo": {"CountryISOCode": "NZ", "IP": happening.ip}}
            return event | ({"OriginalLink": happening.url} if record == "Click" else {"FirstOpen": True})
    return event | {
        "Recipient": recipient,
        "ChangedAt": at,
        "Origin": "Recipient",
        "SuppressSending": True,
        "SuppressionReason": "ManualSuppression",
    }
