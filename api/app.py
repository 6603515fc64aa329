"""The JSON API for operators and applications, as a WSGI application."""

import time
from importlib import metadata
from string import punctuation
from typing import Any
from urllib.parse import quote

import msgspec
from flask import Flask, Response, g
from flask_smorest import Api

from api import docs, openapi
from api.console import app as console
from api.core import errors, idempotency
from api.core.auth import Authenticator
from api.core.fields import Problem
from api.core.resource import Deps, IdentifierConverter, JsonProvider, blueprint
from api.resources import (
    alert_rules,
    alerts,
    audit,
    changes,
    deliveries,
    erasures,
    events,
    jobs,
    keys,
    messages,
    metrics,
    overview,
    receipts,
    reconciliation,
    reports,
    sources,
    subscriptions,
    suppressions,
    users,
)
from shared.http.request_body import BodyRequest

_MAX_BODY_BYTES = 1024 * 1024

_RESOURCES = {
    "sources": (sources, "Where webhooks come from, and how they are verified."),
    "receipts": (receipts, "Every request that was stored, byte for byte, and those that were refused."),
    "messages": (messages, "The status of each message for every recipient."),
    "reports": (reports, "Why a message has its status, and what to do next."),
    "events": (events, "Normalized events of the providers."),
    "changes": (changes, "The change log, for other applications."),
    "subscriptions": (subscriptions, "Endpoints that receive changes as signed webhooks."),
    "deliveries": (deliveries, "The webhooks that were sent to subscriptions, and their attempts."),
    "reconciliation": (reconciliation, "Webhooks that providers could not deliver, and their recovery."),
    "suppressions": (suppressions, "Recipients that must not get mail, and why."),
    "erasures": (erasures, "Deletion of an address from all stored data."),
    "alerts": (alerts, "Conditions that need attention, their rules and notification channels."),
    "jobs": (jobs, "Work that takes longer than a request may."),
    "keys": (keys, "Keys to this API."),
    "users": (users, "Users of the console, and its sessions."),
    "audit": (audit, "Who changed what."),
    "overview": (overview, "Figures."),
}

_DESCRIPTION = """\
The status of every email. Send `Authorization: Bearer <key>`. Times are RFC 3339 in UTC. Lists return
`{"items": [...], "next_cursor": ...}`: send `next_cursor` as `cursor` for the next page, until it is null. A page
may be short although more follow. Errors are problem details (RFC 9457). `Server-Timing` is the time that the
request took here, in milliseconds (W3C Server Timing)."""


class _Request(BodyRequest):
    """A request whose query is ASCII: other bytes are quoted, because Flask raises an error if they are not UTF-8."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.query_string = quote(self.query_string, safe=punctuation).encode()


class _Documented(Api):  # type: ignore[misc]
    """The OpenAPI document; errors in it are problem details."""

    ERROR_SCHEMA = Problem

    def _register_error_handlers(self) -> None:
        """Leave them to `api.core.errors`."""

    def _register_responses(self) -> None:
        self.DEFAULT_RESPONSE_CONTENT_TYPE = errors.CONTENT_TYPE
        super()._register_responses()
        self.DEFAULT_RESPONSE_CONTENT_TYPE = "application/json"


def create_app(deps: Deps) -> Flask:
    """Return the WSGI application of the API."""
    app = Flask("api", static_folder=None)
    app.request_class = _Request
    app.json = JsonProvider(app)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.url_map.converters["identifier"] = IdentifierConverter
    errors.register(app)
    metrics.register(app, deps)
    authenticator = Authenticator(deps.reading, deps.settings)
    document = _document(app, deps, authenticator)
    encoded = msgspec.json.encode(document)
    page = docs.page(document)
    console.register(app, deps, authenticator)

    @app.get("/openapi.json")
    def describe() -> Response:
        return Response(encoded, content_type="application/json")

    @app.get("/docs")
    def documentation() -> Response:
        return Response(page, content_type="text/html; charset=utf-8", headers=docs.HEADERS)

    @app.before_request
    def begin() -> None:
        g.begun = time.perf_counter()

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["Server-Timing"] = f"app;dur={1000 * (time.perf_counter() - g.begun):.1f}"
        return response

    return app


def _document(app: Flask, deps: Deps, authenticator: Authenticator) -> dict[str, Any]:
    """Add the resources to the application, and return the document that describes them."""
    options = {
        "info": {"description": _DESCRIPTION},
        "security": [{"key": []}],
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }
    app.config["API_SPEC_OPTIONS"] = options
    spec = {"title": "Tidings", "version": metadata.version("tidings"), "openapi_version": "3.1.0"}
    api = _Documented(app, spec_kwargs=spec)
    api.register_converter(IdentifierConverter, lambda _converter: {"type": "string", "format": "uuid"})
    for name, (module, description) in _RESOURCES.items():
        api.register_blueprint(blueprint(name, description, module.RESOURCES, deps, authenticator))
    document: dict[str, Any] = api.spec.to_dict()
    idempotency.describe(document)
    alert_rules.describe(document, api.ma_plugin.converter)
    openapi.complete(document)
    return document
