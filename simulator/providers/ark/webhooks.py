"""Ark: events in three forms of body, signed with RSA by SHA-256.

Written from arkhq.io/docs: webhooks/security, webhooks/overview in its editions, api-reference/email-events.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any
from zlib import crc32

from cryptography.hazmat.primitives import hashes

from shared.vocabulary import Classification, ClassificationCode, EventType
from simulator.keys import RsaKey, seed_bytes
from simulator.mail import Happening, Message
from simulator.providers import postal_payloads
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported

_FORGERIES = frozenset(Forgery) - {Forgery.STALE, Forgery.FUTURE, Forgery.REDIGESTED, Forgery.FOREIGN}
_NAMESPACE = uuid.UUID("0a3c7a44-61d8-5d0f-8a4e-2f3b1c5d7e90")


class Form(StrEnum):
    """The documents disagree on what a body looks like, so a receiver has to take all three."""

    ENVELOPED = "enveloped"
    BARE = "bare"
    PLATFORM = "platform"


class Ark:
    """Ark, sending for one tenant. Without a form, each happening has one of the three, always the same."""

    NAME = "ark"
    KEYS_PATH: str | None = "/.well-known/jwks.json"
    TRAITS = Traits(
        speaks=postal_payloads.KINDS,
        events_per_body=1,
        one_recipient=True,
        nameless=False,
        timed=True,
        explains=True,
        publishes_keys=True,
        rotates=True,
        forgeries=_FORGERIES,
        retry=RetryRule(),  # "exponential backoff over ~3 days", but the steps are not documented
    )

    def __init__(self, *, form: Form | None = None, tenant_id: str = "tnt_acme", api_key: str | None = None) -> None:
        self.form = form
        self.tenant_id = tenant_id
        self.api_key = api_key or f"ark_{seed_bytes(f'{self.NAME}/api-key', None).hex()}"
        self._keys: dict[str, RsaKey] = {}
        self._first = self.rotate()

    @cached_property
    def _forger(self) -> RsaKey:
        return RsaKey()

    @property
    def key_id(self) -> str:
        """The name of the key that it signs with at present."""
        return next(reversed(self._keys))

    def rotate(self) -> str:
        """Switch to a new key and keep the old one valid."""
        key = RsaKey()
        self._keys[key.key_id] = key
        return key.key_id

    def credentials(self) -> dict[str, Any]:
        """Return the first key, as the JWKS document that the operator copied, the tenant, and the key to its API."""
        jwks = {"keys": [self._keys[self._first].jwk()]}
        return {"jwks": jwks, "tenant_id": self.tenant_id, "api_key": self.api_key}

    def key_document(self, query: Mapping[str, str]) -> bytes | None:  # noqa: ARG002 - one document holds all
        """Return all keys."""
        return json.dumps({"keys": [key.jwk() for key in self._keys.values()]}).encode()

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the Message-ID: each recipient's message has a separate id, but they share this one."""
        return {"smtp_id": message.smtp_id}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return one object: the payload alone, or in one of two envelopes."""
        if len(happenings) != 1:
            raise unsupported(self.NAME, f"{len(happenings)} events at once")
        return _json(self._object(happenings[0]))

    def _object(self, happening: Happening) -> dict[str, Any]:
        payload = _payload(happening)
        name = postal_payloads.event_name(happening)
        sent_at = happening.at.timestamp() + 0.25
        fingerprint = postal_payloads.fingerprint(happening)
        match self.form or list(Form)[crc32(fingerprint.encode()) % len(Form)]:
            case Form.ENVELOPED:
                identity = str(uuid.uuid5(_NAMESPACE, fingerprint))
                return {"event": name, "timestamp": sent_at, "uuid": identity, "payload": payload}
            case Form.PLATFORM:
                where = {"event": name, "tenant_id": self.tenant_id, "timestamp": int(sent_at)}
                return where | {"payload": payload}
            case Form.BARE:
                return payload

    def restamp(self, body: bytes, now: datetime) -> bytes:
        """Return the body as it is replayed: "a new timestamp", which is the envelope's; a bare body has none."""
        document = json.loads(body)
        if "payload" not in document:
            return body
        is_whole = isinstance(document["timestamp"], int)
        return _json(document | {"timestamp": int(now.timestamp()) if is_whole else now.timestamp()})

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:  # noqa: ARG002
        """Return a signature over the body alone: it binds no time."""
        return _sign(body, self._keys[key_id or self.key_id])

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        key = self._keys[self._first]
        good = self.sign(body, now, self._first)
        match forgery:
            case Forgery.TAMPERED:
                return Signed(good, body + b" ")
            case Forgery.WRONG_KEY:
                return Signed(_sign(body, self._forger) | {"X-Ark-Signature-KID": key.key_id}, body)
            case Forgery.UNKNOWN_KEY:
                return Signed(_sign(body, self._forger), body)
            case Forgery.MALFORMED:
                return Signed(good | {"X-Ark-Signature": "====\xff not base64"}, body)
            case Forgery.UNSIGNED:
                return Signed({"Content-Type": "application/json"}, body)
            case _:
                raise unsupported(self.NAME, forgery)


def event_of(body: bytes) -> str:
    """Return the event name of a body in any form."""
    document = json.loads(body)
    return document["event"] if "event" in document else postal_payloads.event_of(document)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _payload(happening: Happening) -> dict[str, Any]:
    payload = postal_payloads.payload(happening)
    for part in ("message", "original_message", "bounce"):
        if part in payload:
            number = happening.subject_message.number
            payload[part]["metadata"] = None if part == "bounce" else {"order": str(number)}
    reply = happening.reply
    if reply and happening.kind in (EventType.DEFERRED, EventType.BOUNCED) and "status" in payload:
        payload |= {
            "classification": reply.classification.value,
            "classification_code": ClassificationCode[Classification(reply.classification).name].value,
            "smtp_enhanced_code": reply.enhanced_code,
            "remote_host": happening.remote_host,
        }
    return payload


def _sign(body: bytes, key: RsaKey) -> Headers:
    return {
        "Content-Type": "application/json",
        "X-Ark-Signature": key.sign(body, hashes.SHA256()),
        "X-Ark-Signature-KID": key.key_id,
    }
