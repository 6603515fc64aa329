"""Users of the console, and its sessions."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from marshmallow import Schema, fields, validate

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import not_found, require
from api.core.fields import MAX_TEXT_LENGTH, Instant, PageQuery, Strict, instant, page_of, text
from api.core.resource import Resource, answers, takes
from shared.auth import sessions, users
from shared.auth.keys import Role, Scope
from shared.suppression.csv_files import MAX_TENANT_LENGTH

_ROLE: dict[str, Any] = {
    "by_value": True,
    "metadata": {"description": "What the user may do: that of a key with the scope read, write or admin."},
}
_PASSWORD: dict[str, Any] = {
    "validate": validate.Length(users.MIN_PASSWORD_LENGTH, users.MAX_PASSWORD_LENGTH),
    "load_only": True,
}


class UserChange(Strict):
    """Changes of a user. Those of `password` and `disabled` end the user's sessions."""

    role = fields.Enum(Role, **_ROLE)
    tenant = fields.String(
        allow_none=True,
        validate=validate.Length(1, MAX_TENANT_LENGTH),
        metadata={"description": "The only tenant whose objects the user may access; null: all."},
    )
    password = fields.String(**_PASSWORD, metadata={"description": "Another password."})
    disabled = fields.Boolean(metadata={"description": "A disabled user cannot sign in."})


class NewUser(Strict):
    """A user to create."""

    email = fields.String(required=True, validate=validate.Length(1, MAX_TEXT_LENGTH))
    role = fields.Enum(Role, load_default=Role.VIEWER, **_ROLE)
    tenant = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(1, MAX_TENANT_LENGTH),
        metadata={"description": "The only tenant whose objects the user may access; null: all."},
    )
    password = fields.String(
        **_PASSWORD, load_default=None, metadata={"description": "Without one, the user signs in by a link only."}
    )


class User(Schema):
    """A user of the console."""

    id = fields.Integer()
    email = fields.String()
    role = fields.String(metadata={"enum": [str(role) for role in Role]})
    tenant = text("The only tenant whose objects the user may access; null: all.")
    created_at = Instant()
    last_sign_in_at = instant("When the user signed in with the password.")
    disabled_at = instant()


class SignInLink(Schema):
    """A link that signs a user in once."""

    path = fields.String(metadata={"description": "The path at the API's address. Shown only in this response."})
    expires_at = Instant()


class Session(Schema):
    """A session of the console, or a link that was not used."""

    id = fields.Integer()
    name = fields.String(metadata={"description": "The user, the key, or TIDINGS_ADMIN_KEY."})
    is_link = fields.Boolean(metadata={"description": "Whether it is a link that was not used."})
    created_at = Instant()
    expires_at = Instant()


class _Administration(Resource):
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = dict.fromkeys(("GET", "POST", "PATCH", "DELETE"), Scope.ADMIN)


class Users(_Administration):
    """All users."""

    rule = "/v1/users"

    @takes(PageQuery, location="query")
    @answers(200, page_of(User, "UserPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the users by address, disabled ones included."""
        (after,) = pagination.decode(query.get("cursor"), pagination.BY_NAME) or ("",)
        with self.deps.reading.connect() as connection:
            rows = users.list_users(connection, after=after, limit=query["limit"] + 1)
        page = rows[: query["limit"]]
        last = (page[-1].email,) if len(rows) > len(page) else None
        return {"items": page, "next_cursor": pagination.encode(last)}

    @takes(NewUser)
    @answers(201, User)
    def post(self, body: dict[str, Any]) -> Any:
        """Create a user of the console."""
        with self.deps.engine.begin() as connection:
            row = users.create_user(connection, body["email"], body["role"], body["password"], tenant=body["tenant"])
            self.audit(connection, "user.created", f"user:{row.id}", role=body["role"], tenant=body["tenant"])
        return row


class OneUser(_Administration):
    """One user."""

    rule = f"/v1/users/<int(max={2**63 - 1}):user_id>"

    @takes(UserChange)
    @answers(200, User)
    def patch(self, body: dict[str, Any], user_id: int) -> Any:
        """Change the role, the tenant or the password of a user, or disable or enable the user."""
        with self.deps.engine.begin() as connection:
            found = users.change_user(connection, user_id, datetime.now(UTC), **body)
            row = require(found, f"user {user_id}")
            shown = {name: value for name, value in body.items() if name != "password"}
            self.audit(connection, "user.changed", f"user:{user_id}", **shown, password_set="password" in body)
        return row


class UserLinks(_Administration):
    """Links that sign a user in."""

    rule = f"/v1/users/<int(max={2**63 - 1}):user_id>/link"

    @answers(201, SignInLink)
    def post(self, user_id: int) -> dict[str, Any]:
        """Create a link that signs the user in once, within half an hour."""
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            caller = require(users.find_caller(connection, user_id), f"enabled user {user_id}")
            token = sessions.create_session(
                connection, caller, now, admin_key=self.deps.settings.admin_key, as_link=True
            )
            self.audit(connection, "session.link_created", f"user:{user_id}")
        return {"path": f"/console/login?link={token}", "expires_at": now + sessions.LINK_LIFETIME}


class Sessions(_Administration):
    """All sessions."""

    rule = "/v1/sessions"

    @takes(PageQuery, location="query")
    @answers(200, page_of(Session, "SessionPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the sessions of the console that have not ended, the newest first."""
        limit = query["limit"]
        (before,) = pagination.decode(query.get("cursor"), pagination.BY_NUMBER) or (None,)
        with self.deps.reading.connect() as connection:
            rows = sessions.list_sessions(connection, datetime.now(UTC), before=before, limit=limit + 1)
        last = (rows[limit - 1].id,) if len(rows) > limit else None
        return {"items": rows[:limit], "next_cursor": pagination.encode(last)}


class OneSession(_Administration):
    """One session."""

    rule = f"/v1/sessions/<int(max={2**63 - 1}):session_id>"

    @answers(204)
    def delete(self, session_id: int) -> None:
        """End a session, or make a link invalid."""
        with self.deps.engine.begin() as connection:
            if not sessions.revoke_session(connection, session_id):
                raise not_found(f"session {session_id}")
            self.audit(connection, "session.revoked", f"session:{session_id}")


RESOURCES = (Users, OneUser, UserLinks, Sessions, OneSession)
