"""API keys: stored as hashes, so that a reader of the database cannot use them."""

import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, func, select, text

from shared.auth.tables import api_keys
from shared.errors import InvalidFieldError

_PREFIX = "tdk_"  # lets secret scanners recognize a leaked key
_SHOWN_CHARACTERS = len(_PREFIX) + 6
_MAX_CHARACTERS = 200
_SECRET = re.compile(_PREFIX + r"[A-Za-z0-9_-]{32,190}")
MAX_NAME_LENGTH = 100

# Text, because every request of the API runs it: one round trip finds the key and notes its use, to the minute.
_USE = text("""
WITH found AS MATERIALIZED (
    SELECT id, name, scope, tenant, last_used_at FROM api_keys WHERE hash = :digest AND revoked_at IS NULL
),
used AS (
    UPDATE api_keys AS k SET last_used_at = now() FROM found
    WHERE k.id = found.id AND (found.last_used_at IS NULL OR found.last_used_at < now() - interval '1 minute')
)
SELECT * FROM found
""")


class Scope(StrEnum):
    """What a key allows; each scope includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        """Return whether a key of this scope may do what needs the other."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


class Role(StrEnum):
    """What a user of the console may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


SCOPE_OF_ROLE: Final[Mapping[Role, Scope]] = {
    Role.VIEWER: Scope.READ,
    Role.OPERATOR: Scope.WRITE,
    Role.ADMIN: Scope.ADMIN,
}
"""A role allows what an API key with this scope does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The holder of a valid key, or a user of the console. `key_id` and `user_id` are None for TIDINGS_ADMIN_KEY.

    `tenant` is the only tenant whose objects the caller may see or change; None is all of them.
    """

    name: str
    scope: Scope
    tenant: str | None = None
    key_id: int | None = None
    user_id: int | None = None

    @property
    def actor(self) -> str:
        """The caller's name in the audit log."""
        if self.user_id is not None:
            return f"user:{self.user_id}:{self.name}"
        return f"key:{self.name}" if self.key_id is None else f"key:{self.key_id}:{self.name}"


class NewKey(NamedTuple):
    """The row of a key that was just created, and the key itself, which is not stored."""

    row: Row[Any]
    secret: str


def create_key(
    connection: Connection, name: str, scope: Scope, tenant: str | None = None, *, secret: str | None = None
) -> NewKey:
    """Create a key for a tenant, or with None for all tenants; with a new secret unless one is given.

    Raises InvalidFieldError.
    """
    if not 0 < len(name.strip()) <= MAX_NAME_LENGTH:
        raise InvalidFieldError("name", name, f"The name of a key must have 1 to {MAX_NAME_LENGTH} characters.")
    if secret is None:
        secret = _PREFIX + secrets.token_urlsafe(32)
    elif not _SECRET.fullmatch(secret):
        message = f"The secret of a key must be {_PREFIX} and 32 to 190 of A-Z, a-z, 0-9, - and _, chosen at random."
        raise InvalidFieldError("secret", None, message)
    values = {
        "name": name,
        "prefix": secret[:_SHOWN_CHARACTERS],
        "hash": digest(secret),
        "scope": scope,
        "tenant": tenant,
    }
    return NewKey(connection.execute(api_keys.insert().values(values).returning(api_keys)).one(), secret)


def list_keys(connection: Connection, *, before: int | None = None, limit: int = 500) -> Sequence[Row[Any]]:
    """Return keys, the newest first, revoked ones included; `before` is the last id of the previous page."""
    statement = select(api_keys).order_by(api_keys.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(api_keys.c.id < before)
    return connection.execute(statement).all()


def revoke_key(connection: Connection, key_id: int) -> bool:
    """Revoke a key. Return False if no valid key has this id."""
    statement = api_keys.update().where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    return bool(connection.execute(statement.values(revoked_at=func.now())).rowcount)


def authenticate(connection: Connection, secret: str) -> Caller | None:
    """Return the holder of a key; None if it is unknown or revoked."""
    if len(secret) > _MAX_CHARACTERS:
        return None
    row = connection.execute(_USE, {"digest": digest(secret)}).one_or_none()
    return None if row is None else Caller(name=row.name, scope=Scope(row.scope), tenant=row.tenant, key_id=row.id)


def authenticate_admin(secret: str, admin_key: str) -> Caller | None:
    """Return the holder of TIDINGS_ADMIN_KEY; None if that is not set, or another. Compares in constant time."""
    if admin_key and hmac.compare_digest(digest(secret), digest(admin_key)):
        return Caller(name="TIDINGS_ADMIN_KEY", scope=Scope.ADMIN)
    return None


def digest(secret: str) -> bytes:
    """Return the hash that is stored of a key."""
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
