"""Sources: configured provider accounts, with their credentials and settings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, insert

from shared.errors import ConflictError
from shared.sources.tables import sources

CHANNEL = "tidings_sources"
"""The PostgreSQL channel that is notified when a source changes, so that receivers reload at once."""


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


_columns = [column for column in sources.c if column.name in {entry.name for entry in fields(SourceRow)}]


def create(
    connection: Connection, *, slug: str, provider: str, credentials: bytes, settings: Mapping[str, Any]
) -> SourceRow:
    """Insert a source. Raises ConflictError if the slug is taken."""
    values = {"slug": slug, "provider": provider, "credentials": credentials, "settings": dict(settings)}
    statement = insert(sources).values(values).on_conflict_do_nothing(index_elements=["slug"]).returning(*_columns)
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise ConflictError(
            f"The slug {slug!r} is taken; a deleted source keeps its slug, because receipts refer to it."
        )
    _notify(connection)
    return SourceRow(**row)


def update(
    connection: Connection,
    source_id: int,
    *,
    credentials: bytes | None = None,
    settings: Mapping[str, Any] | None = None,
) -> SourceRow:
    """Change credentials or settings of a source. None leaves them unchanged."""
    values: dict[str, Any] = {"version": sources.c.version + 1, "updated_at": func.clock_timestamp()}
    if credentials is not None:
        values["credentials"] = credentials
    if settings is not None:
        values["settings"] = dict(settings)
    statement = sqlalchemy.update(sources).where(sources.c.id == source_id).values(values).returning(*_columns)
    row = connection.execute(statement).mappings().one()
    _notify(connection)
    return SourceRow(**row)


def delete(connection: Connection, slug: str) -> bool:
    """Mark a source as deleted; what it received stays. Return False if there is no such source."""
    now = func.clock_timestamp()
    values = {"deleted_at": now, "updated_at": now, "version": sources.c.version + 1}
    found = connection.execute(sqlalchemy.update(sources).where(*_is_active(slug)).values(values)).rowcount
    _notify(connection)
    return bool(found)


def add_keys(connection: Connection, source_id: int, keys: Mapping[str, str]) -> None:
    """Store public keys that were fetched for a source."""
    new, columns = literal(dict(keys), JSONB), sources.c
    connection.execute(
        sqlalchemy.update(sources)
        .where(columns.id == source_id, ~columns.fetched_keys.contains(new))
        .values(
            fetched_keys=columns.fetched_keys.op("||")(new),
            version=columns.version + 1,
            updated_at=func.clock_timestamp(),
        )
    )
    _notify(connection)


def find(connection: Connection, slug: str) -> SourceRow | None:
    """Return the source with this slug, unless it was deleted."""
    row = connection.execute(select(*_columns).where(*_is_active(slug))).mappings().one_or_none()
    return SourceRow(**row) if row else None


def lock(connection: Connection, slug: str) -> bool:
    """Lock a source until the transaction ends. Return False if there is no such source."""
    statement = select(sources.c.id).where(*_is_active(slug)).with_for_update()
    return connection.scalar(statement) is not None


def get_id(connection: Connection, slug: str) -> int | None:
    """Return the id of the source with this slug, also of a deleted one."""
    return connection.scalar(select(sources.c.id).where(sources.c.slug == slug))


def list_known_slugs(connection: Connection, slugs: Sequence[str]) -> frozenset[str]:
    """Return which of these slugs belong to a source, deleted ones included."""
    return frozenset(connection.scalars(select(sources.c.slug).where(sources.c.slug.in_(slugs))))


def list_sources(connection: Connection) -> list[SourceRow]:
    """Return every source that is not deleted, by slug."""
    statement = select(*_columns).where(sources.c.deleted_at.is_(None)).order_by(sources.c.slug)
    return [SourceRow(**row) for row in connection.execute(statement).mappings()]


def by_ids(connection: Connection, ids: Iterable[int]) -> list[SourceRow]:
    """Return the sources with these ids, deleted ones included: their receipts are processed all the same."""
    rows = connection.execute(select(*_columns).where(sources.c.id.in_(list(ids)))).mappings()
    return [SourceRow(**row) for row in rows]


def versions_of(connection: Connection, ids: Iterable[int]) -> dict[int, int]:
    """Return the versions of these sources by id, deleted ones included."""
    rows = connection.execute(select(sources.c.id, sources.c.version).where(sources.c.id.in_(list(ids))))
    return {row.id: row.version for row in rows}


def versions(connection: Connection) -> dict[int, int]:
    """Return the version of every source that is not deleted, by id. Caches compare it."""
    rows = connection.execute(select(sources.c.id, sources.c.version).where(sources.c.deleted_at.is_(None)))
    return {row.id: row.version for row in rows}


def _is_active(slug: str) -> tuple[ColumnElement[bool], ...]:
    return sources.c.slug == slug, sources.c.deleted_at.is_(None)


def _notify(connection: Connection) -> None:
    connection.execute(select(func.pg_notify(CHANNEL, "")))
