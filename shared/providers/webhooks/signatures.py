"""Reading what the headers of a signed request carry; every fault is a VerificationError."""

import binascii
from collections.abc import Sequence

from shared.errors import VerificationError
from shared.providers.webhooks.base import Request
from shared.vocabulary import RefusalReason


def require_headers(request: Request, *names: str) -> Sequence[str]:
    """The values of these headers, trimmed. Raises VerificationError if one is missing or blank."""
    values = [request.headers.get(name, "").strip(" \t") for name in names]
    if not all(values):
        missing = ", ".join(name for name, value in zip(names, values, strict=True) if not value)
        raise VerificationError(RefusalReason.MISSING_SIGNATURE, f"The request has no {missing}")
    return values


def require_body(request: Request) -> bytes:
    """The body. Raises VerificationError if there is none."""
    if not request.body:
        raise VerificationError(RefusalReason.EMPTY_BODY, "The request has no body")
    return request.body


def decode_base64(text: str, name: str) -> bytes:
    """The bytes of base64 with its padding and nothing else (RFC 4648 4). Raises VerificationError."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # also what a character beyond ASCII raises
        raise malformed(f"{name} is not base64: {error}") from None


def malformed(sentence: str) -> VerificationError:
    """The error for a signature that cannot be read."""
    return VerificationError(RefusalReason.MALFORMED_SIGNATURE, sentence)
