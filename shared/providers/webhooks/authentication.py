"""Parsing of what authenticates a webhook: a source's credentials, and the headers of a signed request.

Every error about a credential is a CredentialsError that names the field. Every error about a request is a
VerificationError.
"""

import binascii
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from shared.errors import CredentialsError, VerificationError
from shared.providers.webhooks.base import CredentialField, WebhookRequest
from shared.vocabulary import RefusalReason

BASIC_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="username", type="text", required=True, help="The user of the webhook's URL; must not contain a colon."
    ),
    CredentialField(
        name="password", type="text", required=True, secret=True, help="The password of the webhook's URL."
    ),
    CredentialField(
        name="previous",
        type="list",
        secret=True,
        help="`{username, password}` objects that are still accepted during a rotation.",
    ),
)
"""The credentials that `read_basic` reads."""

_MAX_DIGITS = 15


def read_secret(raw: Mapping[str, Any], name: str) -> str:
    """Return a required text. Raises CredentialsError: a source without its secret would accept every request."""
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        raise CredentialsError(f"`{name}` must be a non-empty string")
    return value


def read_optional(raw: Mapping[str, Any], name: str) -> str | None:
    """Return an optional text. Raises CredentialsError."""
    return None if raw.get(name) is None else read_secret(raw, name)


def read_texts(raw: Mapping[str, Any], name: str, *, required: bool) -> Mapping[str, str]:
    """Return an object of texts, such as keys by their ids. Raises CredentialsError."""
    value = raw.get(name)
    if value is None and not required:
        return {}
    if not isinstance(value, Mapping) or not all(
        isinstance(key, str) and key and isinstance(text, str) and text for key, text in value.items()
    ):
        raise CredentialsError(f"`{name}` must be an object whose keys and values are non-empty strings")
    if required and not value:
        raise CredentialsError(f"`{name}` must not be empty")
    return value


def read_secrets(raw: Mapping[str, Any], name: str) -> Sequence[str]:
    """Return a required list of texts: of the current secret, and of others during a rotation. Raises CredentialsError.

    A single text is accepted too.
    """
    value = raw.get(name)
    secrets = [value] if isinstance(value, str) else value
    if not isinstance(secrets, list | tuple) or not secrets or not all(isinstance(one, str) and one for one in secrets):
        raise CredentialsError(f"`{name}` must be a non-empty list of non-empty strings")
    return secrets


def digest(text: str) -> bytes:
    """Return the form in which an expected password is kept, so that comparing takes the same time for any length."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def read_basic(raw: Mapping[str, Any]) -> Sequence[bytes]:
    """Return the digests of the `username:password` pairs of BASIC_FIELDS. Raises CredentialsError."""
    previous = raw.get("previous") or []
    if not isinstance(previous, list | tuple) or not all(isinstance(entry, Mapping) for entry in previous):
        raise CredentialsError("`previous` must be a list of objects with `username` and `password`")
    accepted = []
    for entry in (raw, *previous):
        username, password = read_secret(entry, "username"), read_secret(entry, "password")
        if ":" in username:
            raise CredentialsError("`username` must not contain a colon: RFC 7617 ends it there")
        accepted.append(digest(f"{username}:{password}"))
    return accepted


def verify_basic(request: WebhookRequest, accepted: Iterable[bytes]) -> None:
    """Verify basic authentication against the digests of `read_basic`. Raises VerificationError."""
    (header,) = require_headers(request, "authorization")
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise malformed("Authorization must use the Basic scheme")
    given = sha256(decode_base64(encoded.strip(), "Authorization")).digest()
    # Compare with all pairs, by digests of equal length: timing reveals neither a near match nor a length.
    matches = [hmac.compare_digest(given, one) for one in accepted]
    if not any(matches):
        raise VerificationError(RefusalReason.BAD_CREDENTIALS, "User name or password is wrong")


def verify_token(given: str, accepted: Iterable[bytes], place: str) -> None:
    """Verify a secret that the request carries in plain text, against digests of it. Raises VerificationError."""
    if not given:
        raise VerificationError(RefusalReason.MISSING_SIGNATURE, f"The request has no {place}")
    found = digest(given)
    matches = [hmac.compare_digest(found, one) for one in accepted]
    if not any(matches):
        raise VerificationError(RefusalReason.BAD_CREDENTIALS, f"The secret in {place} is wrong")


def verify_hmac(
    secrets: Iterable[bytes], signed: bytes, signatures: Iterable[bytes], algorithm: str = "sha256"
) -> None:
    """Verify that one of the secrets made one of the signatures. Raises VerificationError."""
    given = list(signatures)
    matches = [hmac.compare_digest(hmac.digest(secret, signed, algorithm), one) for secret in secrets for one in given]
    if not any(matches):
        raise VerificationError(RefusalReason.BAD_SIGNATURE, "Signature verification failed for every secret")


def check_age(now: datetime, signed_at: str, name: str, max_seconds: int) -> None:
    """Check that a signed Unix timestamp is at most so far from now. Raises VerificationError."""
    if not (signed_at.isascii() and signed_at.isdigit() and len(signed_at) <= _MAX_DIGITS):
        raise malformed(f"{name} must be a Unix timestamp")
    if abs(int(now.timestamp()) - int(signed_at)) > max_seconds:
        raise VerificationError(RefusalReason.STALE, f"Timestamp outside the allowed window (±{max_seconds} s)")


def read_pairs(header: str, *required: str) -> Mapping[str, str]:
    """Parse `name=value` pairs in any order, as in `t=…,v1=…`. Raises VerificationError if one occurs twice."""
    pairs: dict[str, str] = {}
    for part in header.split(","):
        # Split at the first `=` only, because base64 may end with more of them.
        name, _, value = part.strip().partition("=")
        if name in pairs:
            raise malformed(f"The signature contains {name[:60]!r} twice")
        pairs[name] = value
    if not all(pairs.get(name) for name in required):
        raise malformed(f"The signature must have {', '.join(f'`{name}`' for name in required)}")
    return pairs


def require_headers(request: WebhookRequest, *names: str) -> Sequence[str]:
    """Return the values of these headers, trimmed. Raises VerificationError if one is missing or blank."""
    values = [request.headers.get(name, "").strip(" \t") for name in names]
    if not all(values):
        missing = ", ".join(name for name, value in zip(names, values, strict=True) if not value)
        raise VerificationError(RefusalReason.MISSING_SIGNATURE, f"The request has no {missing}")
    return values


def require_body(request: WebhookRequest) -> bytes:
    """Return the body. Raises VerificationError if it is empty."""
    if not request.body:
        raise VerificationError(RefusalReason.EMPTY_BODY, "The request has no body")
    return request.body


def decode_base64(text: str, name: str) -> bytes:
    """Decode strict base64 with padding (RFC 4648 4). Raises VerificationError."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # also raised for characters beyond ASCII
        raise malformed(f"{name} is not valid base64: {error}") from None


def decode_hex(text: str, name: str) -> bytes:
    """Decode hexadecimal digits. Raises VerificationError."""
    try:
        return binascii.a2b_hex(text)
    except ValueError as error:
        raise malformed(f"{name} is not hexadecimal: {error}") from None


def malformed(sentence: str) -> VerificationError:
    """Return the error for a malformed signature."""
    return VerificationError(RefusalReason.MALFORMED_SIGNATURE, sentence)
