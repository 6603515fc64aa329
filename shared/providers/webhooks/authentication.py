"""Parsing of what authenticates a webhook: a source's credentials, and the headers of a signed request.

Every error about a credential is a CredentialsError that names the field. Every error about a request is a
VerificationError.
"""

import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import CredentialsError, VerificationError
from shared.providers.webhooks.base import WebhookRequest
from shared.vocabulary import RefusalReason


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


def malformed(sentence: str) -> VerificationError:
    """Return the error for a malformed signature."""
    return VerificationError(RefusalReason.MALFORMED_SIGNATURE, sentence)
