"""MailChannels Email API: arrays of events, signed by RFC 9421 with Ed25519 over a Content-Digest.

Written from docs.mailchannels.com/email-api (webhooks, webhook-schema) and the signature cases of its SDKs.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from shared.vocabulary import EventType
from simulator.keys import Ed25519Key, PublicKeyForm, seed_bytes
from simulator.mail import Happening, Message
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported

_WORDS = {
    EventType.QUEUED: "processed",
    EventType.DELIVERED: "delivered",
    EventType.DEFERRED: "soft-bounced",
    EventType.BOUNCED: "hard-bounced",
    EventType.REJECTED: "dropped",
    EventType.OPENED: "open",
    EventType.CLICKED: "click",
    EventType.COMPLAINED: "complained",
    EventType.UNSUBSCRIBED: "unsubscribed",
    EventType.TEST: "test",
}
_REQUEST_ID = "simulated-validation"
_FRESH_SECONDS = 300
_SKEW_SECONDS = 30
_MALFORMED: tuple[Headers, ...] = (
    {"Signature-Input": 'sig_1=("content-digest";created=1;alg="ed25519";keyid="mckey"'},
    {"Signature-Input": 'sig_1=("content-digest");created=soon;alg="ed25519";keyid="mckey"'},
    {"Signature-Input": "\xff\xfe"},
    {"Signature": "sig_1=:this is no base64:"},
    {"Signature": "sig_1=:AAAA:"},
    {"Content-Digest": "sha-256=:!!!:"},
    {"Content-Digest": "sha-512=:AAAA:"},
)


class MailChannels:
    """MailChannels, sending for the account `handle`."""

    NAME = "mailchannels"
    KEYS_PATH: str | None = "/tx/v1/webhook/public-key"
    TRAITS = Traits(
        speaks=frozenset(_WORDS),
        events_per_body=1000,
        one_recipient=False,
        nameless=True,
        timed=True,
        explains=True,
        publishes_keys=True,
        rotates=True,
        forgeries=frozenset(Forgery),
        retry=RetryRule(),  # no automatic retry is documented: failed batches are resent on demand
    )

    def __init__(
        self,
        *,
        seed: int | None = None,
        form: PublicKeyForm = PublicKeyForm.SPKI,
        handle: str = "acmeco",
        api_key: str | None = None,
    ) -> None:
        self.handle = handle
        self.api_key = api_key or seed_bytes(f"{self.NAME}/api-key", seed).hex()
        self.form = form
        self._seed = seed
        self._keys: dict[str, Ed25519Key] = {}
        self._first = self.rotate()

    @property
    def key_id(self) -> str:
        """The name of the key that it signs with at present."""
        return next(reversed(self._keys))

    def rotate(self) -> str:
        """Switch to a new key and keep the old one valid."""
        number = len(self._keys) + 1
        seed = seed_bytes(f"{self.NAME}/{number}", self._seed)
        # Without a seed the id is new in every run, so that no earlier run's key is taken for it.
        key_id = f"mckey-{number}-{hashlib.sha256(seed).hexdigest()[:8]}"
        self._keys[key_id] = Ed25519Key.make(key_id, seed)
        return key_id

    def credentials(self) -> dict[str, Any]:
        """Return the first public key, the account whose events are wanted, and the key to its API."""
        first = self._keys[self._first]
        return {
            "public_keys": {first.key_id: first.public(self.form)},
            "customer_handles": [self.handle],
            "api_key": self.api_key,
        }

    def key_document(self, query: Mapping[str, str]) -> bytes | None:
        """Return one key by its id, as the public-key endpoint answers."""
        key = self._keys.get(query.get("id", ""))
        if key is None:
            return None
        return json.dumps({"id": key.key_id, "key": key.public(self.form)}).encode()

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the Message-Id, which every event has."""
        return {"smtp_id": message.smtp_id}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return an array with one object for each."""
        if len(happenings) > self.TRAITS.events_per_body:
            raise unsupported(self.NAME, f"{len(happenings)} events at once")
        return _json([self._event(happening) for happening in happenings])

    def test_body(self, at: datetime, request_id: str) -> bytes:
        """Return the request that validates an enrolment."""
        return _json([_test_event(self.handle, at, request_id or _REQUEST_ID)])

    def _event(self, happening: Happening) -> dict[str, Any]:
        word = _WORDS.get(happening.kind)
        if word is None:
            raise unsupported(self.NAME, happening.kind)
        if happening.message is None:
            return _test_event(self.handle, happening.at, _REQUEST_ID)
        message = happening.message
        event: dict[str, Any] = {
            "email": message.sender,
            "customer_handle": self.handle,
            "timestamp": int(happening.at.timestamp()),
            "event": word,
            "request_id": message.request_id,
            "smtp_id": f"<{message.smtp_id}>",
        }
        if message.tag:
            event["campaign_id"] = message.tag
        if happening.recipients:
            event["recipients"] = list(happening.recipients)
        if happening.reply:
            event["status"] = happening.reply.smtp_status
            event["reason"] = f"{happening.reply.enhanced_code} {happening.reply.text}"
        optional = {"url": happening.url, "user_agent": happening.user_agent, "ip": happening.ip}
        return event | {name: value for name, value in optional.items() if value}

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:
        """Return Content-Digest (RFC 9530), Signature-Input and Signature (RFC 9421)."""
        return _sign(body, now, self._keys[key_id or self.key_id])

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        key = self._keys[self._first]
        wrong = seed_bytes(f"{self.NAME}/wrong", self._seed)
        match forgery:
            case Forgery.TAMPERED:
                return Signed(_sign(body, now, key), _alter(body))
            case Forgery.REDIGESTED:
                altered = _alter(body)
                return Signed(_sign(body, now, key) | {"Content-Digest": _digest(altered)}, altered)
            case Forgery.STALE:
                return Signed(_sign(body, now - timedelta(seconds=_FRESH_SECONDS + 2), key), body)
            case Forgery.FUTURE:
                return Signed(_sign(body, now + timedelta(seconds=_SKEW_SECONDS + 30), key), body)
            case Forgery.WRONG_KEY:
                return Signed(_sign(body, now, Ed25519Key.make(key.key_id, wrong)), body)
            case Forgery.UNKNOWN_KEY:
                return Signed(_sign(body, now, Ed25519Key.make("nobody", wrong)), body)
            case Forgery.MALFORMED:
                spoilt = _MALFORMED[crc32(body) % len(_MALFORMED)]
                return Signed(_sign(body, now, key) | spoilt, body)
            case Forgery.UNSIGNED:
                return Signed({"Content-Type": "application/json"}, body)
            case Forgery.FOREIGN:
                foreign = _json([event | {"customer_handle": "stranger"} for event in json.loads(body)])
                return Signed(_sign(foreign, now, key), foreign)


def _test_event(handle: str, at: datetime, request_id: str) -> dict[str, Any]:
    return {
        "email": "test@mailchannels.com",
        "customer_handle": handle,
        "timestamp": int(at.timestamp()),
        "event": "test",
        "request_id": request_id,
        "smtp_id": "<test_id=@tx.mailchannels.net>",
    }


def _sign(body: bytes, now: datetime, key: Ed25519Key) -> Headers:
    created = int(now.timestamp())
    digest = _digest(body)
    parameters = f'("content-digest");created={created};alg="ed25519";keyid="{key.key_id}"'
    base = f'"content-digest": {digest}\n"@signature-params": {parameters}'
    label = f"sig_{created}"
    return {
        "Content-Type": "application/json",
        "Content-Digest": digest,
        "Signature-Input": f"{label}={parameters}",
        "Signature": f"{label}=:{key.sign(base.encode())}:",
    }


def _digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _alter(body: bytes) -> bytes:
    return body[:-1] + b" " + body[-1:]  # still the same JSON: only the bytes tell
