"""The public door, as a WSGI application."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug import Request as HttpRequest
from werkzeug.exceptions import HTTPException

from receiver import metrics
from receiver.arrival import Refused
from receiver.door import Door, answer
from receiver.writer import StorageUnavailableError
from shared.domain.vocabulary import RefusalReason
from shared.providers.base import StatusCodes

_WEBHOOKS = "/webhooks/"

log = structlog.get_logger()


class Receiver(Flask):
    """Flask, with a shorter way for the one thing that is done thousands of times a second.

    Contexts, routing and signals would be a third of what a POST costs here, and it uses none of them.
    """

    def __init__(self, door: Door) -> None:
        super().__init__("receiver")
        self._door = door

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Hand what is posted at a source to the door, and anything else to Flask."""
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "POST" or not path.startswith(_WEBHOOKS):
            return super().wsgi_app(environ, start_response)
        try:
            # A request that its environment refers to is a cycle, which only the garbage collector undoes: hundreds
            # of answered requests would be around at any moment, with their bodies.
            request = HttpRequest(environ, populate_request=False)
            response = self._door.receive(path[len(_WEBHOOKS) :], request)
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the provider tries again
            response = _failed(error, path)
        return response(environ, start_response)


def create_app(door: Door) -> Flask:
    """The WSGI application of a receiver."""
    app = Receiver(door)
    app.add_url_rule("/webhooks/<slug>", "probe", door.probe, methods=["GET", "HEAD"])

    @app.get("/healthz")
    def alive() -> Response:
        return Response(b"alive\n", content_type="text/plain")

    @app.get("/readyz")
    def ready() -> Response:
        try:
            door.writer.check()
        except StorageUnavailableError as error:
            return Response(f"{error}\n", status=503, content_type="text/plain")
        return Response(b"ready\n", content_type="text/plain")

    @app.get("/metrics")
    def measured() -> Response:
        return Response(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return answer(Refused(error.code or 500, RefusalReason.UNREADABLE, error.description or error.name))
        return _failed(error, request.path)

    return app


def _failed(error: Exception, path: str) -> Response:
    log.error("a request failed", path=path, exc_info=error)
    return answer(Refused(StatusCodes().unavailable, RefusalReason.UNAVAILABLE, "something failed here; try again"))
