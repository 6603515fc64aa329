"""Problem details (RFC 9457): every error of the API is one, says what is wrong, and nothing of the inside."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from flask import Flask, Response, request
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from shared.encryption import SecretsError
from shared.errors import ConflictError, GoneError, InvalidFieldError, NotFoundError, TidingsError

CONTENT_TYPE = "application/problem+json"
_RETRY_AFTER_SECONDS = 5

_SENTENCES = {
    404: "There is nothing at this path; GET /openapi.json lists the paths there are.",
    405: "This path does not answer to this method; Allow names those that it answers to.",
}
"""What is said instead of the framework's words."""

log = structlog.get_logger()

Errors = Mapping[str, Sequence[str]]


class ProblemError(TidingsError):
    """What the API answers instead of what was asked for. `errors` are sentences by the field they are about.

    `extra` are members of the answer besides those of every problem.
    """

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
    """The answer where there is no such thing."""
    return ProblemError(404, f"There is no {what}.")


def invalid(errors: Errors) -> ProblemError:
    """The answer to values that cannot be used."""
    detail = "; ".join(f"{field}: {' '.join(sentences)}" for field, sentences in errors.items())
    return ProblemError(422, detail, errors=errors)


def register(app: Flask) -> None:
    """Have every error of this application answered as a problem."""
    app.register_error_handler(ProblemError, _answer)
    app.register_error_handler(InvalidFieldError, lambda error: _answer(invalid({error.field: [str(error)]})))
    app.register_error_handler(ConflictError, lambda error: _answer(ProblemError(409, str(error))))
    app.register_error_handler(SecretsError, lambda error: _answer(ProblemError(409, str(error))))
    app.register_error_handler(GoneError, lambda error: _answer(ProblemError(410, str(error))))
    app.register_error_handler(NotFoundError, lambda error: _answer(ProblemError(404, str(error))))
    app.register_error_handler(HTTPException, _of_http)
    for unreachable in (OperationalError, InterfaceError, PoolTimeoutError):
        app.register_error_handler(unreachable, _of_storage)
    app.register_error_handler(Exception, _of_bug)


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
    detail = _too_large() if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else _SENTENCES.get(error.code)
    detail = detail or error.description or error.name
    return _answer(ProblemError(error.code, detail, headers=headers))


def _too_large() -> str:
    return f"The body is larger than {(request.max_content_length or 0) >> 20} MiB."


def _by_field(messages: Mapping[str, Any]) -> Errors:
    """Sentences by dotted field, from what the parser found in each part of the request."""
    found: dict[str, list[str]] = {}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, entry in value.items():
                collect(f"{prefix}.{name}" if prefix and name != "_schema" else prefix or str(name), entry)
        else:
            found.setdefault(prefix, []).extend(value if isinstance(value, list) else [str(value)])

    for fields in messages.values():
        collect("", fields if isinstance(fields, Mapping) else {"body": fields})
    return found


def _of_storage(error: Exception) -> Response:
    cause = error.orig if isinstance(error, DBAPIError) else error
    log.warning("storage unavailable", path=request.path, error=str(cause).partition("\n")[0])
    problem = ProblemError(
        503,
        "The database cannot be reached, or took too long. Try again.",
        headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
    )
    return _answer(problem)


def _of_bug(error: Exception) -> Response:
    log.error("a request failed", method=request.method, path=request.path, exc_info=error)
    return _answer(ProblemError(500, "Something failed here. The log has what it was."))
