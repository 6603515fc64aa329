"""What the receiver answers instead of 200: every error and its HTTP response."""

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

from shared.errors import TidingsError, VerificationError
from shared.http.errors import RETRY_AFTER_SECONDS
from shared.http.request_body import BodyFailure, RequestBodyError
from shared.providers.webhooks.base import StatusCodes
from shared.vocabulary import RefusalReason


class UnknownSourceError(TidingsError):
    """No source has this name."""


class StorageUnavailableError(TidingsError):
    """The database did not commit in time. The provider should try again."""


class QuarantineFullError(TidingsError):
    """The source has reached its limit of unverified requests."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The response to a request that is not accepted."""

    status: int
    reason: RefusalReason
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """Return the response."""
        body = msgspec.json.encode({"reason": self.reason, "error": self.message})
        response = Response(body, self.status, self.headers, content_type="application/json")
        if self.reason is RefusalReason.UNAVAILABLE:
            response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response


def _reject_unread(error: RequestBodyError, codes: StatusCodes) -> Rejection:
    match error.failure:
        case BodyFailure.INCOMPLETE:
            return Rejection(400, RefusalReason.UNREADABLE, str(error))
        case BodyFailure.TOO_SLOW:  # not 408, which some providers take as final
            return Rejection(codes.unavailable, RefusalReason.UNREADABLE, str(error))
        case BodyFailure.TOO_MANY:
            return Rejection(codes.unavailable, RefusalReason.UNAVAILABLE, str(error))


ERRORS: Mapping[type[Exception], Callable[[Any, StatusCodes], Rejection]] = {
    UnknownSourceError: lambda error, _: Rejection(404, RefusalReason.UNKNOWN_SOURCE, str(error)),
    VerificationError: lambda error, codes: Rejection(codes.bad_signature, error.reason, str(error)),
    QuarantineFullError: lambda error, codes: Rejection(codes.bad_signature, RefusalReason.QUARANTINE_FULL, str(error)),
    StorageUnavailableError: lambda error, codes: Rejection(codes.unavailable, RefusalReason.UNAVAILABLE, str(error)),
    RequestBodyError: _reject_unread,
    RequestEntityTooLarge: lambda _, codes: Rejection(
        codes.too_large, RefusalReason.TOO_LARGE, "The request body is larger than TIDINGS_MAX_BODY_BYTES."
    ),
    # A compressed body is refused: the limit on the body does not bound what a few bytes inflate to.
    UnsupportedMediaType: lambda _, codes: Rejection(
        codes.encoded, RefusalReason.ENCODED, "Content-Encoding is not supported; send the body uncompressed."
    ),
    NotFound: lambda _error, _codes: Rejection(
        404, RefusalReason.UNKNOWN_SOURCE, "Nothing is at this path; webhooks are posted to /webhooks/<source>."
    ),
    MethodNotAllowed: lambda error, _: Rejection(
        405,
        RefusalReason.UNREADABLE,
        "This method is not allowed here; webhooks are sent with POST.",
        {"Allow": ", ".join(sorted(error.valid_methods or ()))},
    ),
    HTTPException: lambda error, _: Rejection(
        error.code or 500, RefusalReason.UNREADABLE, error.description or error.name
    ),
    Exception: lambda _, codes: Rejection(
        codes.unavailable, RefusalReason.UNAVAILABLE, "The receiver failed to handle the request; try again."
    ),
}
"""By class of exception. The status codes are those of the source's provider, so that the provider reacts well."""
