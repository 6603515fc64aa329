"""What commands work with: the database, the secrets and the broker of one Tidings installation.

The settings name it. If they do not, it is the one that `tidings up` runs with its data in `--data`: the file
`ready.json` there contains its URLs.
"""

import getpass
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import click
from rich.console import Console
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import OperationalError

from cli.formatting import SafeConsole
from cli.supervisor.data_dir import READY_FILE
from shared import settings
from shared.auth import audit as audit_log
from shared.broker import PROCESS_RECEIPTS, TaskNotifier
from shared.encryption import Vault
from shared.errors import InvalidFieldError, NotFoundError, TidingsError
from shared.messages.tables import messages
from shared.postgres import engine
from shared.postgres.metadata import find_by_prefix
from shared.settings import Settings, SettingsError
from shared.sources import service
from shared.sources import store as source_store
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow
from shared.subscriptions.tables import subscriptions
from shared.suppression import recipient_hashes

_PIPE_WIDTH = 200


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal or as COLUMNS says, or wide enough for tables where there is neither."""
    is_known = (sys.stderr if stderr else sys.stdout).isatty() or os.environ.get("COLUMNS", "").isdigit()
    return SafeConsole(stderr=stderr) if is_known else SafeConsole(stderr=stderr, width=_PIPE_WIDTH)


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


def complete_command(text: str) -> str:
    """Return a command, alone or behind a colon, so that it runs as printed here; other texts unchanged.

    `tidings up` starts its roles itself, has its URLs in a file, and is found by `--data` unless that is the default.
    """
    data = click.get_current_context().params.get("data")
    if data is None or os.environ.get("TIDINGS_DATABASE_URL"):
        return text
    quoted = shlex.quote(str(data))
    _, is_role, role = text.partition("tidings run ")
    if is_role:
        return f"tail {quoted}/logs/{role}*.log"  # with several workers, each has a log
    for name in ("DATABASE_URL", "BROKER_URL"):
        text = text.replace(f'"$TIDINGS_{name}"', f'"$(jq -r .{name.lower()} {quoted}/{READY_FILE})"')
    is_command = text.startswith("tidings ") or ": tidings " in text
    return f"{text} --data {quoted}" if is_command and data != Path(".tidings") else text


@dataclass(frozen=True, kw_only=True)
class CommandContext:
    """What a command needs. Without a broker no wake-up is sent; the sweep finds the work within seconds."""

    engine: Engine
    secret_keys: Sequence[str]
    notifier: TaskNotifier | None
    settings: Settings
    receiver_url: str = ""
    """The URL of the receiver of a running `tidings up`; empty if the settings name the installation."""

    def webhook_url(self, row: SourceRow) -> str:
        """Return the URL of a source's webhook: the public one if it is set, or else the one on this machine."""
        public = row.settings.get("webhook_url")
        base = self.receiver_url or f"http://{self.settings.host}:{self.settings.receiver_port}"
        return str(public or f"{base}/webhooks/{row.slug}")

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
    configuration, receiver_url = read_configuration(data)
    made = engine.create_engine(configuration.database_url, application="command", pool_size=2)
    notifier = TaskNotifier(configuration.broker_url) if configuration.broker_url else None
    try:
        yield CommandContext(
            engine=made,
            secret_keys=configuration.secret_keys,
            notifier=notifier,
            settings=configuration,
            receiver_url=receiver_url,
        )
    except OperationalError as error:
        raise SettingsError(engine.explain(error)) from None
    finally:
        made.dispose()
        if notifier is not None:
            notifier.close()


def read_configuration(data: Path) -> tuple[Settings, str]:
    """Return the settings of the shell, or those of the running `tidings up` with the URL of its receiver.

    Raises SettingsError if they differ.
    """
    configuration = settings.read()
    if configuration.database_url:
        return configuration, ""
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
    ports = {f"{name}_port": urlsplit(facts.get(f"{name}_url", "")).port for name in ("receiver", "api")}
    whole = replace(
        settings.read({**os.environ, **running}),
        **{name: port for name, port in ports.items() if port},
        admin_key=configuration.admin_key or facts.get("admin_key", ""),
        database_url=facts["database_url"],
        broker_url=configuration.broker_url or facts["broker_url"],
        secret_keys=configuration.secret_keys or tuple(key.strip() for key in keys),
    )
    return whole, str(facts.get("receiver_url", ""))


def find_id(ctx: CommandContext, table: Table, given: str, *, noun: str, listing: str, by_name: bool = False) -> UUID:
    """Return the id of the row that a person named: by its id, by a unique beginning of it, or by its name.

    Raises NotFoundError, or InvalidFieldError if several are meant.
    """
    names = table.c["name"] if by_name else None
    with ctx.engine.begin() as connection:
        found = find_by_prefix(connection, table.c["id"], given, name=names)
    if not found:
        how = "an id, the first digits of one, or a name" if by_name else "an id or its first digits (at least four)"
        raise NotFoundError(f"There is no {noun} {given!r}; give {how}. `{listing}` lists them.")
    if len(found) > 1:
        raise _ambiguous(noun, given, found)
    return found[0]


def _ambiguous(noun: str, given: str, found: Sequence[UUID]) -> InvalidFieldError:
    shown = ", ".join(map(str, found))
    message = f"{given!r} is not one {noun} but several, such as {shown}. Give more of the id."
    return InvalidFieldError(noun, given, message)


def expand_message_id(ctx: CommandContext, given: str | None) -> str | None:
    """Return the id of the message that a unique beginning of it names; anything else as it was given.

    Raises InvalidFieldError if several are meant.
    """
    if given is None:
        return None
    with ctx.engine.begin() as connection:
        found = find_by_prefix(connection, messages.c.id, given)
    if len(found) > 1:
        raise _ambiguous("message", given, found)
    return str(found[0]) if found else given


def find_message(ctx: CommandContext, given: str) -> UUID:
    """Return our id of a message that a person named by it or by its beginning."""
    return find_id(ctx, messages, given, noun="message", listing="tidings messages")


def find_subscription(ctx: CommandContext, given: str) -> UUID:
    """Return the id of a subscription that a person named."""
    listing = "tidings subscriptions list"
    return find_id(ctx, subscriptions, given, noun="subscription", listing=listing, by_name=True)


def source_not_found(connection: Connection, slug: str) -> NotFoundError:
    """Return the error for a source that does not exist. It names the nearest that does."""
    return NotFoundError(f"{service.name_missing(connection, slug)} `tidings sources list` shows all sources.")


def require_sources(connection: Connection, slugs: Sequence[str]) -> None:
    """Raise NotFoundError for a filter that names no source: misspelled, it would find nothing.

    Deleted sources count, because what they received is still listed.
    """
    if missing := service.find_missing(connection, slugs):
        raise source_not_found(connection, missing)


def find_source(ctx: CommandContext, slug: str) -> SourceRow:
    """Return the stored source. Raises NotFoundError."""
    with ctx.engine.begin() as connection:
        row = source_store.find(connection, slug)
        if row is None:
            raise source_not_found(connection, slug)
    return row


def load_source(ctx: CommandContext, slug: str) -> Source:
    """Return a source with decrypted credentials. Raises TidingsError."""
    return open_source(find_source(ctx, slug), ctx.vault)


def list_stored_sources(ctx: CommandContext) -> Sequence[SourceRow]:
    """Return all sources as they are stored."""
    with ctx.engine.begin() as connection:
        return source_store.list_sources(connection)


def list_usable_sources(ctx: CommandContext) -> Sequence[Source]:
    """Return the sources whose credentials can be decrypted."""
    usable = []
    for row in list_stored_sources(ctx):
        with suppress(TidingsError):
            usable.append(open_source(row, ctx.vault))
    return usable
