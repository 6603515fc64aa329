"""What Flask answers, in threads: whoever asks how the receiver is, or for what is not there."""

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import HTTPException

from receiver import metrics
from receiver.refused import Refused, answer, failed
from receiver.writer import StorageUnavailableError, Writer
from shared.domain.vocabulary import RefusalReason

_T = TypeVar("_T")


class OnLoop(Protocol):
    """Runs on the event loop what a thread asks for, and waits for it."""

    def __call__(self, asked: Coroutine[Any, Any, _T], /) -> _T:
        """What comes of it."""


def create_app(writer: Writer, on_loop: OnLoop) -> Flask:
    """The WSGI application beside the door."""
    app = Flask("receiver", static_folder=None)

    @app.get("/readyz")
    def ready() -> Response:
        try:
            on_loop(writer.check())
        except StorageUnavailableError as error:
            return Response(f"{error}\n", status=503, content_type="text/plain")
        return Response(b"ready\n", content_type="text/plain")

    @app.get("/metrics")
    def measured() -> Response:
        return Response(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)

    @app.errorhandler(HTTPException)
    def unknown(error: HTTPException) -> Response:
        return _response(Refused(error.code or 500, RefusalReason.UNREADABLE, error.description or error.name))

    @app.errorhandler(Exception)
    def broken(error: Exception) -> Response:
        return _response(failed(error, request.path))

    return app


def _response(refused: Refused) -> Response:
    told = answer(refused)
    return Response(told.body, told.status, [(name.decode(), value.decode()) for name, value in told.headers])
