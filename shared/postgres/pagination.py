"""Keyset pagination: pages of a list along an index, each reading a bounded number of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    false,
    func,
    select,
    true,
    tuple_,
    union_all,
)

from shared import ids

MAX_ROWS_READ = 20_000
"""Rows that one page may read. A page that reaches this limit may be short; its cursor continues from there."""

_FIRST_ROWS_READ = 1000

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
        self._statements: dict[bool, Select[Any]] = {}

    def where(self, *conditions: ColumnElement[bool]) -> None:
        """Read only rows that meet these conditions; an index serves them."""
        self._indexed.extend(conditions)

    def filter(self, *conditions: ColumnElement[bool]) -> None:
        """Return only rows that meet these conditions; they are tested row by row."""
        self._filters.extend(conditions)

    def fetch(
        self,
        connection: Connection,
        *,
        after: Position | None,
        limit: int,
        parameters: Mapping[str, Any] | None = None,
        max_rows_read: int | None = None,
    ) -> Page[Position]:
        """Return the keys of up to `limit` rows that match and come after the position.

        `parameters` are the values of the conditions' bound parameters, if the query is used more than once.
        With filters the page reads a thousand rows, and up to `max_rows_read` if too few of them match.
        """
        is_continued = after is not None
        if is_continued not in self._statements:
            self._statements[is_continued] = self.build(is_continued=is_continued)
        position = {f"after_{number}": value for number, value in enumerate(after or ())}
        values = {**(parameters or {}), **position, "page_rows": limit + 1}
        found: list[Position] = []
        last: Position | None = None
        max_rows_read = MAX_ROWS_READ if max_rows_read is None else max_rows_read
        sizes = sorted({min(_FIRST_ROWS_READ, max_rows_read), max_rows_read})
        for max_rows in sizes if self._filters else [limit + 1]:
            rows = connection.execute(self._statements[is_continued], {**values, "max_rows": max_rows}).all()
            found = [tuple(keys) for matches, *keys in rows if matches]
            last = next((tuple(keys) for matches, *keys in rows if not matches), None)
            if len(found) > limit:
                return Page(found[:limit], found[limit - 1])
            if last is None:
                break
        return Page(found, last)

    def build(self, *, is_continued: bool) -> Select[Any]:
        """Return the statement of a page: the first one, or with `is_continued` one after a position."""
        names = [f"key_{number}" for number in range(len(self._keys))]
        conditions = list(self._indexed)
        if is_continued:
            position = tuple_(*(bindparam(f"after_{number}", type_=key.type) for number, key in enumerate(self._keys)))
            row = tuple_(*self._keys)
            conditions.append(row > position if self._ascending else row < position)
        max_rows = bindparam("max_rows", type_=Integer)
        page_rows = bindparam("page_rows", type_=Integer)
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
            .limit(page_rows)
        )
        # Where the bound ended the reading, the next page goes on after the last row read.
        last_read = (
            select(false().label("matches"), *columns)
            .where(select(func.count()).select_from(read).scalar_subquery() >= max_rows)
            .order_by(*self._ordered(columns, reverse=True))
            .limit(1)
        )
        both = union_all(matching, last_read).subquery()
        return select(both).order_by(both.c.matches, *self._ordered([both.c[name] for name in names]))

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
