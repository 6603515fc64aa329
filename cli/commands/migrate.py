"""`tidings migrate`: bring the database to the tables that this version expects."""

import click
from sqlalchemy.exc import ArgumentError, OperationalError

from shared import settings
from shared.postgres import migrate as migrations
from shared.settings import SettingsError


@click.command
def migrate() -> None:
    """Bring the database of TIDINGS_DATABASE_URL to the tables that this version expects.

    Safe to run at any time, and by several at once: one migrates, the others wait.
    """
    configuration = settings.read()
    configuration.require("database_url")
    try:
        revision = migrations.upgrade(configuration.database_url)
    except ArgumentError:
        raise SettingsError("TIDINGS_DATABASE_URL should be like postgresql://user:password@host:5432/name") from None
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        raise SettingsError(f"TIDINGS_DATABASE_URL: the database cannot be reached: {reason}") from None
    click.echo(f"The database is at revision {revision}.")
