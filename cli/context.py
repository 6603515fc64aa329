"""What commands work with: the database, the vault and the notifier of the Tidings that is meant.

It is the one that the settings name. Where they name none it is the one that `tidings up` runs with its data in
`--data`: its ready file, kept there as `ready.json`, says where its servers are.
"""

import getpass
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from cli.supervisor.data_dir import READY_FILE
from shared import settings
from shared.auth import audit as audit_log
from shared.broker import PROCESS_RECEIPTS, TaskNotifier
from shared.encryption import Vault
from shared.postgres import engine
from shared.settings import Settings, SettingsError

_WIDE = 200


def console() -> Console:
    """Where tables are printed: as wide as the screen, and wide where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def person() -> str:
    """Who is at the keyboard, as far as the machine knows: for lists of who did what."""
    try:
        return f"{getpass.getuser()} on the command line"
    except (OSError, KeyError, ImportError):
        return "the command line"


def audit(connection: Connection, action: str, about: str, **details: Any) -> None:
    """Note in the transaction of a change that whoever is at the keyboard made it. `details` hold no secrets."""
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
    help="Where `tidings up` keeps its data; only looked at if TIDINGS_DATABASE_URL is not set.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What a command needs. Without a broker no worker is woken: the sweep finds the work within seconds."""

    engine: Engine
    secret_keys: Sequence[str]
    notifier: TaskNotifier | None
    settings: Settings

    @property
    def vault(self) -> Vault:
        """What opens credentials. Raises SecretsError where no keys are known."""
        return Vault(self.secret_keys)

    def notify(self, task: str = PROCESS_RECEIPTS) -> None:
        """Tell the workers that there is something to do."""
        if self.notifier is not None:
            self.notifier.notify(task)


@contextmanager
def opened(data: Path) -> Iterator[Workbench]:
    """The workbench, until it is left. Raises SettingsError where no Tidings is found or its database is away."""
    configuration = _configuration(data)
    made = engine.create(configuration.database_url, application="command", pool_size=2)
    notifier = TaskNotifier(configuration.broker_url) if configuration.broker_url else None
    try:
        yield Workbench(engine=made, secret_keys=configuration.secret_keys, notifier=notifier, settings=configuration)
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        raise SettingsError(f"The database cannot be reached, or did not answer: {reason}") from None
    finally:
        made.dispose()
        if notifier is not None:
            notifier.close()


def _configuration(data: Path) -> Settings:
    configuration = settings.read()
    if configuration.database_url:
        return configuration
    try:
        facts = json.loads((data / READY_FILE).read_text())
        keys = tuple((data / "secret_keys").read_text().split(",")) if not configuration.secret_keys else ()
    except FileNotFoundError:
        raise SettingsError(
            f"TIDINGS_DATABASE_URL is not set, and no `tidings up` is running with its data in {data}: set it, "
            "start one, or say with --data where the one that runs has its data."
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"What `tidings up` left in {data} cannot be read: {error}") from None
    return replace(
        configuration,
        database_url=facts["database_url"],
        broker_url=configuration.broker_url or facts["broker_url"],
        secret_keys=configuration.secret_keys or tuple(key.strip() for key in keys),
    )
