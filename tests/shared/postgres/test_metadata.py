"""The tables that `tables.py` of every feature declares are the tables that the migrations make."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.dialects.postgresql.base import ischema_names

from shared.postgres import engine
from shared.postgres.metadata import Xid8, metadata

SHARED = Path(__file__).parents[3] / "shared"

COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
    pg_get_expr(d.adbin, d.adrelid)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""
CONSTRAINTS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition AND k.contype <> 'n'
"""
INDEXES = """
SELECT t.relname, i.relname, replace(pg_get_indexdef(i.oid), 'public.', ''), coalesce(i.reloptions, '{}')
FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid JOIN pg_class AS t ON t.oid = x.indrelid
WHERE t.relnamespace = 'public'::regnamespace AND NOT t.relispartition
"""
PARTITIONING = """
SELECT relname, pg_get_partkeydef(oid), coalesce(reloptions, '{}') FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""


def import_tables() -> None:
    """Declare every table: import the `tables.py` of every feature."""
    for path in SHARED.glob("*/tables.py"):
        importlib.import_module(f"shared.{path.parent.name}.tables")


@pytest.fixture
def migrated(database_url: str) -> Iterator[Engine]:
    import_tables()
    ischema_names["xid8"] = Xid8
    made = engine.create_engine(database_url, application="test")
    yield made
    made.dispose()


@pytest.fixture
def empty(empty_database: str) -> Iterator[Engine]:
    made = engine.create_engine(empty_database, application="test")
    yield made
    made.dispose()


def test_autogenerate_finds_no_difference(migrated: Engine) -> None:
    with migrated.connect() as connection:
        partitions = set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))

        def is_declared(_: Any, name: str | None, kind: str, *__: Any) -> bool:
            return not (kind == "table" and name in partitions)

        options = {"compare_server_default": True, "include_object": is_declared}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


@pytest.mark.parametrize("catalog", [COLUMNS, CONSTRAINTS, INDEXES, PARTITIONING])
def test_what_metadata_makes_is_what_migrations_make(migrated: Engine, empty: Engine, catalog: str) -> None:
    copy_functions(migrated, empty)
    metadata.create_all(empty)
    assert read(empty, catalog) == read(migrated, catalog)


def copy_functions(migrated: Engine, empty: Engine) -> None:
    """Make the functions that column defaults call."""
    with migrated.connect() as connection:
        functions = connection.scalars(
            text("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        ).all()
    with empty.begin() as connection:
        connection.exec_driver_sql("SET LOCAL check_function_bodies = off")
        for function in functions:
            connection.exec_driver_sql(function)


def read(database: Engine, catalog: str) -> Mapping[tuple[str, ...], Sequence[Any]]:
    """Rows of a catalog by the names of table and object."""
    with database.connect() as connection:
        rows = connection.execute(text(catalog)).all()
    return {tuple(row[:2]): tuple(row[2:]) for row in rows if row[0] != "alembic_version"}
