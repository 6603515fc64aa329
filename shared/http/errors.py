"""Error handlers of the Flask applications, and their liveness probe."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import structlog
from flask import Flask, Response, request

from shared.supervision import failed_loops

RETRY_AFTER_SECONDS = 5

log = structlog.get_logger()

_MakeResponse = TypeVar("_MakeResponse", bound=Callable[..., Any])


def register_errors(
    app: Flask,
    table: Mapping[type[Exception], _MakeResponse],
    respond: Callable[[_MakeResponse, Exception], Response],
) -> None:
    """Handle every exception with `respond`, which gets the table's entry for the nearest class, and the exception.

    The entry for `Exception` handles bugs: they are logged with their traceback.
    """

    def respond_to_bug(make_response: _MakeResponse, error: Exception) -> Response:
        log.error("request failed", method=request.method, path=request.path, exc_info=error)
        return respond(make_response, error)

    for kind, make_response in table.items():
        app.register_error_handler(kind, partial(respond_to_bug if kind is Exception else respond, make_response))


def liveness() -> Response:
    """Return the response to a liveness probe: 503 while a loop of this process has failed and is not restarted yet."""
    if failed := failed_loops():
        return Response(f"failed: {', '.join(failed)}\n", status=503, content_type="text/plain")
    return Response("alive\n", content_type="text/plain")
