"""Sources: who may post, by which provider's rules, with which credentials."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from shared.errors import TidingsError
from shared.postgres.connection import Connection

CHANNEL = "tidings_sources"
"""What is notified when a source changes, so that receivers look again at once."""


class SlugTakenError(TidingsError):
    """A source of that name exists, or did: what it received keeps its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """A source as it is stored; `credentials` are sealed (`shared.encryption`)."""

    id: int
    slug: str
    provider: str
    credentials: bytes
    settings: Mapping[str, Any]
    fetched_keys: Mapping[str, str]
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


_COLUMNS = ", ".join(entry.name for entry in fields(SourceRow))


def create(
    connection: Connection, *, slug: str, provider: str, credentials: bytes, settings: Mapping[str, Any]
) -> SourceRow:
    """Add a source. Raises SlugTakenError."""
    row = connection.exec_driver_sql(
        "INSERT INTO sources (slug, provider, credentials, settings)"
        " VALUES (%(slug)s, %(provider)s, %(credentials)s, %(settings)s::jsonb)"
        f" ON CONFLICT (slug) DO NOTHING RETURNING {_COLUMNS}",
        {"slug": slug, "provider": provider, "credentials": credentials, "settings": json.dumps(settings)},
    ).one_or_none()
    if row is None:
        raise SlugTakenError(f"there is, or was, a source called {slug!r}; choose another slug")
    _notify(connection)
    return SourceRow(**row._asdict())


def update(
    connection: Connection,
    source_id: int,
    *,
    credentials: bytes | None = None,
    settings: Mapping[str, Any] | None = None,
) -> SourceRow:
    """Change credentials or settings of a source; None leaves them."""
    row = connection.exec_driver_sql(
        "UPDATE sources SET credentials = coalesce(%(credentials)s, credentials),"
        " settings = coalesce(%(settings)s::jsonb, settings), version = version + 1, updated_at = clock_timestamp()"
        f" WHERE id = %(id)s RETURNING {_COLUMNS}",
        {
            "id": source_id,
            "credentials": credentials,
            "settings": None if settings is None else json.dumps(settings),
        },
    ).one()
    _notify(connection)
    return SourceRow(**row._asdict())


def delete(connection: Connection, slug: str) -> bool:
    """Take a source out of service; what it received stays. False if there is none."""
    found = connection.exec_driver_sql(
        "UPDATE sources SET deleted_at = clock_timestamp(), updated_at = clock_timestamp(), version = version + 1"
        " WHERE slug = %(slug)s AND deleted_at IS NULL",
        {"slug": slug},
    ).rowcount
    _notify(connection)
    return bool(found)


def add_keys(connection: Connection, source_id: int, keys: Mapping[str, str]) -> None:
    """Remember public keys that were fetched for a source."""
    connection.exec_driver_sql(
        "UPDATE sources SET fetched_keys = fetched_keys || %(keys)s::jsonb, version = version + 1,"
        " updated_at = clock_timestamp() WHERE id = %(id)s AND NOT fetched_keys @> %(keys)s::jsonb",
        {"id": source_id, "keys": json.dumps(dict(keys))},
    )
    _notify(connection)


def find(connection: Connection, slug: str) -> SourceRow | None:
    """The source of that name, unless it was deleted."""
    row = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM sources WHERE slug = %(slug)s AND deleted_at IS NULL", {"slug": slug}
    ).one_or_none()
    return SourceRow(**row._asdict()) if row else None


def listed(connection: Connection) -> list[SourceRow]:
    """Every source that is in service, by name."""
    rows = connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM sources WHERE deleted_at IS NULL ORDER BY slug")
    return [SourceRow(**row._asdict()) for row in rows]


def by_ids(connection: Connection, ids: Sequence[int]) -> list[SourceRow]:
    """These sources, deleted or not: what was received from one is processed all the same."""
    rows = connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM sources WHERE id = ANY(%(ids)s)", {"ids": list(ids)})
    return [SourceRow(**row._asdict()) for row in rows]


def versions(connection: Connection) -> dict[int, int]:
    """The version of every source in service, by id: what a cache compares."""
    rows = connection.exec_driver_sql("SELECT id, version FROM sources WHERE deleted_at IS NULL")
    return {row[0]: row[1] for row in rows}


def _notify(connection: Connection) -> None:
    connection.exec_driver_sql(f"NOTIFY {CHANNEL}")
