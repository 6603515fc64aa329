"""The private door: everything that is known, for operators and applications, behind a key."""

import time
from importlib import metadata
from typing import Any

import msgspec
from flask import Flask, Response, g
from flask_smorest import Api

from api import docs
from api.core import errors, idempotency
from api.core.auth import Authenticator
from api.core.encoding import Encoding
from api.core.fields import Problem
from api.core.resource import Deps, IdentifierConverter, blueprint
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
    overview,
    receipts,
    reconciliation,
    reports,
    sources,
    subscriptions,
    suppressions,
)

_MOST_BODY_BYTES = 1024 * 1024

_RESOURCES = {
    "sources": (sources, "Who may post webhooks, and by which provider's rules."),
    "receipts": (receipts, "Every request that was stored, byte for byte, and those that were refused."),
    "messages": (messages, "What became of each message, for every recipient."),
    "reports": (reports, "Why a message is where it is, and what to do next."),
    "events": (events, "What the providers said, in our words."),
    "changes": (changes, "The log that other applications follow."),
    "subscriptions": (subscriptions, "Who is told of which changes, where, and how."),
    "deliveries": (deliveries, "What became of every change for every subscriber."),
    "reconciliation": (reconciliation, "What providers could not deliver, and having it sent again."),
    "suppressions": (suppressions, "Addresses and domains that must not get mail, and why."),
    "erasures": (erasures, "Erasing an address from everything that is kept."),
    "alerts": (alerts, "What a person must be told, by which rules, and where."),
    "jobs": (jobs, "Work that takes longer than an answer may."),
    "keys": (keys, "Keys to this API."),
    "audit": (audit, "Who changed what."),
    "overview": (overview, "Figures."),
}

_DESCRIPTION = """\
What became of every email. Send `Authorization: Bearer <key>`. Times are RFC 3339 in UTC. Lists answer
`{"items": [...], "next_cursor": ...}`: give `next_cursor` as `cursor` for the next page, until it is null; a page
that reads much and finds little may be short. Errors are problem details (RFC 9457). `Server-Timing` says how many
milliseconds an answer took here (W3C Server Timing)."""


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
    """The WSGI application of the API."""
    app = Flask("api", static_folder=None)
    app.json = Encoding(app)
    app.config["MAX_CONTENT_LENGTH"] = _MOST_BODY_BYTES
    app.url_map.converters["identifier"] = IdentifierConverter
    errors.register(app)
    overview.register(app, deps)
    document = _document(app, deps)
    encoded = msgspec.json.encode(document)
    page = docs.page(document)

    @app.get("/openapi.json")
    def openapi() -> Response:
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


def _document(app: Flask, deps: Deps) -> dict[str, Any]:
    """Add the resources to the application; return the document that describes them."""
    options = {
        "info": {"description": _DESCRIPTION},
        "security": [{"key": []}],
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }
    app.config["API_SPEC_OPTIONS"] = options
    spec = {"title": "Tidings", "version": metadata.version("tidings"), "openapi_version": "3.1.0"}
    api = _Documented(app, spec_kwargs=spec)
    gate = Authenticator(deps.reading, deps.settings)
    api.register_converter(IdentifierConverter, lambda _converter: {"type": "string", "format": "uuid"})
    for name, (module, description) in _RESOURCES.items():
        api.register_blueprint(blueprint(name, description, module.RESOURCES, deps, gate))
    document: dict[str, Any] = api.spec.to_dict()
    idempotency.describe(document)
    alert_rules.describe(document, api.ma_plugin.converter)
    return document
