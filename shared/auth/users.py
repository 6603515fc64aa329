"""Users of the console: an email address, a role, and the Argon2id hash of a password (RFC 9106)."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.postgresql import insert

from shared.addresses import AddressError, normalize, parse_address
from shared.auth.keys import SCOPE_OF_ROLE, Caller, Role
from shared.auth.sessions import end_sessions
from shared.auth.tables import console_users as users
from shared.errors import ConflictError, InvalidFieldError

MIN_PASSWORD_LENGTH: Final = 12
MAX_PASSWORD_LENGTH: Final = 200

# The second of the settings that OWASP's cheat sheet on password storage recommends: 19 MiB, two passes. A guess costs
# some 30 ms of a processor.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def create_user(
    connection: Connection, email: str, role: Role, password: str | None, *, tenant: str | None = None
) -> Row[Any]:
    """Create a user of one tenant, or with None of all. Without a password, only links sign the user in.

    Raises InvalidFieldError or ConflictError.
    """
    try:
        address = parse_address(email)
    except AddressError as error:
        raise InvalidFieldError("email", email, str(error)) from None
    # A random password that is never shown lets no one in, and each user has one.
    hashed = _hash(secrets.token_urlsafe() if password is None else password)
    values = {"email": address, "role": role, "tenant": tenant, "password_hash": hashed}
    statement = insert(users).values(values).on_conflict_do_nothing(index_elements=[users.c.email])
    row = connection.execute(statement.returning(users)).one_or_none()
    if row is None:
        raise ConflictError(f"There is a user {address} already; `tidings users password` sets a new password.")
    return row


def list_users(connection: Connection, *, after: str = "", limit: int | None = None) -> Sequence[Row[Any]]:
    """Return the users with a later address than this, by address, disabled ones included."""
    return connection.execute(select(users).where(users.c.email > after).order_by(users.c.email).limit(limit)).all()


def find_caller(connection: Connection, user_id: int) -> Caller | None:
    """Return an enabled user as a caller; None if there is none."""
    row = connection.execute(select(users).where(users.c.id == user_id, users.c.disabled_at.is_(None))).one_or_none()
    return None if row is None else _caller(row)


def change_user(
    connection: Connection,
    user_id: int,
    now: datetime,
    *,
    password: str | None = None,
    disabled: bool | None = None,
    **values: Any,
) -> Row[Any] | None:
    """Set the given columns (`role`, `tenant`), the password, or whether a user is disabled; None if there is none.

    A change of the last two ends all sessions of the user. Other changes hold for them from their next request on.
    """
    if password is not None:
        values["password_hash"] = _hash(password)
    if disabled is not None:
        values["disabled_at"] = now if disabled else None
    if not values:
        return connection.execute(select(users).where(users.c.id == user_id)).one_or_none()
    statement = users.update().where(users.c.id == user_id).values(values)
    row = connection.execute(statement.returning(users)).one_or_none()
    if row is not None and (password is not None or disabled):
        end_sessions(connection, user_id=user_id)
    return row


def disable_user(connection: Connection, email: str, now: datetime) -> Row[Any] | None:
    """Disable a user and end all its sessions. Return None if no user with this address is enabled."""
    statement = users.update().where(users.c.email == normalize(email), users.c.disabled_at.is_(None))
    row = connection.execute(statement.values(disabled_at=now).returning(users)).one_or_none()
    if row is not None:
        end_sessions(connection, user_id=row.id)
    return row


def set_password(connection: Connection, email: str, password: str) -> Row[Any] | None:
    """Set a user's password, enable the user, and end all its sessions. Return None if there is no such user."""
    statement = users.update().where(users.c.email == normalize(email))
    values = {"password_hash": _hash(password), "disabled_at": None}
    row = connection.execute(statement.values(values).returning(users)).one_or_none()
    if row is not None:
        end_sessions(connection, user_id=row.id)
    return row


def authenticate(connection: Connection, email: str, password: str, now: datetime) -> Caller | None:
    """Return the user with this address and password, and note the sign-in. None if there is none, or it is disabled.

    An unknown address takes as long as a wrong password, so that nobody finds out who is a user.
    """
    row = connection.execute(
        select(users).where(users.c.email == normalize(email[:MAX_PASSWORD_LENGTH]), users.c.disabled_at.is_(None))
    ).one_or_none()
    try:
        _HASHER.verify(row.password_hash if row is not None else _unknown(), password[:MAX_PASSWORD_LENGTH])
    except (Argon2Error, InvalidHashError):
        return None
    if row is None:
        return None
    connection.execute(users.update().where(users.c.id == row.id).values(last_sign_in_at=now))
    return _caller(row)


def _caller(row: Row[Any]) -> Caller:
    return Caller(name=row.email, scope=SCOPE_OF_ROLE[Role(row.role)], tenant=row.tenant, user_id=row.id)


def _hash(password: str) -> str:
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise InvalidFieldError(
            "password", "…", f"A password must have {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters."
        )
    return _HASHER.hash(password)


@cache
def _unknown() -> str:
    return _HASHER.hash("the password of nobody")
