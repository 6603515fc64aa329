"""PostgreSQL, as a receiver reaches it: by psycopg alone.

The functions of `shared.db` ask of a connection only that it runs statements. SQLAlchemy, with which the other
processes do that, would be a sixth of a receiver's memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from shared.postgres.connection import Parameters, arguments


class Result(psycopg.Cursor[Any]):
    """A cursor, read as SQLAlchemy's results are (see `shared.postgres.connection`)."""

    def all(self) -> list[Any]:
        """Every row."""
        return self.fetchall()

    def one(self) -> Any:
        """The only row."""
        [row] = self.fetchall()
        return row

    def one_or_none(self) -> Any:
        """The only row, or None."""
        return self.one() if self.rowcount else None

    def scalar(self) -> Any:
        """The first value of the first row, or None."""
        row = self.fetchone()
        return row[0] if row else None


class Connection(psycopg.Connection[Any]):
    """A connection on which every statement commits by itself; whatever fails raises a `psycopg.Error`."""

    def exec_driver_sql(self, statement: str, parameters: Parameters | None = None, /) -> Result:
        """Run a statement; where there are several sets of values with each, and all in one commit."""
        result = Result(self)
        if isinstance(parameters, Sequence):
            result.executemany(statement, parameters)
        else:
            result.execute(statement, parameters)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Which database, and how it is reached. `application` names the connections in pg_stat_activity."""

    url: str = field(repr=False)  # it holds the password
    application: str
    statement_timeout_ms: int

    def connect(self) -> Connection:
        """A new connection. Raises psycopg.OperationalError."""
        # SQLAlchemy's way to write an URL, `postgresql+psycopg://`, is as good as libpq's.
        conninfo = f"postgresql://{self.url.partition('://')[2]}"
        return Connection.connect(
            conninfo,
            autocommit=True,
            row_factory=namedtuple_row,
            **arguments(self.application, statement_timeout_ms=self.statement_timeout_ms),
        )


class Line:
    """One thread's connection: made when it is needed, and made anew after it was given up."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: Connection | None = None

    def connection(self) -> Connection:
        """The connection. Raises psycopg.OperationalError if one has to be made and cannot."""
        if self._open is None:
            self._open = self._database.connect()
        return self._open

    def give_up(self) -> None:
        """Close the connection: it is not needed any more, or cannot be trusted."""
        if self._open is not None:
            self._open.close()
            self._open = None
