"""Signing what we post, by Standard Webhooks 1.0.0 (github.com/standard-webhooks).

What is signed is `<id>.<timestamp>.<body>`: the exact bytes that are sent. The id stays the same over retries, so
that a receiver can tell a repetition; the timestamp is of the attempt, so that an old one cannot be replayed.
A secret shared with the receiver signs by HMAC-SHA256 (`v1`). A private key signs by Ed25519 (`v1a`): then the
receiver holds the public key only, and can prove to others what we sent.
"""

import binascii
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from nacl.signing import SigningKey

from shared.errors import TidingsError

PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"

_NEW_KEY_BYTES = 32
_KEY_BYTES = range(24, 65)
_SEED_BYTES = 32
_MOST_KEPT = 4096

_Signer = Callable[[bytes], str]


class Scheme(StrEnum):
    """How is signed: by HMAC-SHA256, or by Ed25519."""

    V1 = "v1"
    V1A = "v1a"


class SigningSecretError(TidingsError):
    """A secret that nothing can be signed with."""


def new_secret(scheme: Scheme = Scheme.V1) -> str:
    """A fresh secret to be shared with a receiver; or a private key: its seed, with its public key behind it."""
    if scheme is Scheme.V1:
        return PREFIX + _text(secrets.token_bytes(_NEW_KEY_BYTES))
    key = SigningKey.generate()
    return PRIVATE_PREFIX + _text(bytes(key) + bytes(key.verify_key))


def scheme_of(secret: str) -> Scheme:
    """How this secret signs."""
    return Scheme.V1A if secret.startswith(PRIVATE_PREFIX) else Scheme.V1


def public_key(secret: str) -> str | None:
    """What a receiver verifies with, where this is a private key. Raises SigningSecretError."""
    if scheme_of(secret) is Scheme.V1:
        return None
    return PUBLIC_PREFIX + _text(bytes(_private_key(secret).verify_key))


def check_secret(secret: str) -> None:
    """Raise SigningSecretError unless this is a secret or a private key, in its usual form."""
    _signer(secret)


def headers(signing: Sequence[str], *, message_id: str, attempted_at: datetime, body: bytes) -> Mapping[str, str]:
    """The headers that prove that this body is ours; with several secrets it is signed with each.

    Raises SigningSecretError, or ValueError for an id with which the signed text could be read in two ways.
    """
    if "." in message_id:
        raise ValueError("the id of a message must not contain a dot")
    timestamp = str(int(attempted_at.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signer(secret)(signed) for secret in signing),
    }


@lru_cache(_MOST_KEPT)
def _signer(secret: str) -> _Signer:
    """What signs with this secret; kept, because reading an Ed25519 key takes as long as signing with it."""
    if scheme_of(secret) is Scheme.V1A:
        private = _private_key(secret)
        return lambda signed: f"{Scheme.V1A},{_text(private.sign(signed).signature)}"
    key = _shared_key(secret)
    return lambda signed: f"{Scheme.V1},{_text(hmac.digest(key, signed, 'sha256'))}"


def _shared_key(secret: str) -> bytes:
    key = _bytes(secret.removeprefix(PREFIX)) if secret.startswith(PREFIX) else b""
    if len(key) not in _KEY_BYTES:
        raise SigningSecretError(
            f"a signing secret must be `{PREFIX}` and the base64 of {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} bytes"
        )
    return key


def _private_key(secret: str) -> SigningKey:
    """Of a seed (RFC 8032, 5.1.5), alone or with its public key behind it."""
    text = _bytes(secret.removeprefix(PRIVATE_PREFIX))
    key = SigningKey(text[:_SEED_BYTES]) if len(text) >= _SEED_BYTES else None
    if key is None or text[_SEED_BYTES:] not in (b"", bytes(key.verify_key)):
        raise SigningSecretError(
            f"a private key must be `{PRIVATE_PREFIX}` and the base64 of an Ed25519 seed, alone or with its public key"
        )
    return key


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _text(value: bytes) -> str:
    return b64encode(value).decode("ascii")
