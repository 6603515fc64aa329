"""Migrates a database to the schema of this version."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

from shared.postgres import engine, partitions, transaction_ids

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x71D1465  # of two instances that start at once, one migrates


def upgrade(database_url: str) -> str:
    """Apply the missing migrations, create the partitions of the coming weeks, and return the revision.

    A database that was moved from another server continues the numbering of its change log.
    """
    target = engine.create_engine(database_url, application="migrate", pool_size=1, statement_timeout_ms=0)
    try:
        with target.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            partitions.create_missing(connection)
            transaction_ids.continue_numbering(connection)
            return revision(connection) or ""
    finally:
        target.dispose()


def revision(connection: Connection) -> str | None:
    """Return the database's revision; None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """Return the revision that this code expects."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
