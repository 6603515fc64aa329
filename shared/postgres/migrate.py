"""Migrates a database to the schema of this version."""

from pathlib import Path

from sqlalchemy import Connection, func, select, text

from shared.errors import ConflictError
from shared.postgres import engine, partitions, transaction_ids

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIN_VERSION = 150_000
_LOCK = 0x71D1465  # of two instances that start at once, one migrates


def upgrade(database_url: str) -> str:
    """Apply the missing migrations, create the partitions of the coming weeks, and return the revision.

    A database that was moved from another server continues the numbering of its change log.
    """
    # Here, because the processes that only compare revisions would hold 10 MB more.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    target = engine.create_engine(database_url, application="migrate", pool_size=1, statement_timeout_ms=0)
    try:
        with target.begin() as connection:
            require_usable(connection)
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS))
            config.attributes["connection"] = connection
            found, scripts = revision(connection), ScriptDirectory.from_config(config)
            if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
                raise ConflictError(
                    f"The database is at revision {found}, which this version does not know: a newer one has migrated"
                    " it. Run that version, or restore the backup from before the update."
                )
            command.upgrade(config, "head")
            partitions.create_missing(connection)
            transaction_ids.continue_numbering(connection)
            return revision(connection) or ""
    finally:
        target.dispose()


def require_usable(connection: Connection) -> None:
    """Raise ConflictError if this version cannot work with the database, even after a migration."""
    names = ("server_version_num", "server_version", "server_encoding", "transaction_read_only")
    found = select(func.pg_is_in_recovery(), *map(func.current_setting, names))
    is_standby, version, name, encoding, read_only = connection.execute(found).one()
    if int(version) < _MIN_VERSION:
        raise ConflictError(f"The database is PostgreSQL {name}; Tidings needs 15 or later.")
    if encoding != "UTF8":
        raise ConflictError(f"The database has the encoding {encoding}; create one with ENCODING 'UTF8'.")
    if is_standby or read_only == "on":
        what = "a standby" if is_standby else "read-only (default_transaction_read_only)"
        raise ConflictError(f"The database is {what}, so nothing can be stored in it; name the primary one.")


def revision(connection: Connection) -> str | None:
    """Return the database's revision; None before the first migration."""
    if connection.execute(select(func.to_regclass("alembic_version"))).scalar() is None:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def head() -> str:
    """Return the revision that this code expects: the first word of the name of the newest migration."""
    return max(path.name for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]
