"""What Flask answers, in threads: whoever asks how the receiver is, or for what is not there."""

from collections.abc import Callable

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import HTTPException

from receiver import metrics
from receiver.refused import Refused, answer, failed
from receiver.writer import StorageUnavailableError
from shared.vocabulary import RefusalReason


def create_app(check: Callable[[], None]) -> Flask:
    """The WSGI application beside the door. `check` raises StorageUnavailableError where no commit is possible now."""
    app = Flask("receiver", static_folder=None)

    @app.get("/readyz")
    def ready() -> Response:
        try:
            check()
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
