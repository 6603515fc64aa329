"""Signing in with an API key, a password or a one-time link, and signing out."""

from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from api.console.site import go, render, visit
from api.core.auth import Authenticator
from api.core.errors import ProblemError
from api.core.resource import Deps
from shared.auth import audit, sessions, users
from shared.auth.keys import Caller
from shared.settings import Settings

_HOME = "/console/"


def cookie_name(settings: Settings) -> str:
    """Return the name of the session's cookie. Browsers accept the prefix only with TLS and for the whole host."""
    return "__Host-tidings_console" if is_secure(settings) else "tidings_console"


def is_secure(settings: Settings) -> bool:
    """Return whether the browser uses TLS, as the last trusted proxy says."""
    if settings.proxies:
        return request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip() == "https"
    return request.is_secure


def add(console: Blueprint, deps: Deps, authenticator: Authenticator) -> None:
    """Add the pages of signing in and out."""
    pages = Blueprint("login", __name__)
    settings = deps.settings

    @pages.get("/login")
    def page() -> Response:
        link = request.args.get("link", "")
        if not link:
            return render("login.html", next=_target(request.args.get("next")), problem="", email="")
        caller = authenticator.authenticate_link(partial(_use_link, deps, link))
        if caller is None:
            sentence = "This link was used already, or has expired. Sign in with an API key or a password."
            return render("login.html", 401, next=_HOME, problem=sentence, email="")
        return _open_session(deps, caller, _HOME, "link")

    @pages.post("/login")
    def sign_in() -> Response:
        key, email = request.form.get("key", "").strip(), request.form.get("email", "").strip()
        password, target = request.form.get("password", ""), _target(request.form.get("next"))

        def authenticate() -> Caller | None:
            with deps.engine.begin() as connection:
                return users.authenticate(connection, email, password, datetime.now(UTC))

        try:
            if not key and not (email and password):
                raise ProblemError(422, "Give an API key, or an email address and a password.")
            caller = authenticator.authenticate_key(key) if key else authenticator.authenticate_user(authenticate)
        except ProblemError as error:
            problem = "This API key is not known, or was revoked." if key and error.status == 401 else str(error)
            response = render("login.html", error.status, next=target, problem=problem, email=email)
            if "Retry-After" in error.headers:
                response.headers["Retry-After"] = error.headers["Retry-After"]
            return response
        return _open_session(deps, caller, target, "key" if key else "password")

    @pages.post("/logout")
    def sign_out() -> Response:
        current = visit()
        with deps.engine.begin() as connection:
            sessions.end_session(connection, current.token, admin_key=settings.admin_key)
            audit.record(
                connection,
                actor=current.caller.actor,
                tenant=current.caller.tenant,
                action="session.ended",
                object="console",
            )
        response = go("/console/login")
        response.delete_cookie(cookie_name(settings), path="/" if is_secure(settings) else _HOME)
        return response

    console.register_blueprint(pages)


def _use_link(deps: Deps, link: str) -> Caller | None:
    with deps.engine.begin() as connection:
        return sessions.use_link(connection, link, datetime.now(UTC), admin_key=deps.settings.admin_key)


def _open_session(deps: Deps, caller: Caller, target: str, credential: str) -> Response:
    """Return a redirection to a page, with the cookie of a new session. `credential` says how the caller signed in."""
    settings = deps.settings
    with deps.engine.begin() as connection:
        token = sessions.create_session(connection, caller, datetime.now(UTC), admin_key=settings.admin_key)
        audit.record(
            connection,
            actor=caller.actor,
            tenant=caller.tenant,
            action="session.opened",
            object="console",
            details={"by": credential},
        )
    response = go(target)
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=int(sessions.LIFETIME.total_seconds()),
        path="/" if is_secure(settings) else _HOME,
        secure=is_secure(settings),
        httponly=True,
        samesite="Strict",
    )
    return response


def _target(given: str | None) -> str:
    """Return the page to show after signing in: the given one if it is a page of the console, or else the overview."""
    wanted = given or ""
    # Browsers drop control characters and read a backslash as a slash, so either may hide another site.
    if "\\" in wanted or not wanted.isprintable():
        return _HOME
    parts = urlsplit(wanted)
    is_ours = not parts.scheme and not parts.netloc and parts.path.startswith(_HOME)
    return wanted if is_ours and not parts.path.startswith("/console/log") else _HOME
