"""Postal: enveloped events, signed with RSA by SHA-256 and, for older receivers, by SHA-1 as well.

Written from github.com/postalserver/postal 3.3.6: lib/postal/http.rb, lib/postal/signer.rb,
app/services/webhook_delivery_service.rb, app/models/webhook_request.rb.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes

from simulator.keys import RsaKey
from simulator.mail import Happening, Message
from simulator.providers import postal_payloads
from simulator.providers.base import Forgery, Headers, RetryRule, Signed, Traits, unsupported

_FORGERIES = frozenset(Forgery) - {Forgery.STALE, Forgery.FUTURE, Forgery.REDIGESTED, Forgery.FOREIGN}
_SIGNATURES = ("X-Postal-Signature", "X-Postal-Signature-256")
_NAMESPACE = uuid.UUID("6f1a5f0e-3a52-5a2b-9d54-0f6f4b7f3a10")


class Postal:
    """A Postal server; `legacy` ones, before March 2024, send the SHA-1 signature only."""

    NAME = "postal"
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
        retry=RetryRule(delays_seconds=(120, 180, 360, 600, 900)),
    )

    def __init__(self, *, legacy: bool = False) -> None:
        self.legacy = legacy
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
        """Return the first key, as the JWKS document that the operator copied."""
        return {"jwks": {"keys": [self._keys[self._first].jwk()]}}

    def key_document(self, query: Mapping[str, str]) -> bytes | None:  # noqa: ARG002 - one document holds all
        """Return all keys."""
        return json.dumps({"keys": [key.jwk() for key in self._keys.values()]}).encode()

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the Message-ID: each recipient's message has a separate id, but they share this one."""
        return {"smtp_id": message.smtp_id}

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return one envelope; timestamp and uuid are those of the first attempt, whichever this is."""
        if len(happenings) != 1:
            raise unsupported(self.NAME, f"{len(happenings)} events at once")
        happening = happenings[0]
        envelope = {
            "event": postal_payloads.event_name(happening),
            "timestamp": happening.at.timestamp() + 0.25,
            "payload": postal_payloads.payload(happening),
            "uuid": str(uuid.uuid5(_NAMESPACE, postal_payloads.fingerprint(happening))),
        }
        return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:  # noqa: ARG002
        """Return the signatures. They are over the body alone, and bind no time."""
        return self._sign(body, self._keys[key_id or self.key_id])

    def _sign(self, body: bytes, key: RsaKey, name: str | None = None) -> Headers:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Postal/3.3.6",
            "X-Postal-Signature": key.sign(body, hashes.SHA1()),  # noqa: S303 - what the provider does
            "X-Postal-Signature-KID": name or key.key_id,
        }
        if not self.legacy:
            headers["X-Postal-Signature-256"] = key.sign(body, hashes.SHA256())
        return headers

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        key = self._keys[self._first]
        good = self.sign(body, now, self._first)
        match forgery:
            case Forgery.TAMPERED:
                return Signed(good, body + b" ")
            case Forgery.WRONG_KEY:
                return Signed(self._sign(body, self._forger, name=key.key_id), body)
            case Forgery.UNKNOWN_KEY:
                return Signed(self._sign(body, self._forger), body)
            case Forgery.MALFORMED:
                return Signed(good | dict.fromkeys(_SIGNATURES, "====\xff not base64"), body)
            case Forgery.UNSIGNED:
                return Signed({name: good[name] for name in ("Content-Type", "User-Agent")}, body)
            case _:
                raise unsupported(self.NAME, forgery)
