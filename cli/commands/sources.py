"""`tidings sources`: manage the provider accounts that post webhooks."""

import json
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from cli import context
from cli.commands import source_webhooks
from cli.context import CommandContext, find_source, list_stored_sources, source_not_found
from cli.formatting import echo, escape
from shared.errors import InvalidFieldError
from shared.messages import event_queries
from shared.postgres.pagination import Span
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import describe_credentials
from shared.sources import checks as source_checks
from shared.sources import service as source_service
from shared.sources import store as stored
from shared.sources.checks import Level
from shared.sources.store import SourceRow

_MARKS = {Level.OK: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.ERROR: "[red]✗[/]"}
_MAX_COUNTED = 100
_CREDENTIALS = "JSON, or @FILE to read it from a file, or - to read it from standard input."

_CREDENTIALS_BY_PROVIDER = "\b\nCredentials, `?` marking optional fields:\n" + "\n".join(
    textwrap.fill(line, width=78, subsequent_indent="      ")
    for line in describe_credentials(PROVIDERS.values()).splitlines()
)

_credentials_option = click.option("--credentials", required=True, help=_CREDENTIALS)
_setting_option = click.option("--setting", "settings", multiple=True, metavar="NAME=VALUE", help="Such as keys_url=…")


@click.group
def sources() -> None:
    """Create, show, check and change the sources of webhooks."""


@sources.command(epilog=_CREDENTIALS_BY_PROVIDER)
@click.argument("slug")
@click.option("--provider", type=click.Choice(list(PROVIDERS)), required=True)
@_credentials_option
@_setting_option
@context.data_option
def add(slug: str, provider: str, credentials: str, settings: tuple[str, ...], data: Path) -> None:
    """Create a source. SLUG is its name in the webhook's URL."""
    given = _read_credentials(credentials)
    pairs = [setting.partition("=") for setting in settings]
    for name, separator, _ in pairs:
        if not separator:
            raise InvalidFieldError("settings", name, f"--setting must be NAME=VALUE, not {name!r}")
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        row = source_service.create(
            connection,
            ctx.vault,
            slug=slug,
            provider=provider,
            credentials=given,
            settings={name: value for name, _, value in pairs},
        )
        context.audit(connection, "source.created", f"source:{slug}", provider=provider)
    echo(f"Created the source {slug}. {_instructions(row)}")


@sources.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_sources(as_json: bool, data: Path) -> None:
    """List the sources."""
    with context.open_context(data) as ctx:
        with ctx.engine.begin() as connection:
            rows = stored.listed(connection)
        found = [source_service.describe(row, ctx.vault) for row in rows]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    table = Table("source", "provider", "URL", "created", "changed", "problem")
    for facts in found:
        table.add_row(
            facts["slug"],
            facts["provider"],
            facts["webhook_url"],
            f"{facts['created_at']:%Y-%m-%d %H:%M}",
            f"{facts['updated_at']:%Y-%m-%d %H:%M}",
            f"[red]{escape(facts['problem'])}[/]" if facts["problem"] else "",
        )
    context.console().print(table if found else "There are no sources yet. Create one with `tidings sources add`.")


@sources.command
@click.argument("slug")
@context.data_option
def show(slug: str, data: Path) -> None:
    """Show a source as JSON, with its secrets masked."""
    with context.open_context(data) as ctx:
        facts = source_service.describe(find_source(ctx, slug), ctx.vault)
    click.echo(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())


@sources.command
@click.argument("slug")
@click.option("--credentials", help=f"The new secrets or keys. {_CREDENTIALS}")
@click.option(
    "--drop", multiple=True, metavar="FIELD", help="A secret or key to remove, such as signing_secrets.old or previous."
)
@context.data_option
def rotate(slug: str, credentials: str | None, drop: tuple[str, ...], data: Path) -> None:
    """Add new secrets or keys to a source, or remove old ones.

    Add the new secret here, set it at the provider, then remove the old one here. Meanwhile both are valid, so that
    no request is refused.
    """
    if not (credentials or drop):
        raise click.UsageError("Give the new secrets with --credentials, or the ones to remove with --drop.")
    given = _read_credentials(credentials) if credentials else {}
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        if source_service.rotate(connection, ctx.vault, slug, given, drop) is None:
            raise source_not_found(slug)
        context.audit(connection, "source.changed", f"source:{slug}", credentials="changed")
    echo(f"Changed the credentials of {slug}. Receivers use them within two seconds.")


@sources.command
@click.argument("slug", required=False)
@context.data_option
def check(slug: str | None, data: Path) -> None:
    """Check a source, or all, and show how to set up the provider.

    Fetches the provider's public keys if it publishes them. Exits with 1 if something is wrong.
    """
    console, good = context.console(), True
    with context.open_context(data) as ctx:
        rows = [find_source(ctx, slug)] if slug else list_stored_sources(ctx)
        for row in rows:
            console.print(f"[bold]{row.slug}[/] ({row.provider})")
            for finding in source_checks.check(row, ctx.vault, datetime.now(UTC)):
                console.print(f"  {_MARKS[finding.level]} {escape(finding.sentence)}", highlight=False)
                good = good and finding.level is not Level.ERROR
            _print_set_aside(ctx, console, row.slug)
            console.print(f"  → {escape(_instructions(row))}", highlight=False)
    if not rows:
        console.print("There are no sources yet. Create one with `tidings sources add`.")
    if not good:
        click.get_current_context().exit(1)


@sources.command
@click.argument("slug")
@click.option("--hours", type=click.FloatRange(0, 24 * 30, min_open=True), default=24, show_default=True)
@click.option("--off", is_flag=True, help="End the quarantine: refuse such requests again.")
@context.data_option
def quarantine(slug: str, hours: float, off: bool, data: Path) -> None:
    """Quarantine requests that fail verification for some time, instead of refusing them.

    For example after a secret was rotated too early: once the right one is set with `rotate`, the quarantined requests
    are verified again and processed.
    """
    until = None if off else datetime.now(UTC) + timedelta(hours=hours)
    change = {"quarantine_until": until and until.isoformat()}
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        if source_service.change(connection, ctx.vault, slug, settings=change) is None:
            raise source_not_found(slug)
        context.audit(connection, "source.changed", f"source:{slug}", settings=change)
    click.echo(
        f"Until {until:%Y-%m-%d %H:%M} UTC {slug} quarantines requests that fail verification."
        if until
        else f"{slug} refuses requests that fail verification."
    )


@sources.command
@click.argument("slug")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@context.data_option
def remove(slug: str, yes: bool, data: Path) -> None:
    """Delete a source. What it received stays; its slug cannot be used again."""
    if not yes:
        click.confirm(f"Delete {slug}, and refuse all further requests of its provider?", abort=True)
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        if not stored.delete(connection, slug):
            raise source_not_found(slug)
        context.audit(connection, "source.removed", f"source:{slug}")
    echo(f"Deleted the source {slug}.")


for _command in source_webhooks.COMMANDS:
    sources.add_command(_command)


def _print_set_aside(ctx: CommandContext, console: Console, slug: str) -> None:
    """Print how many of the source's events were set aside in the last day, and why the last one was."""
    since = Span(since=datetime.now(UTC) - timedelta(days=1))
    with ctx.engine.begin() as connection:
        found = event_queries.list_events(connection, source=slug, set_aside=True, span=since, limit=_MAX_COUNTED).items
    if found:
        count = f"{len(found)} or more" if len(found) == _MAX_COUNTED else str(len(found))
        sentence = f"authentic events that changed nothing in the last 24 hours: {count}; the last one: "
        console.print(f"  {_MARKS[Level.WARNING]} {escape(sentence + (found[0].problem or ''))}", highlight=False)
        console.print(f"    Mend the cause, then: tidings reprocess --source {slug}", highlight=False)


def _instructions(row: SourceRow) -> str:
    path = f"/webhooks/{row.slug}"
    how = PROVIDERS[row.provider].SETUP.format(path=path, slug=row.slug) if row.provider in PROVIDERS else ""
    return f"Its webhook is https://<your host>{path}. {how}".strip()


def _read_credentials(text: str) -> dict[str, Any]:
    """Return the credentials that the option names: JSON, a file, or standard input."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text()
        value = json.loads(text)
    except OSError as error:
        raise InvalidFieldError("credentials", None, f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidFieldError("credentials", None, f"--credentials is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidFieldError("credentials", None, "--credentials must be a JSON object")
    return value
