"""The receiver's errors, and the HTTP response to each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from flask import Response
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)

from shared.errors import NotFoundError, TidingsError, VerificationError
from shared.http.errors import RETRY_AFTER_SECONDS
from shared.http.request_body import BodyFailure, RequestBodyError
from shared.providers.webhooks.base import StatusCodes
from shared.vocabulary import RefusalReason


class StorageUnavailableError(TidingsError):
    """The database did not commit in time. The provider should try again."""


class QuarantineFullError(TidingsError):
    """The source has reached its limit of unverified requests."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The response to a request that the receiver refuses, `hang_seconds` after the refusal."""

    status: int
    reason: RefusalReason
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_seconds: float = 0.0

    def response(self) -> Response:
        """Return the Flask response."""
        body = msgspec.json.encode({"reason": self.reason, "error": self.message})
        response = Response(body, self.status, self.headers, content_type="application/json")
        if self.reason in (RefusalReason.UNAVAILABLE, RefusalReason.QUARANTINE_FULL):
            response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response


def _respond_to_unread_body(error: RequestBodyError, codes: StatusCodes) -> ErrorResponse:
    match error.failure:
        case BodyFailure.INCOMPLETE:
            return ErrorResponse(400, RefusalReason.UNREADABLE, str(error))
        case BodyFailure.TOO_SLOW:  # not 408: some providers do not retry after it
            return ErrorResponse(codes.unavailable, RefusalReason.UNREADABLE, str(error))
        case BodyFailure.TOO_MANY:
            return _ask_again(codes, RefusalReason.UNAVAILABLE, str(error))


def _ask_again(codes: StatusCodes, reason: RefusalReason, message: str) -> ErrorResponse:
    """Return the response that makes the provider repeat a request, which may be genuine."""
    return ErrorResponse(codes.unavailable, reason, message, hang_seconds=codes.hang_seconds)


_UNAUTHORIZED = 401
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="webhooks"'}
"""RFC 9110, 11.6.1. SNS sends the user and password of a subscription's URL only if it is asked for them."""

ERRORS: Mapping[type[Exception], Callable[[Any, StatusCodes], ErrorResponse]] = {
    NotFoundError: lambda error, _: ErrorResponse(404, RefusalReason.UNKNOWN_SOURCE, str(error)),
    VerificationError: lambda error, codes: ErrorResponse(
        codes.bad_signature, error.reason, str(error), _CHALLENGE if codes.bad_signature == _UNAUTHORIZED else {}
    ),
    QuarantineFullError: lambda error, codes: _ask_again(codes, RefusalReason.QUARANTINE_FULL, str(error)),
    StorageUnavailableError: lambda error, codes: _ask_again(codes, RefusalReason.UNAVAILABLE, str(error)),
    RequestBodyError: _respond_to_unread_body,
    RequestEntityTooLarge: lambda _, codes: ErrorResponse(
        codes.too_large, RefusalReason.TOO_LARGE, "The request body is larger than TIDINGS_MAX_BODY_BYTES."
    ),
    # Compressed bodies are refused: MAX_CONTENT_LENGTH does not limit their decompressed size.
    UnsupportedMediaType: lambda _, codes: ErrorResponse(
        codes.encoded, RefusalReason.ENCODED, "Content-Encoding is not supported; send the body uncompressed."
    ),
    NotFound: lambda _error, _codes: ErrorResponse(
        404, RefusalReason.UNKNOWN_SOURCE, "No resource has this path; post webhooks to /webhooks/<source>."
    ),
    MethodNotAllowed: lambda error, _: ErrorResponse(
        405,
        RefusalReason.UNREADABLE,
        "This method is not allowed; send webhooks with POST.",
        {"Allow": ", ".join(sorted(error.valid_methods or ()))},
    ),
    HTTPException: lambda error, _: ErrorResponse(
        error.code or 500, RefusalReason.UNREADABLE, error.description or error.name
    ),
    Exception: lambda _, codes: _ask_again(
        codes, RefusalReason.UNAVAILABLE, "The receiver failed to handle the request; try again."
    ),
}
"""How to respond to each exception class. The status codes depend on the provider, so that it retries or gives up."""
