"""Verification of webhooks: Standard Webhooks 1.0.0, with HMAC-SHA256 (v1) and Ed25519 (v1a)."""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Mapping, Sequence

from tidings_client.changes import Change, read_change

TOLERANCE_SECONDS = 300
_MAX_SIGNATURES = 20


class VerificationError(Exception):
    """The request is not from Tidings, or is old: answer 401."""


def verify(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> Change:
    """Return the change that a request contains. Raises VerificationError, and nothing else for any request.

    `body` are the bytes that arrived. `secrets` are the secrets (`whsec_…`) and public keys (`whpk_…`) of the
    subscription, several during a rotation. Raises ValueError for a secret that is none.
    """
    keys = [_read_key(secret) for secret in secrets]
    given = {name.lower(): value for name, value in headers.items()}
    identifier, at = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not (at.isascii() and at.isdecimal() and abs(time.time() - int(at[:15])) <= TOLERANCE_SECONDS):
        raise VerificationError("webhook-timestamp is missing, or more than five minutes off")
    signed = b".".join((identifier.encode(errors="replace"), at.encode(), body))
    for signature in given.get("webhook-signature", "").split()[:_MAX_SIGNATURES]:
        scheme, _, text = signature.partition(",")
        if any(scheme == known and _is_valid(scheme, text, key, signed) for known, key in keys):
            try:
                return read_change(json.loads(body))
            except (ValueError, KeyError, TypeError, RecursionError):
                raise VerificationError("the body is signed, but is not a change") from None
    raise VerificationError("no signature is valid")


def _read_key(secret: str) -> tuple[str, bytes]:
    """Return the scheme and the key of a secret. Raises ValueError, which does not show it."""
    prefix, _, text = secret.partition("_")
    scheme = {"whsec": "v1", "whpk": "v1a"}.get(prefix)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if scheme is None or not key or (scheme == "v1a" and len(key) != 32):
        raise ValueError("a secret must be whsec_ or whpk_, followed by base64")
    return scheme, key


def _is_valid(scheme: str, signature: str, key: bytes, signed: bytes) -> bool:
    try:
        given = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    if scheme == "v1":
        return hmac.compare_digest(given, hmac.digest(key, signed, "sha256"))
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(given, signed)
    except InvalidSignature:
        return False
    return True
