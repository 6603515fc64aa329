"""A database that comes back from a test equals a freshly migrated one."""

import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from shared import ids
from tests.support.databases import DatabasePool, DatabaseServer, Snapshot, program

# By type, a value that can be stored. Partitions exist for identifiers and instants of now.
_VALUES = {
    "boolean": "true", "smallint": "1", "integer": "1", "bigint": "1", "double precision": "1", "numeric": "1",
    "text": "'x'", "character varying": "'x'", "bytea": "'x'", "uuid": f"'{ids.receipt_id(datetime.now(UTC))}'",
    "xid8": "'1'", "inet": "'192.0.2.1'", "json": "'{}'", "jsonb": "'{}'", "text[]": "'{x}'", "integer[]": "'{1}'",
    "uuid[]": f"'{{{ids.receipt_id(datetime.now(UTC))}}}'",
    "date": "now()", "real": "1",
    "bigint[]": "'{1}'", "double precision[]": "'{1}'", "timestamp with time zone": "now()", '"char"': "'x'",
}  # fmt: skip
_COLUMNS = """
SELECT relation.relname, array_agg(attname ORDER BY attnum), array_agg(format_type(atttypid, NULL) ORDER BY attnum)
FROM pg_class AS relation JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND attgenerated = ''
    AND attidentity <> 'a' AND relname <> 'alembic_version'
GROUP BY 1
"""
DROP_A_PARTITION = """
DO $$ BEGIN EXECUTE (SELECT format('DROP TABLE %s', oid::regclass) FROM pg_class
    WHERE relispartition AND relkind = 'r' AND relnamespace = 'public'::regnamespace LIMIT 1); END $$
"""


@pytest.fixture(scope="module")
def pool(postgres: DatabaseServer) -> Iterator[DatabasePool]:
    pool = DatabasePool(postgres)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def fresh(pool: DatabasePool) -> str:
    """A dump of a database that no test has used."""
    with pool.database() as url:
        return dump(url)


def dump(url: str) -> str:
    """Structure, rows and sequences, as pg_dump has them."""
    return subprocess.run(
        [program("pg_dump"), "--restrict-key=test", url], capture_output=True, text=True, check=True
    ).stdout


def allowed_words(connection: "psycopg.Connection[Any]", table: str) -> dict[str, str]:
    """For each column that takes certain words only, one of them."""
    checks = connection.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid = %s::regclass", [table]
    )
    return dict(re.findall(r"(\w+) = ANY \(ARRAY\[('[^']*')", " ".join(check for (check,) in checks)))


def write_everywhere(connection: "psycopg.Connection[Any]") -> None:
    for table, columns, types in connection.execute(_COLUMNS).fetchall():
        allowed = allowed_words(connection, table)
        values = [allowed.get(column, _VALUES[type_]) for column, type_ in zip(columns, types, strict=True)]
        connection.execute(f"DELETE FROM {table}")
        connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)})")
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
    for (name,) in connection.execute("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'").fetchall():
        connection.execute("SELECT nextval(%s) FROM generate_series(1, 3)", [name])


def test_after_a_test_that_wrote_to_every_table_the_next_finds_a_fresh_database(pool: DatabasePool, fresh: str) -> None:
    with pool.database() as first, psycopg.connect(first, autocommit=True) as connection:
        write_everywhere(connection)
        connection.execute("INSERT INTO state_changes (type) SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
        written = dump(first)
    with pool.database() as second:
        assert second == first
        assert written != fresh
        assert dump(second) == fresh


def test_a_table_that_was_empty_is_emptied_whatever_jsonb_cannot_represent(pool: DatabasePool) -> None:
    with pool.unmigrated_database() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE objects (object json)")
        connection.execute("INSERT INTO objects VALUES ('{}')")
        connection.execute("DELETE FROM objects")
        snapshot = Snapshot.take(connection)
        connection.execute("""INSERT INTO objects VALUES ('"\\ud800"')""")
        snapshot.restore(connection)
        assert connection.execute("SELECT count(*) FROM objects").fetchone() == (0,)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE left_behind ()",
        "DROP TABLE refusals",
        "CREATE INDEX left_behind ON state_changes (type)",
        "ALTER TABLE jobs ADD COLUMN left_behind int",
        "ALTER TABLE jobs SET (fillfactor = 50)",
        "CREATE FUNCTION left_behind() RETURNS int LANGUAGE sql RETURN 1",
        "INSERT INTO state_changes (type) VALUES ('x'); ANALYZE state_changes",
        "CREATE SCHEMA left_behind",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$",
        DROP_A_PARTITION,
    ],
)
def test_after_a_test_that_changed_the_structure_the_next_gets_another_database(
    pool: DatabasePool, fresh: str, change: str
) -> None:
    with pool.database() as first, psycopg.connect(first, autocommit=True) as connection:
        connection.execute(change)
    with pool.database() as second:
        assert second != first
        assert dump(second) == fresh


def test_a_connection_that_a_test_left_open_does_not_reach_the_next(pool: DatabasePool, fresh: str) -> None:
    with pool.database() as first:
        left = psycopg.connect(first)
        left.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
    with pool.database() as second:
        assert second == first
        assert dump(second) == fresh
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")


def test_a_test_that_disconnects_everybody_leaves_a_fresh_database(pool: DatabasePool, fresh: str) -> None:
    for _ in range(2):
        with pool.database() as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO state_changes (type) VALUES ('x')")
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    with pool.database() as url:
        assert dump(url) == fresh
