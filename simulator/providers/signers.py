"""The ways in which simulated providers sign: each signs a request, forges one, and knows its credentials.

Written from the providers' documents, with the standard library and `cryptography` only.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol
from zlib import crc32

from simulator.keys import Ed25519Key, PublicKeyForm, seed_bytes
from simulator.providers.base import QUERY, Forgery, Headers, Signed, unsupported

_JSON = {"Content-Type": "application/json"}
_TOLERANCE = timedelta(seconds=302)
_MALFORMED_PASSWORDS = ("Basic", "Basic \xff\xfe", "Basic !!!!", "Basic bm9jb2xvbg==", "Digest x=1")
_MALFORMED_QUERIES = ("secret", "secret=", "secret=%ff", "&&=&", "%zz", "=secret")
_MALFORMED_SIGNATURES = ("", "\xff", "!!!!", "v1=,t=", "v0,AAAA", "zz")

UNTIMED = frozenset({Forgery.TAMPERED, Forgery.WRONG_KEY, Forgery.MALFORMED, Forgery.UNSIGNED})
TIMED = UNTIMED | {Forgery.STALE, Forgery.FUTURE}
WITHOUT_BODY = frozenset({Forgery.WRONG_KEY, Forgery.MALFORMED, Forgery.UNSIGNED})


class Signer(Protocol):
    """A provider's way to sign. `key_id` is our name for the current secret; rotating switches to a new one."""

    forgeries: frozenset[Forgery]
    rotates: bool

    @property
    def key_id(self) -> str:
        """The name of the current key."""

    def rotate(self) -> str:
        """Switch to a new key; return its name."""

    def credentials(self) -> dict[str, Any]:
        """Return what an operator enters."""

    def sign(self, body: bytes, now: datetime, key_id: str) -> Headers:
        """Return the headers of a genuine request."""

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return a request that is not genuine. Raises ValueError if it cannot be made here."""


class OneSecret:
    """A secret of which one is valid at a time. `key_id` stays, because nothing names a secret."""

    rotates = False

    def __init__(self, name: str, seed: int | None, key_id: str, *, length: int = 32) -> None:
        self.key_id = key_id
        self._name, self._seed, self._length = name, seed, length
        self._number = 0
        self.rotate()

    def rotate(self) -> str:
        """Choose another secret; the old one is sent no more."""
        self._number += 1
        self._secret = seed_bytes(f"{self._name}/{self._number}", self._seed).hex()[: self._length]
        return self.key_id


class Password(OneSecret):
    """Basic authentication from the URL (RFC 7617), or a bearer token in the same header."""

    forgeries = WITHOUT_BODY

    def __init__(self, name: str, seed: int | None, *, field: str = "password", content_type: str = "") -> None:
        super().__init__(name, seed, "tidings")
        self._field = field
        self._headers = {"Content-Type": content_type} if content_type else _JSON

    def credentials(self) -> dict[str, Any]:
        """Return user and password, or the secret alone."""
        if self._field != "password":
            return {self._field: self._secret}
        return {"username": self.key_id, "password": self._secret}

    def sign(self, body: bytes, now: datetime, key_id: str) -> Headers:  # noqa: ARG002
        """Return the Authorization header."""
        return {**self._headers, "Authorization": self._authorization(self._secret)}

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:  # noqa: ARG002
        """Return the request with another password, a header that cannot be read, or none."""
        if forgery is Forgery.WRONG_KEY:
            return Signed({**self._headers, "Authorization": self._authorization("guess")}, body)
        if forgery is Forgery.MALFORMED:
            header = _MALFORMED_PASSWORDS[crc32(body) % len(_MALFORMED_PASSWORDS)]
            return Signed({**self._headers, "Authorization": header}, body)
        if forgery is Forgery.UNSIGNED:
            return Signed(dict(self._headers), body)
        raise unsupported(self._name, forgery)

    def _authorization(self, password: str) -> str:
        if self._field != "password":
            return f"Bearer {password}"
        return "Basic " + base64.b64encode(f"{self.key_id}:{password}".encode()).decode("ascii")


class QuerySecret(OneSecret):
    """A secret in the query of the webhook's URL, which the provider calls as it was entered."""

    forgeries = WITHOUT_BODY

    def __init__(self, name: str, seed: int | None) -> None:
        super().__init__(name, seed, "secret")

    def credentials(self) -> dict[str, Any]:
        """Return the secret."""
        return {"secret": self._secret}

    def sign(self, body: bytes, now: datetime, key_id: str) -> Headers:  # noqa: ARG002
        """Return the query, with the headers."""
        return {**_JSON, QUERY: f"secret={self._secret}"}

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:  # noqa: ARG002
        """Return the request with another secret, a query that cannot be read, or none."""
        if forgery is Forgery.WRONG_KEY:
            return Signed({**_JSON, QUERY: "secret=guess"}, body)
        if forgery is Forgery.MALFORMED:
            return Signed({**_JSON, QUERY: _MALFORMED_QUERIES[crc32(body) % len(_MALFORMED_QUERIES)]}, body)
        if forgery is Forgery.UNSIGNED:
            return Signed(dict(_JSON), body)
        raise unsupported(self._name, forgery)


MakeHeaders = Callable[[bytes, bytes, datetime], Headers]
"""Makes the headers that sign a body with the bytes of a secret's text at a time."""


class Secret:
    """A shared secret; `make` signs with it. `field` is the credential that takes a list of them."""

    rotates = True

    def __init__(
        self,
        name: str,
        seed: int | None,
        make: MakeHeaders,
        *,
        field: str = "secrets",
        form: Callable[[bytes], str] = bytes.hex,
        timed: bool = False,
        extra: dict[str, Any] | None = None,
        content_type: str = "application/json",
        tamper: bytes = b" ",
    ) -> None:
        self._name, self._seed, self._make, self._field, self._form = name, seed, make, field, form
        self.forgeries = TIMED if timed else UNTIMED
        self._extra, self._content_type, self._tamper = extra or {}, content_type, tamper
        self._secrets: dict[str, str] = {}
        self._first = self.rotate()

    @property
    def key_id(self) -> str:
        """The name of the current secret."""
        return next(reversed(self._secrets))

    def rotate(self) -> str:
        """Switch to a new secret, and keep the old one valid."""
        key_id = f"secret-{len(self._secrets) + 1}"
        self._secrets[key_id] = self._form(seed_bytes(f"{self._name}/{key_id}", self._seed))
        return key_id

    def credentials(self) -> dict[str, Any]:
        """Return all secrets."""
        return {self._field: list(self._secrets.values()), **self._extra}

    def sign(self, body: bytes, now: datetime, key_id: str) -> Headers:
        """Return the headers of a genuine request."""
        return self._headers(body, now, self._secrets[key_id])

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        secret = self._secrets[self._first]
        if forgery not in self.forgeries:
            raise unsupported(self._name, forgery)
        if forgery is Forgery.TAMPERED:
            return Signed(self._headers(body, now, secret), body + self._tamper)
        if forgery is Forgery.WRONG_KEY:
            return Signed(self._headers(body, now, self._form(b"\x01" * 32)), body)
        if forgery in (Forgery.STALE, Forgery.FUTURE):
            at = now - _TOLERANCE if forgery is Forgery.STALE else now + _TOLERANCE
            return Signed(self._headers(body, at, secret), body)
        headers = self._headers(body, now, secret)
        malformed = _MALFORMED_SIGNATURES[crc32(body) % len(_MALFORMED_SIGNATURES)]
        signing = [name for name in headers if "signature" in name.lower()]
        if forgery is Forgery.MALFORMED:
            return Signed({**headers, **dict.fromkeys(signing, malformed)}, body)
        return Signed({"Content-Type": self._content_type}, body)

    def _headers(self, body: bytes, now: datetime, secret: str) -> Headers:
        return {"Content-Type": self._content_type, **self._make(body, secret.encode(), now)}


class KeyPair:
    """An Ed25519 key of the provider (RFC 8032), whose public half the operator copies."""

    forgeries = UNTIMED
    rotates = False

    def __init__(self, name: str, seed: int | None, *, header: str) -> None:
        self._name, self._seed, self._header = name, seed, header
        self._number = 0
        self.rotate()

    @property
    def key_id(self) -> str:
        """The name of the key."""
        return self._key.key_id

    def rotate(self) -> str:
        """Make another key; the old one signs no more."""
        self._number += 1
        key_id = f"key-{self._number}"
        self._key = Ed25519Key.make(key_id, seed_bytes(f"{self._name}/{key_id}", self._seed))
        return key_id

    def credentials(self) -> dict[str, Any]:
        """Return the public key, as base64 of its 32 bytes."""
        return {"public_key": self._key.public(PublicKeyForm.RAW)}

    def sign(self, body: bytes, now: datetime, key_id: str) -> Headers:  # noqa: ARG002
        """Return the signature over the body."""
        return {**_JSON, self._header: self._key.sign(body)}

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return the request as a forger makes it."""
        headers = self.sign(body, now, self.key_id)
        if forgery is Forgery.TAMPERED:
            return Signed(headers, body + b" ")
        if forgery is Forgery.WRONG_KEY:
            return Signed({**headers, self._header: Ed25519Key.make("other", b"\x01" * 32).sign(body)}, body)
        if forgery is Forgery.MALFORMED:
            malformed = _MALFORMED_SIGNATURES[crc32(body) % len(_MALFORMED_SIGNATURES)]
            return Signed({**headers, self._header: malformed}, body)
        if forgery is Forgery.UNSIGNED:
            return Signed(dict(_JSON), body)
        raise unsupported(self._name, forgery)


def body_hmac(header: str) -> MakeHeaders:
    """Make an HMAC over the body, in hexadecimal digits."""
    return lambda body, secret, _now: {header: hmac.new(secret, body, "sha256").hexdigest()}


def timed_hmac(header: str, timestamp_header: str, *, prefix: str = "") -> MakeHeaders:
    """Make an HMAC over time and body, after a prefix, and the time in a separate header."""

    def make(body: bytes, secret: bytes, now: datetime) -> Headers:
        seconds = str(int(now.timestamp()))
        return {header: prefix + _timed(secret, seconds, body), timestamp_header: seconds}

    return make


def paired_hmac(header: str) -> MakeHeaders:
    """Make an HMAC over time and body, as `t=…,v1=…`; the time again as the number of the delivery."""

    def make(body: bytes, secret: bytes, now: datetime) -> Headers:
        seconds = str(int(now.timestamp()))
        return {f"{header}-Signature": f"t={seconds},v1={_timed(secret, seconds, body)}", f"{header}-Delivery": seconds}

    return make


def standard_webhooks(*, raw_secret: bool = False) -> MakeHeaders:
    """Sign by Standard Webhooks 1.0.0: `v1`, base64 of the HMAC over id, time and body."""

    def make(body: bytes, secret: bytes, now: datetime) -> Headers:
        id_, seconds = f"msg_{hashlib.sha256(body).hexdigest()[:24]}", str(int(now.timestamp()))
        key = secret if raw_secret else base64.b64decode(secret.removeprefix(b"whsec_"))
        signed = b".".join([id_.encode(), seconds.encode(), body])
        signature = base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()
        return {"webhook-id": id_, "webhook-timestamp": seconds, "webhook-signature": f"v1,{signature}"}

    return make


def whsec(secret: bytes) -> str:
    """Return the written form of a Standard Webhooks secret."""
    return "whsec_" + base64.b64encode(secret).decode()


def _timed(secret: bytes, seconds: str, body: bytes) -> str:
    return hmac.new(secret, seconds.encode() + b"." + body, "sha256").hexdigest()
