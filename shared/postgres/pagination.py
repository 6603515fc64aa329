"""Lists a page at a time: a walk along an index that reads a bounded number of rows, however few of them fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from shared import ids

MOST_READ = 20_000
"""Rows that one page may read. A page that ends here may be short; its cursor goes on from where it ended."""

T = TypeVar("T")
Position = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list, and the position after which the next page begins; None at the end."""

    items: Sequence[T]
    next: Position | None


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
        most = MOST_READ if self.picks else limit + 1
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
    """From `since` until before `until`; None leaves that side open."""

    since: datetime | None = None
    until: datetime | None = None

    def cut(self, walk: Walk, key: str) -> None:
        """Bound a walk along ids of version 7 by the time they were made."""
        if self.since is not None and self.since.timestamp() > 0:
            walk.bound(f"{key} >= %(since)s", since=ids.first_at(self.since))
        if self.until is not None:
            first = ids.first_at(self.until) if self.until.timestamp() > 0 else UUID(int=0)
            walk.bound(f"{key} < %(until)s", until=first)
