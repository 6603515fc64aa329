"""The one MetaData that every feature's `tables.py` declares its tables on, and what their statements share."""

import re
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Connection, DateTime, MetaData, Select, any_, func, literal, or_, select
from sqlalchemy.types import UserDefinedType

metadata = MetaData()

Timestamp = DateTime(timezone=True)

_ID_DIGITS: Final = re.compile(r"[0-9a-f]{4,32}")


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


def find_by_prefix(
    connection: Connection, key: ColumnElement[UUID], given: str, *, name: ColumnElement[str] | None = None
) -> list[UUID]:
    """Return up to three ids that are meant by a text: a whole id, the beginning of one, or a `name`.

    A beginning has at least four hexadecimal digits; the index of the key serves it. An exact name goes first.
    """
    named = [] if name is None else list(connection.execute(select(key).where(name == given).limit(3)).scalars())
    digits = given.replace("-", "").lower()
    if named or not _ID_DIGITS.fullmatch(digits):
        return named
    # `ljust` makes the least and the greatest id with this beginning.
    lowest, highest = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    return list(connection.execute(select(key).where(key.between(lowest, highest)).limit(3)).scalars())


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
