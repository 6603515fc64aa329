"""Keyset pagination: pages of a list along an index, each reading a bounded number of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, false, func, literal, select, true, tuple_, union_all

from shared import ids

MAX_ROWS_READ = 20_000
"""Rows that one page may read. A page that reaches this limit may be short; its cursor continues from there."""

T = TypeVar("T")
Position = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list, and the position after which the next page begins; None on the last page."""

    items: Sequence[T]
    next: Position | None


class KeysetQuery:
    """Selects the keys of one page, newest first unless `ascending`.

    `keys` are the columns of an index; their table is the one that is read. Conditions that this index, or one of
    their own, serves go to `where`; conditions that every row read has to be tested for go to `filter`.
    """

    def __init__(self, *keys: ColumnElement[Any], ascending: bool = False) -> None:
        self._keys = keys
        self._ascending = ascending
        self._indexed: list[ColumnElement[bool]] = []
        self._filters: list[ColumnElement[bool]] = []

    def where(self, *conditions: ColumnElement[bool]) -> None:
        """Read only rows that meet these conditions; an index serves them."""
        self._indexed.extend(conditions)

    def filter(self, *conditions: ColumnElement[bool]) -> None:
        """Return only rows that meet these conditions; they are tested row by row."""
        self._filters.extend(conditions)

    def fetch(self, connection: Connection, *, after: Position | None, limit: int) -> Page[Position]:
        """Return the keys of up to `limit` rows that match and come after the position."""
        names = [f"key_{number}" for number in range(len(self._keys))]
        conditions = list(self._indexed)
        if after is not None:
            position = tuple_(*(literal(value, key.type) for key, value in zip(self._keys, after, strict=True)))
            row = tuple_(*self._keys)
            conditions.append(row > position if self._ascending else row < position)
        max_rows = MAX_ROWS_READ if self._filters else limit + 1
        read = (
            select(
                *(key.label(name) for key, name in zip(self._keys, names, strict=True)),
                and_(true(), *self._filters).label("matches"),
            )
            .where(*conditions)
            .order_by(*self._ordered(self._keys))
            .limit(max_rows)
            .cte("rows_read")
            .prefix_with("MATERIALIZED")
        )
        columns = [read.c[name] for name in names]
        matching = (
            select(true().label("matches"), *columns)
            .where(read.c.matches)
            .order_by(*self._ordered(columns))
            .limit(limit + 1)
        )
        # Where the bound ended the reading, the next page goes on after the last row read.
        last_read = (
            select(false().label("matches"), *columns)
            .where(select(func.count()).select_from(read).scalar_subquery() >= max_rows)
            .order_by(*self._ordered(columns, reverse=True))
            .limit(1)
        )
        both = union_all(matching, last_read).subquery()
        statement = select(both).order_by(both.c.matches, *self._ordered([both.c[name] for name in names]))
        found: list[Position] = []
        last: Position | None = None
        for matches, *keys in connection.execute(statement):
            if matches:
                found.append(tuple(keys))
            else:
                last = tuple(keys)
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1])
        return Page(found, last)

    def _ordered(self, columns: Sequence[ColumnElement[Any]], *, reverse: bool = False) -> list[ColumnElement[Any]]:
        return [column.asc() if self._ascending is not reverse else column.desc() for column in columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From `since` (inclusive) to `until` (exclusive); None leaves that side open."""

    since: datetime | None = None
    until: datetime | None = None

    def of_ids(self, key: ColumnElement[UUID]) -> list[ColumnElement[bool]]:
        """Return conditions that select the UUIDv7 ids made in this span."""
        conditions = []
        if self.since is not None and self.since.timestamp() > 0:
            conditions.append(key >= ids.first_at(self.since))
        if self.until is not None:
            conditions.append(key < (ids.first_at(self.until) if self.until.timestamp() > 0 else UUID(int=0)))
        return conditions
