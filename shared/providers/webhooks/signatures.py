"""Parsing of the headers of a signed request; every error is a VerificationError."""

import binascii
from collections.abc import Sequence

from shared.errors import VerificationError
from shared.providers.webhooks.base import Request
from shared.vocabulary import RefusalReason


def require_headers(request: Request, *names: str) -> Sequence[str]:
    """Return the values of these headers, trimmed. Raises VerificationError if one is missing or blank."""
    values = [request.headers.get(name, "").strip(" \t") for name in names]
    if not all(values):
        missing = ", ".join(name for name, value in zip(names, values, strict=True) if not value)
        raise VerificationError(RefusalReason.MISSING_SIGNATURE, f"The request has no {missing}")
    return values


def require_body(request: Request) -> bytes:
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
