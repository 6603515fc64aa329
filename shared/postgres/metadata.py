"""The one MetaData that every feature's `tables.py` declares its tables on, and what their statements share."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, DateTime, MetaData, Select, any_, func, literal, or_, select
from sqlalchemy.types import UserDefinedType

metadata = MetaData()

Timestamp = DateTime(timezone=True)


class Xid8(UserDefinedType[Any]):
    """A 64-bit transaction id. psycopg reads and writes it as text; PostgreSQL compares it as a number."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the name of the type in DDL."""
        return "xid8"


def is_any(column: ColumnElement[Any], values: Collection[object]) -> ColumnElement[bool]:
    """Return the condition that a column is one of these values: one parameter, however many there are.

    `in_` has a parameter for each, and a statement may have 65,535 of them.
    """
    return column == any_(literal(list(values), ARRAY(column.type)))


def oldest_beyond(
    key: ColumnElement[Any],
    newest_first: ColumnElement[Any],
    size: ColumnElement[int],
    *where: ColumnElement[bool],
    max_rows: int,
    max_bytes: int,
) -> Select[Any]:
    """Return the query for the keys of the oldest rows beyond a number of rows and a sum of sizes."""
    rows, total = func.count().over(order_by=newest_first), func.sum(size).over(order_by=newest_first)
    ranked = select(key.label("key"), rows.label("rows"), total.label("total")).where(*where).subquery()
    return select(ranked.c.key).where(or_(ranked.c.rows > max_rows, ranked.c.total > max_bytes))
