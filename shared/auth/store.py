"""Keys to the API: stored as hashes, so that who reads the database cannot use them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One key. `prefix` is its beginning, by which a person recognises it; `tenant` None is every tenant."""

    id: int
    name: str
    prefix: str
    scope: str
    tenant: str | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


_COLUMNS = ", ".join(entry.name for entry in fields(KeyRow))


# Every request asks this, so it is one trip to the database.
_USE = f"""
WITH found AS MATERIALIZED (SELECT {_COLUMNS} FROM api_keys WHERE hash = %(digest)s AND revoked_at IS NULL),
used AS (
    UPDATE api_keys AS k SET last_used_at = now() FROM found
    WHERE k.id = found.id AND (found.last_used_at IS NULL OR found.last_used_at < now() - interval '1 minute')
)
SELECT * FROM found
"""


def create(
    connection: Connection, *, name: str, prefix: str, digest: bytes, scope: str, tenant: str | None = None
) -> KeyRow:
    """Add a key, by its hash."""
    rows = connection.exec_driver_sql(
        "INSERT INTO api_keys (name, prefix, hash, scope, tenant)"
        f" VALUES (%(name)s, %(prefix)s, %(digest)s, %(scope)s, %(tenant)s) RETURNING {_COLUMNS}",
        {"name": name, "prefix": prefix, "digest": digest, "scope": scope, "tenant": tenant},
    ).mappings()
    return KeyRow(**rows.one())


def find_valid(connection: Connection, digest: bytes) -> KeyRow | None:
    """The key with this hash, unless it was revoked. Notes its use, to the minute."""
    row = connection.exec_driver_sql(_USE, {"digest": digest}).mappings().one_or_none()
    return None if row is None else KeyRow(**row)


def listed(connection: Connection, *, before: int | None = None, limit: int = 500) -> Sequence[KeyRow]:
    """Keys, the newest first, revoked ones included; `before` is the id at which the last page ended."""
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM api_keys WHERE %(before)s::bigint IS NULL OR id < %(before)s"
        " ORDER BY id DESC LIMIT %(limit)s",
        {"before": before, "limit": limit},
    ).mappings()
    return [KeyRow(**row) for row in rows]


def revoke(connection: Connection, key_id: int) -> bool:
    """End a key. False if there is none of this id that is still valid."""
    return bool(
        connection.exec_driver_sql(
            "UPDATE api_keys SET revoked_at = now() WHERE id = %(id)s AND revoked_at IS NULL", {"id": key_id}
        ).rowcount
    )
