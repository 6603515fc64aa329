"""Migrated databases for tests, from a pool that restores a database after use instead of creating another.

`CREATE DATABASE` and `DROP DATABASE` each force a checkpoint, and copy or remove some 300 files. Emptying the few
tables that a test wrote to takes a tenth of that time.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import psycopg
from psycopg import sql

from cli.embedded import postgres_user
from shared.postgres import migrate

Connection = psycopg.Connection[Any]
_numbers = count(1)

# Rows of the catalogs are distinguished by the transactions that wrote them, those of pg_class by columns, because
# TRUNCATE replaces them.
_CATALOGS = (
    "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_inherits", "pg_namespace", "pg_proc", "pg_statistic",
    "pg_trigger", "pg_type",
)  # fmt: skip
_STRUCTURE = " UNION ALL ".join(
    f"SELECT '{name}', count(*), sum(xmin::text::bigint)::bigint FROM {name}" for name in _CATALOGS
) + (
    " UNION ALL SELECT 'pg_class', count(*), sum(hashtext(concat_ws(' ', relname, relkind, relpersistence,"
    " relrowsecurity, reloptions::text, relpartbound::text)))::bigint FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace"
    " UNION ALL SELECT 'settings', count(*), sum(hashtext(setconfig::text))::bigint FROM pg_db_role_setting"
    " WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_NON_EMPTY = """
SELECT oid::regclass::text, pg_relation_size(oid) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0 ORDER BY 1
"""
_SEQUENCES = """
SELECT format('%I.%I', schemaname, sequencename), start_value, last_value FROM pg_sequences WHERE schemaname = 'public'
"""
_DISCONNECT_OTHERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type IN ('client backend', 'parallel worker')
"""
_DISCONNECT_SECONDS = 60
# Deleting a few rows takes less time than TRUNCATE, which replaces the files of a table and of its indexes.
_MAX_BYTES_TO_DELETE = 65536


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL, such as `pg_dump`."""
    return str(postgres_user.installation(postgres_user.server_user()) / "bin" / name)


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A PostgreSQL server that tests share; each test has a separate database."""

    url: str
    is_temporary: bool = False
    """Whether it ends with the run, and its databases with it. To drop one takes a checkpoint."""

    def url_of(self, database: str) -> str:
        """Return the URL of another database of this server."""
        base, separator, query = self.url.partition("?")
        return base.rpartition("/")[0] + f"/{database}" + separator + query

    def execute(self, statement: sql.Composed) -> None:
        """Run a statement that cannot be part of a transaction."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a database contained: its rows and sequences to restore, and a fingerprint of its structure to compare."""

    structure: Sequence[Any]
    rows: Mapping[str, Sequence[str]]
    """The rows of each non-empty table, as JSON."""
    sequences: Mapping[str, int | None]

    @classmethod
    def take(cls, connection: Connection) -> Self:
        """Read a database that contains few rows."""
        # A table whose rows were deleted still has pages.
        read = {table: _rows(connection, table) for table, _ in connection.execute(_NON_EMPTY)}
        return cls(
            structure=_structure(connection),
            rows={table: rows for table, rows in read.items() if rows},
            sequences={name: last for name, _, last in connection.execute(_SEQUENCES)},
        )

    def has_structure_of(self, connection: Connection) -> bool:
        """Return whether the database has the same tables, partitions, indexes … and statistics."""
        return self.structure == _structure(connection)

    def restore(self, connection: Connection, *, sequences: bool = True) -> None:
        """Bring back the rows and, unless identifiers must stay unique, the sequences."""
        with connection.transaction():
            written = {
                table: size for table, size in connection.execute(_NON_EMPTY) if self._differs(connection, table)
            }
            large = [table for table, size in written.items() if size > _MAX_BYTES_TO_DELETE]
            # The tables with rows to restore come last: triggers write to some when others are emptied.
            for table in [table for table in written if table not in (*large, *self.rows)]:
                _execute(connection, f"DELETE FROM {table}")
            if large:
                _execute(connection, f"TRUNCATE {', '.join(large)}")
            if written:
                for table, rows in self.rows.items():
                    _execute(connection, f"DELETE FROM {table}")
                    statement = f"INSERT INTO {table} SELECT (jsonb_populate_record(null::{table}, %s::jsonb)).*"
                    for row in rows:
                        _execute(connection, statement, row)
            for name, start, last in connection.execute(_SEQUENCES).fetchall() if sequences else ():
                if last != self.sequences[name]:
                    value = self.sequences[name]
                    connection.execute("SELECT setval(%s, %s, %s)", [name, value or start, value is not None])

    def _differs(self, connection: Connection, table: str) -> bool:
        rows = self.rows.get(table)
        return rows is None or rows != _rows(connection, table, limit=len(rows) + 1)


@dataclass
class DatabasePool:
    """Databases that each start a test in exactly the freshly migrated state."""

    server: DatabaseServer
    _free: list["_PooledDatabase"] = field(default_factory=list)
    _all: list["_PooledDatabase"] = field(default_factory=list)
    _template: "_PooledDatabase | None" = None

    @contextmanager
    def database(self) -> Iterator[str]:
        """Lend a migrated, empty database; its URL."""
        database = self._free.pop() if self._free else self._create()
        yield database.url
        if database.restore():
            self._free.append(database)

    @contextmanager
    def unmigrated_database(self) -> Iterator[str]:
        """Lend a database without tables, which no other test gets; its URL."""
        yield self._add(sql.SQL("")).url

    def close(self) -> None:
        """Drop every database of a server that stays, at the end of the run: also those that were not restored."""
        for database in self._all:
            database.close()
            if not self.server.is_temporary:
                self.server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def _create(self) -> "_PooledDatabase":
        if self._template is None:
            self._template = self._add(sql.SQL(""))
            migrate.upgrade(self._template.url)
            self._template.take_snapshot()
        options = sql.SQL("TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(self._template.name))
        return self._add(options, self._template.snapshot)

    def _add(self, options: sql.Composable, snapshot: Snapshot | None = None) -> "_PooledDatabase":
        name = f"tidings_test_{os.getpid()}_{next(_numbers)}"
        self.server.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), options))
        database = _PooledDatabase(name, self.server.url_of(name), snapshot)
        self._all.append(database)
        return database


@dataclass
class _PooledDatabase:
    name: str
    url: str
    snapshot: Snapshot | None
    connection: Connection | None = None
    """Stays open from one restoration to the next, so that its caches stay warm."""

    def take_snapshot(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            self.snapshot = Snapshot.take(connection)

    def restore(self) -> bool:
        """Disconnect everybody and bring back the fresh state; return False if the structure was changed."""
        try:
            return self._restore()
        except psycopg.OperationalError:  # the test disconnected everybody, this pool included
            return self._restore()

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def _restore(self) -> bool:
        assert self.snapshot is not None
        if self.connection is None or self.connection.closed:
            self.connection = psycopg.connect(self.url, autocommit=True, application_name="test database pool")
        _disconnect_others(self.connection)
        if not self.snapshot.has_structure_of(self.connection):
            return False
        self.snapshot.restore(self.connection)
        return True


def _disconnect_others(connection: Connection) -> None:
    deadline = time.monotonic() + _DISCONNECT_SECONDS
    while connection.execute(_DISCONNECT_OTHERS).fetchone() != (0,):
        assert time.monotonic() < deadline, "a connection to a test's database does not end"
        time.sleep(0.002)


def _structure(connection: Connection) -> Sequence[Any]:
    return connection.execute(_STRUCTURE).fetchall()


def _rows(connection: Connection, table: str, limit: int | None = None) -> list[str]:
    statement = f"SELECT to_jsonb(found)::text FROM (SELECT * FROM {table} LIMIT %s) AS found ORDER BY 1"
    return [row for (row,) in _execute(connection, statement, limit)]


def _execute(connection: Connection, statement: str, *values: Any) -> "psycopg.Cursor[Any]":
    return connection.execute(statement, values or None)
