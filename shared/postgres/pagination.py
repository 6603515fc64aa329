"""Keyset pagination: pages of a list along an index, each reading a bounded number of rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass(kw_only=True)
class Walk:
    """Where to walk: `table` along the index of `keys`; and what to pick up on the way.

    `bounds` are conditions that the index serves, `picks` those that every row read is asked.
    """

    table: str
    keys: Sequence[str]
    ascending: bool = False
    bounds: list[str] = field(default_factory=list)
    picks: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def bound(self, condition: str, **values: Any) -> None:
        """Walk only where this holds; a condition on the keys, or one that an index of its own serves."""
        self.bounds.append(condition)
        self.values.update(values)

    def pick(self, condition: str, **values: Any) -> None:
        """Pick up only rows for which this holds."""
        self.picks.append(condition)
        self.values.update(values)

    def after(self, position: Position | None) -> None:
        """Begin behind this position."""
        if position is None:
            return
        names = [f"after_{number}" for number in range(len(self.keys))]
        marks = ", ".join(f"%({name})s" for name in names)
        sign = ">" if self.ascending else "<"
        self.bound(f"({', '.join(self.keys)}) {sign} ({marks})", **dict(zip(names, position, strict=True)))

    def page(self, connection: Connection, limit: int) -> Page[Position]:
        """The keys of up to `limit` rows that fit."""
        most = MAX_ROWS_READ if self.picks else limit + 1
        rows = connection.exec_driver_sql(self._statement(), {**self.values, "most": most, "limit": limit + 1})
        found: list[Position] = []
        last: Position | None = None
        for fits, *keys in rows:
            if fits:
                found.append(tuple(keys))
            else:
                last = tuple(keys)
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1])
        return Page(found, last)

    def _statement(self) -> str:
        names = [f"key_{number}" for number in range(len(self.keys))]
        keys = ", ".join(f"{key} AS {name}" for key, name in zip(self.keys, names, strict=True))
        there, back = ("ASC", "DESC") if self.ascending else ("DESC", "ASC")

        def order(columns: Sequence[str], direction: str) -> str:
            return ", ".join(f"{column} {direction}" for column in columns)

        return f"""
        WITH walked AS MATERIALIZED (
            SELECT {keys}, ({" AND ".join(self.picks) or "true"}) AS fits FROM {self.table}
            WHERE {" AND ".join(self.bounds) or "true"} ORDER BY {order(self.keys, there)} LIMIT %(most)s
        ),
        found AS (
            SELECT true AS fits, {", ".join(names)} FROM walked WHERE fits
            ORDER BY {order(names, there)} LIMIT %(limit)s
        ),
        last AS (
            SELECT false AS fits, {", ".join(names)} FROM walked
            WHERE (SELECT count(*) FROM walked) >= %(most)s ORDER BY {order(names, back)} LIMIT 1
        )
        SELECT * FROM found UNION ALL SELECT * FROM last ORDER BY {order(["fits", *names], there)}
        """


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

    def cut(self, walk: Walk, key: str) -> None:
        """Bound a walk along ids of version 7 by the time they were made."""
        if self.since is not None and self.since.timestamp() > 0:
            walk.bound(f"{key} >= %(since)s", since=ids.first_at(self.since))
        if self.until is not None:
            first = ids.first_at(self.until) if self.until.timestamp() > 0 else UUID(int=0)
            walk.bound(f"{key} < %(until)s", until=first)
