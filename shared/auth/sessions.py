"""Sessions of the console: stored as hashes, and ended by expiry, sign-out, or the end of their user or key."""

import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from shared.auth.keys import SCOPE_OF_ROLE, Caller, Role, Scope
from shared.auth.tables import api_keys
from shared.auth.tables import console_sessions as sessions
from shared.auth.tables import console_users as users

LIFETIME: Final = timedelta(hours=12)
LINK_LIFETIME: Final = timedelta(minutes=30)
_MAX_CHARACTERS: Final = 100


def create_session(
    connection: Connection, caller: Caller, now: datetime, *, admin_key: str, as_link: bool = False
) -> str:
    """Create a session for a caller, or a link that opens one once. Return its token, which is not stored.

    Expired sessions are deleted.
    """
    connection.execute(delete(sessions).where(sessions.c.expires_at < now))
    token = secrets.token_urlsafe(32)
    is_administrator = caller.user_id is None and caller.key_id is None
    values = {
        "hash": _digest(token, admin_key if is_administrator else ""),
        "user_id": caller.user_id,
        "key_id": caller.key_id,
        "is_link": as_link,
        "created_at": now,
        "expires_at": now + (LINK_LIFETIME if as_link else LIFETIME),
    }
    connection.execute(insert(sessions).values(values))
    return token


def find_caller(connection: Connection, token: str, now: datetime, *, admin_key: str) -> Caller | None:
    """Return whose session it is, with the rights of this moment; None if it is unknown, expired or ended."""
    row = _find(connection, token, now, admin_key, is_link=False)
    return None if row is None else _caller(row)


def use_link(connection: Connection, token: str, now: datetime, *, admin_key: str) -> Caller | None:
    """Return whom a link signs in, and delete it; None if it is unknown, expired or was used."""
    row = _find(connection, token, now, admin_key, is_link=True)
    if row is None or not connection.execute(delete(sessions).where(sessions.c.id == row.session_id)).rowcount:
        return None
    return _caller(row)


def end_session(connection: Connection, token: str, *, admin_key: str) -> None:
    """End a session."""
    connection.execute(delete(sessions).where(sessions.c.hash.in_(_digests(token, admin_key))))


def end_sessions(connection: Connection, *, user_id: int) -> None:
    """End all sessions of a user."""
    connection.execute(delete(sessions).where(sessions.c.user_id == user_id))


def list_sessions(
    connection: Connection, now: datetime, *, before: int | None = None, limit: int
) -> Sequence[Row[Any]]:
    """Return sessions and unused links that have not expired, the newest first: whose they are, and their times."""
    name = func.coalesce(users.c.email, api_keys.c.name, "TIDINGS_ADMIN_KEY").label("name")
    statement = (
        select(*sessions.c["id", "is_link", "created_at", "expires_at"], name)
        .outerjoin_from(sessions, users, users.c.id == sessions.c.user_id)
        .outerjoin(api_keys, api_keys.c.id == sessions.c.key_id)
        .where(sessions.c.expires_at > now)
        .order_by(sessions.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(sessions.c.id < before)
    return connection.execute(statement).all()  # type: ignore[return-value]  # its columns are typed too


def revoke_session(connection: Connection, session_id: int) -> bool:
    """End a session, or make a link invalid; return whether there was one."""
    return bool(connection.execute(delete(sessions).where(sessions.c.id == session_id)).rowcount)


def _find(connection: Connection, token: str, now: datetime, admin_key: str, *, is_link: bool) -> Row[Any] | None:
    if len(token) > _MAX_CHARACTERS:
        return None
    statement = (
        select(
            sessions.c.id.label("session_id"),
            sessions.c.user_id,
            sessions.c.key_id,
            *users.c["email", "role", "disabled_at"],
            users.c.tenant.label("user_tenant"),
            *api_keys.c["name", "scope", "revoked_at"],
            api_keys.c.tenant.label("key_tenant"),
        )
        .outerjoin_from(sessions, users, users.c.id == sessions.c.user_id)
        .outerjoin(api_keys, api_keys.c.id == sessions.c.key_id)
        .where(
            sessions.c.hash.in_(_digests(token, admin_key)),
            sessions.c.expires_at > now,
            sessions.c.is_link.is_(is_link),
        )
    )
    return connection.execute(statement).one_or_none()  # type: ignore[return-value]  # its columns are typed too


def _caller(row: Row[Any]) -> Caller | None:
    if row.user_id is not None:
        if row.role is None or row.disabled_at is not None:
            return None
        return Caller(name=row.email, scope=SCOPE_OF_ROLE[Role(row.role)], tenant=row.user_tenant, user_id=row.user_id)
    if row.key_id is not None:
        if row.scope is None or row.revoked_at is not None:
            return None
        return Caller(name=row.name, scope=Scope(row.scope), tenant=row.key_tenant, key_id=row.key_id)
    return Caller(name="TIDINGS_ADMIN_KEY", scope=Scope.ADMIN)


def _digests(token: str, admin_key: str) -> list[bytes]:
    """Return the hashes under which a session may be stored: of a user or a key, and of TIDINGS_ADMIN_KEY."""
    return [_digest(token, ""), *([_digest(token, admin_key)] if admin_key else [])]


def _digest(token: str, admin_key: str) -> bytes:
    """Return the hash that is stored. The administrator's sessions end when that key is changed or removed."""
    return hmac.digest(admin_key.encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass"), sha256)
