"""What commands work with: the database, the secrets and the broker of one Tidings installation.

The settings name it. If they do not, it is the one that `tidings up` runs with its data in `--data`: the file
`ready.json` there contains its URLs.
"""

import getpass
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from cli.formatting import SafeConsole
from cli.supervisor.data_dir import READY_FILE
from shared import settings
from shared.auth import audit as audit_log
from shared.broker import PROCESS_RECEIPTS, TaskNotifier
from shared.encryption import Vault
from shared.errors import NotFoundError, TidingsError
from shared.postgres import engine
from shared.settings import Settings, SettingsError
from shared.sources import store as source_store
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow
from shared.suppression import recipient_hashes

_PIPE_WIDTH = 200


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for tables where there is none."""
    return SafeConsole() if sys.stdout.isatty() else SafeConsole(width=_PIPE_WIDTH)


def current_user() -> str:
    """Return the user at the keyboard, for lists of who did what."""
    try:
        return f"{getpass.getuser()} on the command line"
    except (OSError, KeyError, ImportError):
        return "the command line"


def audit(connection: Connection, action: str, about: str, **details: Any) -> None:
    """Record in the transaction of a change that the user at the keyboard made it. `details` contain no secrets."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "unknown"
    audit_log.record(connection, actor=f"command:{user}", action=action, object=about, details=details)


data_option = click.option(
    "--data",
    default=".tidings",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The data directory of `tidings up`. Ignored if TIDINGS_DATABASE_URL is set.",
)


@dataclass(frozen=True, kw_only=True)
class CommandContext:
    """What a command needs. Without a broker no wake-up is sent; the sweep finds the work within seconds."""

    engine: Engine
    secret_keys: Sequence[str]
    notifier: TaskNotifier | None
    settings: Settings

    @cached_property
    def vault(self) -> Vault:
        """Return the vault of this installation. Raises SecretsError if no key opens what is stored.

        A secret that was sealed by another key could be opened by no process.
        """
        vault = Vault(self.secret_keys)
        with self.engine.connect() as connection:
            recipient_hashes.require_key(connection, vault)
        return vault

    def notify(self, task: str = PROCESS_RECEIPTS) -> None:
        """Wake the workers for a task."""
        if self.notifier is not None:
            self.notifier.notify(task)


@contextmanager
def open_context(data: Path) -> Iterator[CommandContext]:
    """Yield the context. Raises SettingsError if no installation is found or its database is unreachable."""
    configuration = _configuration(data)
    made = engine.create_engine(configuration.database_url, application="command", pool_size=2)
    notifier = TaskNotifier(configuration.broker_url) if configuration.broker_url else None
    try:
        yield CommandContext(
            engine=made, secret_keys=configuration.secret_keys, notifier=notifier, settings=configuration
        )
    except OperationalError as error:
        raise SettingsError(engine.explain(error)) from None
    finally:
        made.dispose()
        if notifier is not None:
            notifier.close()


def _configuration(data: Path) -> Settings:
    """Return the settings of the shell, or those of the running `tidings up`. Raises SettingsError if they differ."""
    configuration = settings.read()
    if configuration.database_url:
        return configuration
    try:
        facts = json.loads((data / READY_FILE).read_text())
        running: dict[str, str] = facts.get("settings", {})
        keys = tuple((data / "secret_keys").read_text().split(",")) if not configuration.secret_keys else ()
    except FileNotFoundError:
        raise SettingsError(
            f"TIDINGS_DATABASE_URL is not set, and no `tidings up` is running with its data in {data}. "
            "Set it, run `tidings up`, or name its data directory with --data."
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"Cannot read {data / READY_FILE} of `tidings up`: {error}") from None
    differing = [name for name, value in running.items() if os.environ.get(name, "").strip() not in ("", value)]
    if differing:
        raise SettingsError(f"{differing[0]} differs from that of the running `tidings up`. Unset it, or restart that.")
    return replace(
        settings.read({**os.environ, **running}),
        database_url=facts["database_url"],
        broker_url=configuration.broker_url or facts["broker_url"],
        secret_keys=configuration.secret_keys or tuple(key.strip() for key in keys),
    )


def source_not_found(slug: str) -> NotFoundError:
    """Return the error for a source that does not exist."""
    return NotFoundError(f"There is no source called {slug!r}. `tidings sources list` shows all sources.")


def find_source(ctx: CommandContext, slug: str) -> SourceRow:
    """Return the stored source. Raises NotFoundError."""
    with ctx.engine.begin() as connection:
        row = source_store.find(connection, slug)
    if row is None:
        raise source_not_found(slug)
    return row


def load_source(ctx: CommandContext, slug: str) -> Source:
    """Return a source with decrypted credentials. Raises TidingsError."""
    return open_source(find_source(ctx, slug), ctx.vault)


def list_stored_sources(ctx: CommandContext) -> Sequence[SourceRow]:
    """Return all sources as they are stored."""
    with ctx.engine.begin() as connection:
        return source_store.listed(connection)


def list_usable_sources(ctx: CommandContext) -> Sequence[Source]:
    """Return the sources whose credentials can be decrypted."""
    usable = []
    for row in list_stored_sources(ctx):
        with suppress(TidingsError):
            usable.append(open_source(row, ctx.vault))
    return usable
