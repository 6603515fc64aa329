"""The receiver: a Flask application that verifies and stores webhooks. It runs under any WSGI server."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter

from receiver import metrics, webhooks
from receiver.errors import ERRORS, ErrorResponse, StorageUnavailableError
from receiver.group_commit import GroupCommitWriter
from receiver.refusal_log import RefusalLog
from receiver.source_cache import SourceCache
from shared.counters.metric_store import Observations
from shared.counters.store import RECEIVED
from shared.encryption import Vault
from shared.http import greenlets, wsgi
from shared.http.errors import liveness, register_errors
from shared.http.request_body import BodyRequest
from shared.providers.webhooks.base import WebhookRequest
from shared.settings import Settings
from shared.sources.source import Source

_MAX_ROUTES = 1024
_MAX_HANGING = 200
"""The most requests to leave unanswered at a time. Each occupies a connection, so any others are answered."""

_Routes = dict[tuple[str, str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverDeps:
    """What the receiver works with. `quarantine_writer` stores unverified requests, `writer` all others.

    `observations` are counted in memory; the reporter of the process stores them.
    """

    settings: Settings
    vault: Vault
    sources: SourceCache
    writer: GroupCommitWriter
    quarantine_writer: GroupCommitWriter
    refusals: RefusalLog
    observations: Observations = field(default_factory=Observations)


def create_app(deps: ReceiverDeps) -> Flask:
    """Return the receiver's WSGI application."""
    app = _LeanFlask("receiver", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = deps.settings.max_body_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # no redirects: providers do not follow them
    hanging = greenlets.Pause(_MAX_HANGING)

    @app.post("/webhooks/<slug>")
    def receive(slug: str) -> Response:
        source = deps.sources.get(slug)
        current: Request = request._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - the proxy takes 1 µs a use
        return _store(deps, source, webhooks.read(current), current)

    @app.get("/webhooks/<slug>")
    def probe(slug: str) -> Response:
        """Answer a set-up probe (GET or HEAD) with 200 if the source exists.

        A GET whose query is an event is stored if the provider sends events that way. From any other provider, a GET
        with a query is refused: it may be an event, which 200 would acknowledge.
        """
        source = deps.sources.get(slug)
        if _may_be_webhook(request):
            webhook = webhooks.read_query(request, source.provider)
            if webhook.body:
                return _store(deps, source, webhook, request)
        return Response(content_type="application/json")

    app.add_url_rule("/healthz", view_func=liveness)

    @app.get("/readyz")
    def readyz() -> Response:
        try:
            deps.writer.check()
        except StorageUnavailableError as error:
            return Response(f"{error}\n", status=503, content_type="text/plain")
        return Response("ready\n", content_type="text/plain")

    @app.get("/metrics")
    def prometheus_metrics() -> Response:
        return Response(greenlets.run_in_thread(metrics.render), content_type=CONTENT_TYPE_LATEST)

    def respond(make_response: Any, error: Exception) -> Response:
        """Respond with the status code that suits the provider. Record the refusal if the request was a webhook."""
        slug = _clean_path(request.path).removeprefix("/webhooks/")
        answer: ErrorResponse = make_response(error, deps.sources.status_codes(slug))
        if _may_be_webhook(request) and not slug.startswith("/"):
            # Unknown slugs do not become labels: a client could invent any number of them.
            metrics.count_request(slug if deps.sources.find(slug) else "", answer.reason)
            deps.refusals.record(
                webhooks.make_refusal(
                    request,
                    datetime.now(UTC),
                    slug=slug,
                    status=answer.status,
                    reason=answer.reason,
                    message=answer.message,
                    proxies=deps.settings.proxies,
                )
            )
        hanging.wait(answer.hang_seconds)
        return answer.response()

    register_errors(app, ERRORS, respond)
    return app


def _store(deps: ReceiverDeps, source: Source, webhook: WebhookRequest, current: Request) -> Response:
    """Verify and store one webhook. The response 200 means that the webhook is committed."""
    if (answer := source.provider.probe(webhook, source.credentials)) is not None:
        return _Accepted(answer)
    now = datetime.now(UTC)
    source, quarantine = webhooks.verify(source, webhook, now, deps.sources, deps.settings)
    receipt = webhooks.make_receipt(
        source,
        webhook,
        now,
        remote_ip=wsgi.client_ip(current, deps.settings.proxies),
        quarantine=quarantine,
        vault=deps.vault,
    )
    writer = deps.quarantine_writer if quarantine else deps.writer
    stored = writer.store(receipt, quarantine)
    outcome = "repeated" if stored.is_repeated else "unverified" if quarantine else "accepted"
    metrics.count_request(source.slug, outcome)
    deps.observations.count_by_minute(RECEIVED, {(source.id, ""): int(not stored.is_repeated)})
    return _Accepted(b'{"receipt": "%b"}' % str(stored.receipt_id).encode())


def _clean_path(path: str) -> str:
    """Return the path that was meant: people paste URLs with doubled or trailing slashes, and with spaces.

    A redirect would not help, because providers do not follow it.
    """
    if "//" in path or path[-1:] == "/" or path[-1:].isspace():
        return "/" + "/".join(part.strip() for part in path.split("/") if part.strip())
    return path


def _may_be_webhook(request: Request) -> bool:
    """Return whether a request may carry an event: some providers send the fields of an event as a query."""
    return request.method == "POST" or (request.method == "GET" and bool(request.query_string))


class _Accepted(Response):
    """The response to a stored webhook. Its headers are complete, so werkzeug does not compute them."""

    def __init__(self, body: bytes) -> None:
        headers = Headers([("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        super().__init__(status=200, headers=headers)
        self.response = [body]

    def get_wsgi_response(self, _environ: dict[str, Any]) -> tuple[Any, str, list[tuple[str, str]]]:
        """Return the body, the status and the headers unchanged."""
        return self.response, self.status, self.headers.to_wsgi_list()


class _NoSessions(SessionInterface):
    """Switches off Flask's sessions: the receiver sets no cookies."""

    _session = NullSession()

    def open_session(self, _app: Flask, _request: Request) -> NullSession:
        """Return an empty session that all requests share. It rejects changes."""
        return self._session

    def is_null_session(self, _session: object) -> bool:
        """Return True, so that Flask saves no session."""
        return True


class _LeanRequest(BodyRequest):
    """A request that is not stored in its environ: that reference cycle would keep it alive after the response."""

    blueprints: list[str] = []  # noqa: RUF012 - a constant; Flask computes it four times per request

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ, populate_request=False)


class _LeanAdapter(MapAdapter):
    """Matches routes by path and method alone, and remembers the last matches."""

    def __init__(self, routes: _Routes, *args: Any) -> None:
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
            if len(self.path_info) <= wsgi.LONGEST_CACHED:
                self._routes[key] = match
        return match


class _LeanFlask(Flask):
    """Flask without the features that the receiver does not use. They take half of Flask's time per request."""

    request_class = _LeanRequest
    session_interface = _NoSessions()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._routes: _Routes = {}

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return the adapter that matches a request's path. The host is a dummy: the receiver builds no URLs."""
        if request is None:
            return None
        path = _clean_path(request.path)
        return _LeanAdapter(self._routes, self.url_map, "receiver", "/", "", "http", path, request.method)

    def ensure_sync(self, func: Any) -> Any:
        """Return the function unchanged: no view is a coroutine function."""
        return func
