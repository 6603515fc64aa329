"""How exceptions become HTTP responses. Each application registers its own table of exceptions here."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import structlog
from flask import Flask, Response, request

RETRY_AFTER_SECONDS = 5

log = structlog.get_logger()

_Row = TypeVar("_Row", bound=Callable[..., Any])


def register_errors(
    app: Flask, table: Mapping[type[Exception], _Row], respond: Callable[[_Row, Exception], Response]
) -> None:
    """Answer every exception of the application with `respond(row, error)`, for the row of its nearest class.

    The row of `Exception` is for bugs: they are logged with their traceback, and nothing of them is shown.
    """

    def answer(row: _Row, error: Exception) -> Response:
        return respond(row, error)

    def answer_bug(row: _Row, error: Exception) -> Response:
        log.error("request failed", method=request.method, path=request.path, exc_info=error)
        return respond(row, error)

    for kind, row in table.items():
        app.register_error_handler(kind, partial(answer_bug if kind is Exception else answer, row))
