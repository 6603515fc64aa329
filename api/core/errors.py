"""Errors of the API as problem details (RFC 9457). They say what is wrong, and nothing about the implementation."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar

import msgspec
import structlog
from flask import Flask, Response, request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from shared.encryption import SecretsError
from shared.errors import (
    ConflictError,
    CredentialsError,
    GoneError,
    InvalidFieldError,
    NotFoundError,
    TidingsError,
    first_line,
)
from shared.http.errors import RETRY_AFTER_SECONDS, register_errors
from shared.http.request_body import BodyFailure, RequestBodyError
from shared.providers.api.base import ApiErrorKind, ProviderApiError

CONTENT_TYPE = "application/problem+json"
_RETRY_AFTER = {"Retry-After": str(RETRY_AFTER_SECONDS)}

_MAX_FIELDS = 100
"""How many invalid fields an error names."""

_SENTENCES = {
    404: "There is nothing at this path; GET /openapi.json lists the paths there are.",
    405: "This path does not answer to this method; Allow names those that it answers to.",
}
"""Details that replace the framework's."""

log = structlog.get_logger()

Errors = Mapping[str, Sequence[str]]
_T = TypeVar("_T")


class ProblemError(TidingsError):
    """An error response. `errors` are messages by field, `extra` members besides those of every problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Errors | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = errors
        self.headers = headers or {}
        self.extra = extra or {}


def not_found(what: str) -> ProblemError:
    """Return the problem for something that does not exist."""
    return ProblemError(404, f"There is no {what}.")


def require(found: _T | None, what: str) -> _T:
    """Return the given value. Raises ProblemError (404) if it is None."""
    if found is None:
        raise not_found(what)
    return found


def invalid(errors: Errors) -> ProblemError:
    """Return the problem for values that cannot be used."""
    detail = "; ".join(f"{field}: {' '.join(sentences)}" for field, sentences in errors.items())
    return ProblemError(422, detail, errors=errors)


def too_many(sentence: str, retry_after_seconds: int = RETRY_AFTER_SECONDS) -> ProblemError:
    """Return the problem for a caller that has reached a limit, which the sentence names."""
    return ProblemError(429, sentence, headers={"Retry-After": str(retry_after_seconds)})


def register(app: Flask) -> None:
    """Answer every error of this application with a problem."""
    register_errors(app, _ERRORS, lambda row, error: row(error))


def _answer(problem: ProblemError) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": str(problem),
        **problem.extra,
    }
    if problem.errors is not None:
        body["errors"] = problem.errors
    response = Response(msgspec.json.encode(body), status=problem.status, content_type=CONTENT_TYPE)
    response.headers.update(problem.headers)
    return response


def _of_http(error: HTTPException) -> Response:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:  # a redirection
        return error.get_response()  # type: ignore[return-value]
    messages = getattr(error, "data", {}).get("messages")
    if messages is not None:
        return _answer(invalid(_by_field(messages)))
    headers = dict(error.get_headers())
    headers.pop("Content-Type", None)
    detail = _SENTENCES.get(error.code) or error.description or error.name
    if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = f"The body is larger than {(request.max_content_length or 0) >> 20} MiB."
    return _answer(ProblemError(error.code, detail, headers=headers))


def _by_field(messages: Mapping[str, Any]) -> Errors:
    """Return messages by dotted field, from what the parser found in each part of the request."""
    found: dict[str, list[str]] = {}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, entry in value.items():
                collect(f"{prefix}.{name}" if prefix and name != "_schema" else prefix or str(name), entry)
        else:
            found.setdefault(prefix, []).extend(value if isinstance(value, list) else [str(value)])

    for fields in messages.values():
        collect("", fields if isinstance(fields, Mapping) else {"body": fields})
    if (left := len(found) - _MAX_FIELDS) > 0:
        return {**dict(islice(found.items(), _MAX_FIELDS)), "body": [f"{left} more values are invalid."]}
    return found


def _of_storage(error: Exception) -> Response:
    log.warning("storage unavailable", path=request.path, error=first_line(error))
    detail = "The database cannot be reached, refuses to write, or took too long. Try again."
    return _answer(ProblemError(503, detail, headers=_RETRY_AFTER))


def _of_body(error: RequestBodyError) -> Response:
    match error.failure:
        case BodyFailure.TOO_SLOW:
            return _answer(ProblemError(408, str(error)))
        case BodyFailure.TOO_MANY:
            return _answer(ProblemError(503, str(error), headers=_RETRY_AFTER))
        case BodyFailure.INCOMPLETE:
            return _answer(ProblemError(400, str(error)))


def _of_provider(error: ProviderApiError) -> Response:
    """Return 409 for what a person can fix, such as an API key that is missing; 502 if the provider failed."""
    is_denied = error.kind is ApiErrorKind.DENIED
    is_ours = is_denied or (error.status is None and error.kind is ApiErrorKind.OTHER)
    return _answer(ProblemError(409 if is_ours else 502, str(error)))


_ERRORS: Mapping[type[Exception], Callable[[Any], Response]] = {
    ProblemError: _answer,
    InvalidFieldError: lambda error: _answer(invalid({error.field: [str(error)]})),
    NotFoundError: lambda error: _answer(ProblemError(404, str(error))),
    ConflictError: lambda error: _answer(ProblemError(409, str(error))),
    SecretsError: lambda error: _answer(ProblemError(409, str(error))),
    CredentialsError: lambda error: _answer(ProblemError(409, str(error))),
    ProviderApiError: _of_provider,
    GoneError: lambda error: _answer(ProblemError(410, str(error))),
    RequestBodyError: _of_body,
    HTTPException: _of_http,
    OperationalError: _of_storage,
    InterfaceError: _of_storage,
    PoolTimeoutError: _of_storage,
    Exception: lambda _error: _answer(
        ProblemError(500, "The request failed because of a bug; the log has the details.")
    ),
}
"""How each class of exception is answered."""
