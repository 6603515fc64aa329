"""MailWebhook: inbound emails as JSON, signed with HMAC-SHA256 over time and body.

Written from docs.mailwebhook.com: delivery/signatures, delivery/retries-and-replay,
routes/pipeline/generic_json.
"""

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from shared.vocabulary import EventType
from simulator.keys import seed_bytes
from simulator.mail import Happening, Message
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported

_TOLERANCE_SECONDS = 300
_RETRIED = frozenset({0, 408, 409, 425, 429, *range(500, 600)})
_FORGERIES = frozenset(Forgery) - {Forgery.REDIGESTED, Forgery.FOREIGN}
_MALFORMED = (
    "",
    "t=,kid=,v1=",
    "t=soon, kid=a, v1=AAAA",
    "t=1;kid=a;v1=AAAA",
    "v1=\xff",
    "t=1, v1=AAAA",
    "=,=,=",
)
_NAMESPACE = uuid.UUID("d5b1f8d4-5f6c-5c1d-b9f0-7f1a3e2c4b60")
_PROJECT_ID = "0d9f2d0e-5b1c-4b7e-9c39-7c1f7a3d2b10"
_ROUTE_ID = "5e0c1b7a-93d4-4c8f-bb0e-1a2b3c4d5e6f"


class MailWebhook:
    """MailWebhook with one route; its secrets are distinguished by their `kid`."""

    NAME = "mailwebhook"
    KEYS_PATH: str | None = None
    TRAITS = Traits(
        speaks=frozenset({EventType.INBOUND}),
        events_per_body=1,
        one_recipient=False,
        nameless=False,
        timed=True,
        explains=False,
        publishes_keys=False,
        rotates=True,
        forgeries=_FORGERIES,
        retry=RetryRule(delays_seconds=(0, 30, 120, 600, 1800), statuses=_RETRIED),
    )

    def __init__(self, *, seed: int | None = None) -> None:
        self._seed = seed
        self._secrets: dict[str, str] = {}
        self._first = self.rotate()

    @property
    def key_id(self) -> str:
        """The name of the secret that it signs with at present."""
        return next(reversed(self._secrets))

    def rotate(self) -> str:
        """Switch to a new secret and keep the old one valid."""
        number = len(self._secrets) + 1
        key_id = f"route-signing-{number}"
        self._secrets[key_id] = seed_bytes(f"{self.NAME}/{number}", self._seed).hex()
        return key_id

    def credentials(self) -> dict[str, Any]:
        """Return all secrets, by name."""
        return {"signing_secrets": dict(self._secrets)}

    def key_document(self, query: Mapping[str, str]) -> bytes | None:  # noqa: ARG002
        """Return None: its keys are secrets."""
        return None

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the Message-Id, by which an inbound mail is known."""
        return {"smtp_id": message.smtp_id}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return the default mapper's object, `mailwebhook.generic` version 1."""
        if len(happenings) != 1 or happenings[0].kind is not EventType.INBOUND:
            raise unsupported(self.NAME, ", ".join(happening.kind for happening in happenings))
        return json.dumps(_generic(happenings[0]), ensure_ascii=False, separators=(",", ":")).encode()

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:
        """Return the signature, and the idempotency key that stays the same whatever becomes of the body."""
        key_id = key_id or self.key_id
        return _headers(body, _signature(body, now, key_id, self._secrets[key_id]))

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        key_id, secret = self._first, self._secrets[self._first]
        shift = timedelta(seconds=_TOLERANCE_SECONDS + 2)
        match forgery:
            case Forgery.TAMPERED:
                return Signed(self.sign(body, now, key_id), body + b" ")
            case Forgery.STALE:
                return Signed(_headers(body, _signature(body, now - shift, key_id, secret)), body)
            case Forgery.FUTURE:
                later = now + shift + timedelta(seconds=30)
                return Signed(_headers(body, _signature(body, later, key_id, secret)), body)
            case Forgery.WRONG_KEY:
                return Signed(_headers(body, _signature(body, now, key_id, "guess")), body)
            case Forgery.UNKNOWN_KEY:
                return Signed(_headers(body, _signature(body, now, "nobody", secret)), body)
            case Forgery.MALFORMED:
                return Signed(_headers(body, _MALFORMED[crc32(body) % len(_MALFORMED)]), body)
            case Forgery.UNSIGNED:
                return Signed(_headers(body, None), body)
            case _:
                raise unsupported(self.NAME, forgery)


def _signature(body: bytes, now: datetime, key_id: str, secret: str) -> str:
    at = str(int(now.timestamp()))
    digest = hmac.digest(secret.encode(), at.encode("ascii") + b"." + body, hashlib.sha256)
    return f"t={at}, kid={key_id}, v1={base64.b64encode(digest).decode('ascii')}"


def _headers(body: bytes, signature: str | None) -> Headers:
    generic = json.loads(body)
    known_by = f"{generic['message']['message_id']}|{generic['event']['route_id']}"
    idempotency_key = hashlib.sha256(known_by.encode()).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "mailwebhook/1.0",
        "X-Idempotency-Key": idempotency_key,
        "Idempotency-Key": idempotency_key,
    }
    return headers | {"X-MailWebhook-Signature": signature} if signature is not None else headers


def _generic(happening: Happening) -> dict[str, Any]:
    message = happening.subject_message
    mailboxes = sorted(happening.recipients)
    received_at = _time(happening.at)
    text = f"Please see the attachment, number {message.number}."
    attachment = {
        "id": f"att-{message.number}",
        "filename": "order.pdf",
        "content_type": "application/pdf",
        "size": 93259,
        "is_inline": False,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    return {
        "schema": {"name": "mailwebhook.generic", "version": "1"},
        "event": {
            "id": str(uuid.uuid5(_NAMESPACE, message.uuid)),
            "project_id": _PROJECT_ID,
            "route_id": _ROUTE_ID,
            "created_at": received_at,
        },
        "message": {
            "message_id": f"<{message.smtp_id}>",
            "message_id_type": "original",
            "subject": message.subject,
            "date": _time(message.submitted_at),
            "from": [{"email": message.sender, "name": "Zoë"}],
            "to": [{"email": mailbox} for mailbox in mailboxes],
            "headers": {"mime-version": "1.0", "content-type": 'multipart/mixed; boundary="b1"'},
        },
        "envelope": {"mail_from": message.sender, "rcpt_to": mailboxes},
        "body": {"attachments": [attachment], "text": text, "html": f"<p>{text}</p>"},
        "meta": {
            "source": "hosted",
            "raw_size_bytes": 4096 + message.number % 1000,
            "received_at": received_at,
            "spam": {"score": 0.4, "quarantined": False, "status": "No, score=0.4"},
        },
    }


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
