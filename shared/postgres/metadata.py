"""The one MetaData that every feature's `tables.py` declares its tables on, and the column types that they share."""

from typing import Any

from sqlalchemy import DateTime, MetaData
from sqlalchemy.types import UserDefinedType

metadata = MetaData()

Timestamp = DateTime(timezone=True)


class Xid8(UserDefinedType[Any]):
    """A 64-bit transaction id. psycopg reads and writes it as text; PostgreSQL compares it as a number."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the name of the type in DDL."""
        return "xid8"
