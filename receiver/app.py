"""The receiver: a Flask application that verifies and stores webhooks. It runs under any WSGI server."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter

from receiver import metrics, webhooks
from receiver.errors import ERRORS, Rejection, StorageUnavailableError
from receiver.group_commit import GroupCommitWriter
from receiver.rejection_log import RejectionLog
from receiver.source_cache import SourceCache
from shared.encryption import Vault
from shared.http import greenlets, wsgi
from shared.http.errors import register_errors
from shared.http.request_body import BodyRequest
from shared.settings import Settings

_MAX_ROUTES = 1024

_Routes = dict[tuple[str, str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverDeps:
    """What the receiver works with. `quarantine` writes what is not verified yet, `writer` everything else."""

    settings: Settings
    vault: Vault
    sources: SourceCache
    writer: GroupCommitWriter
    quarantine: GroupCommitWriter
    rejections: RejectionLog


def create_app(deps: ReceiverDeps) -> Flask:
    """Return the receiver's WSGI application."""
    app = _LeanFlask("receiver", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = deps.settings.max_body_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # no redirects: providers do not follow them

    @app.post("/webhooks/<slug>")
    def receive(slug: str) -> Response:
        """Verify and store one webhook. 200 means that it is committed."""
        source = deps.sources.get(slug)
        webhook = webhooks.read(request)
        now = datetime.now(UTC)
        source, quarantine = webhooks.verify(source, webhook, now, deps.sources, deps.settings)
        receipt = webhooks.make_receipt(
            source,
            webhook,
            now,
            remote_ip=wsgi.client_ip(request, deps.settings.proxies),
            is_verified=quarantine is None,
            vault=deps.vault,
        )
        writer = deps.quarantine if quarantine else deps.writer
        stored = writer.store(receipt, quarantine)
        outcome = "repeated" if stored.is_repeated else "unverified" if quarantine else "accepted"
        metrics.count_request(slug, outcome)
        return _Accepted(b'{"receipt": "%b"}' % str(stored.receipt_id).encode())

    @app.get("/webhooks/<slug>")
    def probe(slug: str) -> Response:
        """Answer a set-up probe (GET or HEAD): 200 if the source exists."""
        deps.sources.get(slug)
        return Response(content_type="application/json")

    @app.get("/healthz")
    def healthz() -> Response:
        return Response("alive\n", content_type="text/plain")

    @app.get("/readyz")
    def readyz() -> Response:
        try:
            deps.writer.check()
        except StorageUnavailableError as error:
            return Response(f"{error}\n", status=503, content_type="text/plain")
        return Response("ready\n", content_type="text/plain")

    @app.get("/metrics")
    def prometheus_metrics() -> Response:
        return Response(greenlets.run_in_thread(metrics.exposition), content_type=CONTENT_TYPE_LATEST)

    def reject(row: Any, error: Exception) -> Response:
        """Answer with the status code for the provider, and list the rejection if it is one of a webhook."""
        slug = request.path.removeprefix("/webhooks/")
        rejection: Rejection = row(error, deps.sources.status_codes(slug))
        if request.method == "POST" and slug != request.path:
            # Names of sources that do not exist are no labels: anybody can make up any number of them.
            metrics.count_request(slug if deps.sources.find(slug) else "", rejection.reason)
            deps.rejections.record(
                webhooks.make_refusal(
                    request,
                    datetime.now(UTC),
                    slug=slug,
                    status=rejection.status,
                    reason=rejection.reason,
                    message=rejection.message,
                    proxies=deps.settings.proxies,
                )
            )
        return rejection.response()

    register_errors(app, ERRORS, reject)
    return app


class _Accepted(Response):
    """The 200 of a stored webhook. Its headers are complete, so werkzeug need not work them out."""

    def __init__(self, body: bytes) -> None:
        headers = Headers([("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        super().__init__(status=200, headers=headers)
        self.response = [body]

    def get_wsgi_response(self, _environ: dict[str, Any]) -> tuple[Any, str, list[tuple[str, str]]]:
        """Return the body, the status and the headers as they are."""
        return self.response, self.status, self.headers.to_wsgi_list()


class _NoSessions(SessionInterface):
    """Flask's sessions, switched off: the receiver has no cookies."""

    _session = NullSession()

    def open_session(self, _app: Flask, _request: Request) -> NullSession:
        """Return the session that all requests share: it is empty, and refuses changes."""
        return self._session

    def is_null_session(self, _session: object) -> bool:
        """Return True: nothing is to be saved."""
        return True


class _LeanRequest(BodyRequest):
    """A request that is not in its own environment: as a reference cycle, it would outlive its response."""

    blueprints: list[str] = []  # noqa: RUF012 - there are none; Flask asks for them four times per request

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ, populate_request=False)


class _LeanAdapter(MapAdapter):
    """Matches routes by path and method alone, and remembers the last matches."""

    def __init__(self, routes: "_Routes", *args: Any) -> None:
        super().__init__(*args)
        self._routes = routes

    def match(self, *args: Any, **kwargs: Any) -> Any:
        """Return the rule and its arguments. Raises NotFound, MethodNotAllowed."""
        key = self.path_info, self.default_method
        match = self._routes.get(key)
        if match is None:
            match = super().match(*args, **kwargs)
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[key] = match
        return match


class _LeanFlask(Flask):
    """Flask without what the receiver does not use: half of the time that Flask takes for a request."""

    request_class = _LeanRequest
    session_interface = _NoSessions()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._routes: _Routes = {}

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what matches the path of a request. The receiver builds no URLs, so the host does not matter."""
        if request is None:
            return None
        return _LeanAdapter(self._routes, self.url_map, "receiver", "/", "", "http", request.path, request.method)

    def ensure_sync(self, func: Any) -> Any:
        """Return the function as it is: no view is a coroutine function."""
        return func
