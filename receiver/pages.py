"""What Flask answers, in threads: whoever asks whether a source is there, or how the receiver is."""

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import HTTPException

from receiver import metrics
from receiver.door import Door
from receiver.refused import Refused, answer, failed
from receiver.writer import StorageUnavailableError
from shared.domain.vocabulary import RefusalReason

_T = TypeVar("_T")


class OnLoop(Protocol):
    """Runs on the event loop what a thread asks for, and waits for it."""

    def __call__(self, asked: Coroutine[Any, Any, _T], /) -> _T:
        """What comes of it."""


def create_app(door: Door, on_loop: OnLoop) -> Flask:
    """The WSGI application beside the door."""
    app = Flask("receiver", static_folder=None)

    @app.route("/webhooks/<slug>", methods=["GET"])
    def probe(slug: str) -> Response:
        """Answer a set-up probe (GET or HEAD): 200 for a source that exists."""
        on_loop(door.source(slug))
        return Response(b"", content_type="application/json")

    @app.get("/healthz")
    def alive() -> Response:
        return Response(b"alive\n", content_type="text/plain")

    @app.get("/readyz")
    def ready() -> Response:
        try:
            on_loop(door.writer.check())
        except StorageUnavailableError as error:
            return Response(f"{error}\n", status=503, content_type="text/plain")
        return Response(b"ready\n", content_type="text/plain")

    @app.get("/metrics")
    def measured() -> Response:
        return Response(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        told = answer(error)
        headers = [(name.decode("ascii"), value.decode("ascii")) for name, value in told.headers]
        return Response(told.body, told.status, headers)

    @app.errorhandler(HTTPException)
    def unknown(error: HTTPException) -> Response:
        return refused(Refused(error.code or 500, RefusalReason.UNREADABLE, error.description or error.name))

    @app.errorhandler(Exception)
    def broken(error: Exception) -> Response:
        return refused(failed(error, request.path))

    return app
