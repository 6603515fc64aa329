"""Bringing a database to the tables that this version of the code expects."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from shared.postgres import engine, partitions, transaction_ids

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x71D1465  # so that two instances that start at once do not both migrate


def upgrade(database_url: str) -> str:
    """Apply every migration that is missing, make the partitions of the coming weeks, return the revision.

    A database that was moved here from another server goes on numbering its log from where it was.
    """
    target = engine.create(database_url, application="migrate", pool_size=1, statement_timeout_ms=0)
    try:
        with target.begin() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            partitions.ensure(connection)
            transaction_ids.go_on(connection)
            return revision(connection) or ""
    finally:
        target.dispose()


def revision(connection: Connection) -> str | None:
    """The revision the database is at; None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The revision this code expects."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
