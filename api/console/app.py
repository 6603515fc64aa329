"""The console's part of the application: sign-in for every page, headers, errors, static files and templates."""

import gzip
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import structlog
from flask import Blueprint, Flask, Response, g, redirect, request
from flask.typing import ResponseReturnValue
from jinja2 import StrictUndefined
from sqlalchemy.exc import DataError, SQLAlchemyError
from werkzeug.exceptions import HTTPException

from api.console import formatting, login
from api.console.pages import (
    administration,
    alerts,
    deliveries,
    events,
    jobs,
    messages,
    overview,
    receipts,
    sources,
    subscriptions,
    suppressions,
)
from api.console.site import NOTICE_COOKIE, Visit, may, read_session, render
from api.core.auth import Authenticator
from api.core.errors import ProblemError
from api.core.resource import Deps
from shared.auth.keys import Scope
from shared.errors import ConflictError, GoneError, InvalidFieldError, NotFoundError, TidingsError, first_line

log = structlog.get_logger()

PAGES: Final = (
    overview, messages, events, suppressions, sources, receipts, subscriptions, deliveries, alerts, jobs,
    administration,
)  # fmt: skip
"""The groups of pages, in the order of the navigation. Each has `pages` (a blueprint) and `NAVIGATION`."""

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}

_OPEN: Final = ("console.static_file", "console.login.page", "console.login.sign_in")
"""What needs no session."""
_UNSAFE: Final = ("POST", "PUT", "PATCH", "DELETE")
_ROOT: Final = Path(__file__).parent
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_COMPRESSION: Final = 5
_YEAR_SECONDS: Final = 365 * 24 * 60 * 60
_STATUS: Final[dict[type[Exception], int]] = {
    InvalidFieldError: 422,
    NotFoundError: 404,
    ConflictError: 409,
    GoneError: 410,
}


def register(app: Flask, deps: Deps, authenticator: Authenticator) -> None:
    """Add the console to the API's application; `/` redirects to it."""
    console = Blueprint("console", __name__, url_prefix="/console", template_folder="templates")
    app.jinja_options = {
        "finalize": formatting.mask,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "undefined": StrictUndefined,
    }
    app.jinja_env.filters.update(formatting.FILTERS)
    app.jinja_env.globals.update(formatting.GLOBALS)
    # A part of the URLs of static files. It changes with their content, so browsers may keep them for ever.
    assets = formatting.fingerprint(*(content for _, content in sorted(_static_files().items())))
    app.jinja_env.globals.update(assets=assets, version=metadata.version("tidings"))
    app.add_url_rule("/", "root", lambda: redirect("/console/"))

    @console.before_request
    def enter() -> ResponseReturnValue | None:
        return _enter(deps, authenticator)

    console.after_request(_protect)
    console.context_processor(_values)
    console.add_url_rule("/static/<version>/<path:name>", "static_file", _send_static)
    login.add(console, deps, authenticator)
    for group in PAGES:
        console.register_blueprint(group.pages)
    console.add_url_rule("/<path:rest>", "missing", _refuse)
    console.register_error_handler(Exception, _show_error)
    app.register_blueprint(console)


def compile_templates(app: Flask) -> None:
    """Compile the pages (0.3 s in all), so that no first visit waits for it: that took most of its time."""
    for name in app.jinja_env.list_templates():
        app.jinja_env.get_template(name)


def _enter(deps: Deps, authenticator: Authenticator) -> ResponseReturnValue | None:
    """Find out who visits. Return a redirection to the sign-in page if nobody is signed in."""
    if request.method in _UNSAFE and not is_same_origin():
        raise ProblemError(403, "This request came from another site, so it was refused.")
    if request.endpoint in _OPEN:
        return None
    token = request.cookies.get(login.cookie_name(deps.settings), "")
    caller = None
    if token:
        with deps.reading.connect() as connection:
            caller = read_session(deps, connection, token)
    if caller is None:
        target = request.full_path if request.query_string else request.path
        return redirect(
            f"/console/login?{urlencode({'next': target if request.method == 'GET' else '/console/'})}", 303
        )
    authenticator.count(caller)
    g.visit = Visit(deps=deps, authenticator=authenticator, caller=caller, token=token)
    return None


def _protect(response: Response) -> Response:
    response.headers.update(HEADERS)
    # Not the answers to forms: they may show a new secret beside what was typed, and the size would depend on both.
    is_text = response.mimetype in ("text/html", "text/css", "text/javascript")
    if (
        request.method == "GET"
        and is_text
        and not response.is_streamed
        and request.accept_encodings.best_match(["gzip"])
    ):
        response.set_data(gzip.compress(response.get_data(), _COMPRESSION))
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    if NOTICE_COOKIE in request.cookies and response.mimetype == "text/html" and response.status_code == HTTPStatus.OK:
        response.delete_cookie(NOTICE_COOKIE, path="/console/", httponly=True, samesite="Strict")
    return response


def _values() -> dict[str, Any]:
    """Return what every template may use."""
    visit = g.get("visit")
    if visit is None:
        return {
            "visit": None,
            "notice": "",
            "navigation": [],
            "can_write": False,
            "can_admin": False,
            "is_masked": False,
        }
    return {
        "visit": visit,
        "notice": _read_notice(),
        "navigation": [entry for group in PAGES for entry in group.NAVIGATION if may(entry.resource)],
        "can_write": visit.caller.scope.includes(Scope.WRITE),
        "can_admin": visit.caller.scope.includes(Scope.ADMIN),
        "is_masked": visit.is_masked,
    }


def _send_static(version: str, name: str) -> Response:  # noqa: ARG001 - another version is another address
    content = _static_files().get(name)
    if content is None:
        raise ProblemError(404, f"There is no file {name}.")
    response = Response(content, content_type=_TYPES[name.rpartition(".")[2]])
    response.headers["Cache-Control"] = f"public, max-age={_YEAR_SECONDS}, immutable"
    return response


@cache
def _static_files() -> Mapping[str, bytes]:
    """Return the static files by name; they are few and small."""
    folder = _ROOT / "static"
    paths = [path for path in folder.rglob("*") if path.suffix.removeprefix(".") in _TYPES]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _refuse(rest: str) -> Response:
    raise ProblemError(404, f"There is no page /console/{rest}.")


def is_same_origin() -> bool:
    """Return whether a page of the console sent this request, as far as its browser says.

    Browsers since 2023 send Sec-Fetch-Site; older ones send Origin with unsafe methods. A request with neither is
    refused, so no token in the forms is needed.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin", "")
    return bool(origin) and origin.partition("://")[2] == request.host


def _show_error(error: Exception) -> Response:
    """Return an error as a page: what went wrong, and where to go from here."""
    if isinstance(error, HTTPException):
        if error.code is not None and error.code < HTTPStatus.BAD_REQUEST:
            return error.get_response()  # type: ignore[return-value]
        status, sentence = error.code or 500, error.description or error.name
    elif isinstance(error, ProblemError):
        status, sentence = error.status, str(error)
    elif isinstance(error, TidingsError):
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 409)
        sentence = str(error)
    elif isinstance(error, DataError):
        status, sentence = 422, f"The database cannot read a value that was given: {first_line(error)}."
    elif isinstance(error, SQLAlchemyError):
        log.warning("storage unavailable", path=request.path, error=first_line(error))
        status, sentence = 503, "The database cannot be reached, refuses to write, or took too long. Try again."
    else:
        log.error("request failed", method=request.method, path=request.path, exc_info=error)
        status, sentence = 500, "The page failed because of a bug; the log of the API has the details."
    return render("error.html", status, status=status, title=HTTPStatus(status).phrase, sentence=sentence)


def _read_notice() -> str:
    try:
        return bytes.fromhex(request.cookies.get(NOTICE_COOKIE, "")).decode()
    except ValueError:
        return ""
