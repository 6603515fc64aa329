"""Signs outgoing webhooks by Standard Webhooks 1.0.0 (github.com/standard-webhooks).

The signed text is `<id>.<timestamp>.<body>`, with the exact bytes of the body. The id stays the same in retries, so
that the subscriber recognizes duplicates. The timestamp is the time of the attempt, which prevents replays.
A shared secret signs with HMAC-SHA256 (`v1`). A private key signs with Ed25519 (`v1a`): the subscriber holds only the
public key, and can prove to others what we sent.
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

from shared.errors import InvalidFieldError

PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"

_NEW_KEY_BYTES = 32
_KEY_BYTES = range(24, 65)
_SEED_BYTES = 32
_MAX_CACHED_SIGNERS = 4096

_Signer = Callable[[bytes], str]


class Scheme(StrEnum):
    """The signature scheme: HMAC-SHA256 or Ed25519."""

    V1 = "v1"
    V1A = "v1a"


def new_secret(scheme: Scheme = Scheme.V1) -> str:
    """Return a new shared secret, or a new private key: its seed followed by its public key."""
    if scheme is Scheme.V1:
        return PREFIX + _encode(secrets.token_bytes(_NEW_KEY_BYTES))
    key = SigningKey.generate()
    return PRIVATE_PREFIX + _encode(bytes(key) + bytes(key.verify_key))


def scheme_of(secret: str) -> Scheme:
    """Return the scheme of a secret."""
    return Scheme.V1A if secret.startswith(PRIVATE_PREFIX) else Scheme.V1


def public_key(secret: str) -> str | None:
    """Return the public key of a private key; None for a shared secret. Raises InvalidFieldError."""
    if scheme_of(secret) is Scheme.V1:
        return None
    return PUBLIC_PREFIX + _encode(bytes(_private_key(secret).verify_key))


def check_secret(secret: str) -> None:
    """Raise InvalidFieldError unless this is a valid secret or private key."""
    _signer(secret)


def headers(signing: Sequence[str], *, message_id: str, attempted_at: datetime, body: bytes) -> Mapping[str, str]:
    """Return the headers that sign this body, with one signature per secret.

    Raises InvalidFieldError, or ValueError for an id with a dot, which would make the signed text ambiguous.
    """
    if "." in message_id:
        raise ValueError(f"the message id {message_id!r} must not contain a dot")
    timestamp = str(int(attempted_at.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signer(secret)(signed) for secret in signing),
    }


@lru_cache(_MAX_CACHED_SIGNERS)
def _signer(secret: str) -> _Signer:
    """Return the signer of a secret; cached, because parsing an Ed25519 key takes as long as signing."""
    if scheme_of(secret) is Scheme.V1A:
        private = _private_key(secret)
        return lambda signed: f"{Scheme.V1A},{_encode(private.sign(signed).signature)}"
    key = _decode(secret.removeprefix(PREFIX)) if secret.startswith(PREFIX) else b""
    if len(key) not in _KEY_BYTES:
        raise InvalidFieldError(
            "secret",
            None,
            f"a signing secret must be `{PREFIX}` and {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} bytes in base64",
        )
    return lambda signed: f"{Scheme.V1},{_encode(hmac.digest(key, signed, 'sha256'))}"


def _private_key(secret: str) -> SigningKey:
    """Parse a seed (RFC 8032, 5.1.5), alone or followed by its public key."""
    decoded = _decode(secret.removeprefix(PRIVATE_PREFIX))
    key = SigningKey(decoded[:_SEED_BYTES]) if len(decoded) >= _SEED_BYTES else None
    if key is None or decoded[_SEED_BYTES:] not in (b"", bytes(key.verify_key)):
        raise InvalidFieldError(
            "secret",
            None,
            f"a private key must be `{PRIVATE_PREFIX}` and an Ed25519 seed in base64, alone or with its public key",
        )
    return key


def _decode(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _encode(value: bytes) -> str:
    return b64encode(value).decode("ascii")
