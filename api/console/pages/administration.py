"""Pages of API keys, users, the audit log, and the status of the installation."""

from typing import Any

from flask import Blueprint, Response, request

from api.console.formatting import Entry
from api.console.pages.overview import describe_problems
from api.console.site import call, fetch, go, may, render
from api.resources.audit import AuditLog
from api.resources.keys import Keys, OneKey
from api.resources.overview import Doctor, EffectiveSettings, InstallationStatus
from api.resources.users import OneSession, OneUser, Sessions, UserLinks, Users
from shared.auth.keys import Role, Scope

pages = Blueprint("administration", __name__)

NAVIGATION = (
    Entry(path="/console/keys", label="Keys", icon="key-round", resource=Keys),
    Entry(path="/console/users", label="Users", icon="users", resource=Users),
    Entry(path="/console/audit", label="Audit", icon="scroll-text", resource=AuditLog),
    Entry(path="/console/status", label="Status", icon="activity", resource=InstallationStatus),
)


@pages.get("/keys")
def keys() -> Response:
    """List the API keys."""
    return render("keys/index.html", listing=fetch(Keys), scopes=list(Scope), made=None)


@pages.post("/keys")
def create_key() -> Response:
    """Create a key, and show it once."""
    body = {name: value for name in ("name", "scope", "tenant") if (value := request.form.get(name, "").strip())}
    made = call(Keys, "POST", body=body)
    return render("keys/index.html", listing=fetch(Keys), scopes=list(Scope), made=made)


@pages.post("/keys/<int:key_id>/revoke")
def revoke_key(key_id: int) -> Response:
    """Revoke a key."""
    call(OneKey, "DELETE", key_id=key_id)
    return go("/console/keys", "The key was revoked.")


@pages.get("/users")
def users() -> Response:
    """List the users of the console, and the open sessions."""
    return _show_users()


@pages.post("/users")
def create_user() -> Response:
    """Create a user, and show a link that signs in once if the user has no password."""
    body = {name: value for name in ("email", "role", "tenant", "password") if (value := request.form.get(name, ""))}
    made = call(Users, "POST", body=body)
    if "password" in body:
        return go("/console/users", f"{made.email} may sign in.")
    return _show_users(link=call(UserLinks, "POST", user_id=made.id), about=made.email)


@pages.post("/users/<int:user_id>/change")
def change_user(user_id: int) -> Response:
    """Change the role, tenant or password of a user, or disable or enable the user."""
    body: dict[str, Any] = {name: value for name in ("role", "password") if (value := request.form.get(name, ""))}
    if "tenant" in request.form:
        body["tenant"] = request.form["tenant"].strip() or None
    if "disabled" in request.form:
        body["disabled"] = request.form["disabled"] == "1"
    row = call(OneUser, "PATCH", body=body, user_id=user_id)
    return go("/console/users", f"{row.email} was {'disabled' if row.disabled_at else 'changed'}.")


@pages.post("/users/<int:user_id>/link")
def create_link(user_id: int) -> Response:
    """Show a link that signs a user in once."""
    return _show_users(link=call(UserLinks, "POST", user_id=user_id), about=request.form.get("email", ""))


@pages.post("/sessions/<int:session_id>/end")
def end_session(session_id: int) -> Response:
    """End a session, or make a link invalid."""
    call(OneSession, "DELETE", session_id=session_id)
    return go("/console/users", "The session or link is no longer valid.")


def _show_users(link: dict[str, Any] | None = None, about: str = "") -> Response:
    return render(
        "users/index.html",
        listing=fetch(Users),
        sessions=fetch(Sessions, {"limit": 100}),
        roles=list(Role),
        link=link,
        about=about,
    )


@pages.get("/audit")
def audit() -> Response:
    """List who changed what."""
    return render("audit/index.html", listing=fetch(AuditLog))


@pages.get("/status")
def status() -> Response:
    """Show each process, stage and the database; and to administrators the settings in effect."""
    return _show_status()


@pages.post("/status/checks")
def check() -> Response:
    """Make the checks of `tidings doctor`, and show what they found."""
    return _show_status(call(Doctor))


def _show_status(examined: dict[str, Any] | None = None) -> Response:
    settings = call(EffectiveSettings)["settings"] if may(EffectiveSettings) else {}
    status = call(InstallationStatus)
    problems = describe_problems(status)
    return render("status/index.html", status=status, problems=problems, settings=settings, examined=examined)
