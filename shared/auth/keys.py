"""Who may use the API: keys, and what each lets its holder do."""

import hmac
import secrets
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from sqlalchemy import Connection

from shared.auth import store as api_keys
from shared.auth.store import KeyRow

_MARK = "tdk_"  # so that a leaked key is recognised as one
_SHOWN = len(_MARK) + 6
_LONGEST = 200


class Scope(StrEnum):
    """What a key is good for; each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        """Whether a key of this scope may do what needs the other."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. `name` is the key's, `key_id` None that of TIDINGS_ADMIN_KEY.

    `tenant` is the only one that the caller may see or change anything of; None is every one.
    """

    name: str
    scope: Scope
    tenant: str | None = None
    key_id: int | None = None

    @property
    def actor(self) -> str:
        """What the audit log calls the caller."""
        return f"key:{self.name}" if self.key_id is None else f"key:{self.key_id}:{self.name}"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; `secret` is known now and never again."""

    row: KeyRow
    secret: str


def create_key(connection: Connection, name: str, scope: Scope, tenant: str | None = None) -> NewKey:
    """Make a key: for what is of this tenant, None for everything."""
    secret = _MARK + secrets.token_urlsafe(32)
    row = api_keys.create(
        connection, name=name, prefix=secret[:_SHOWN], digest=digest(secret), scope=scope, tenant=tenant
    )
    return NewKey(row, secret)


def caller(connection: Connection, secret: str) -> Caller | None:
    """Whose key this is; None if it is nobody's."""
    row = api_keys.find_valid(connection, digest(secret)) if len(secret) <= _LONGEST else None
    return None if row is None else Caller(name=row.name, scope=Scope(row.scope), tenant=row.tenant, key_id=row.id)


def administrator(secret: str, admin_key: str) -> Caller | None:
    """The bearer of TIDINGS_ADMIN_KEY, if that is set and this is it; compared in constant time."""
    if admin_key and hmac.compare_digest(digest(secret), digest(admin_key)):
        return Caller(name="TIDINGS_ADMIN_KEY", scope=Scope.ADMIN)
    return None


def digest(secret: str) -> bytes:
    """The hash by which a key is known."""
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
