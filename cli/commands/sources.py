"""`tidings sources`: manage the provider accounts that post webhooks."""

import textwrap
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from cli import context
from cli.commands import source_mapping, source_webhooks
from cli.context import CommandContext, find_source, list_stored_sources, source_not_found
from cli.formatting import echo, escape, print_line
from cli.options import WholeHelpGroup, read_text
from shared import json_text
from shared.broker import VERIFY
from shared.errors import InvalidFieldError
from shared.messages import event_queries
from shared.postgres.pagination import Span
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import describe_credentials
from shared.receipts import quarantine as quarantined
from shared.receipts import queries as receipt_queries
from shared.reconciliation import store as reconciliations
from shared.sources import checks as source_checks
from shared.sources import queues
from shared.sources import service as source_service
from shared.sources import store as stored
from shared.sources.checks import Level
from shared.sources.store import SourceRow
from shared.suppression import provider_sync

_MARKS = {Level.OK: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.ERROR: "[red]✗[/]"}
_MAX_COUNTED = 100
_CREDENTIALS = "JSON, or @FILE to read it from a file, or - to read it from standard input."

_CREDENTIALS_BY_PROVIDER = "\b\nCredentials, `?` marking optional fields:\n" + "\n".join(
    textwrap.fill(line, width=78, subsequent_indent="      ")
    for line in describe_credentials(PROVIDERS.values()).splitlines()
)

_credentials_option = click.option("--credentials", required=True, help=_CREDENTIALS)
_setting_option = click.option(
    "--setting", "settings", multiple=True, metavar="NAME=VALUE", help="Such as keys_url=…, or generic=@FILE."
)


@click.group(cls=WholeHelpGroup)
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
    try:
        given = _read_credentials(credentials)
    except InvalidFieldError as error:
        raise with_fields(error, provider) from None
    pairs = [setting.partition("=") for setting in settings]
    for name, separator, _ in pairs:
        if not separator:
            raise InvalidFieldError("settings", name, f"--setting must be NAME=VALUE, not {name!r}")
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        try:
            row = source_service.create(
                connection,
                ctx.vault,
                slug=slug,
                provider=provider,
                credentials=given,
                settings={name: source_mapping.read_setting(name, value) for name, _, value in pairs},
            )
        except InvalidFieldError as error:
            raise with_fields(error, provider) from None
        context.audit(connection, "source.created", f"source:{slug}", provider=provider)
        instructions = instruct(ctx, row)
    echo(f"Created the source {slug}. {instructions}")


@sources.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_sources(as_json: bool, data: Path) -> None:
    """List the sources."""
    with context.open_context(data) as ctx:
        with ctx.engine.begin() as connection:
            rows = stored.list_sources(connection)
        found = [
            {**source_service.describe(row, ctx.vault), "url_here": ctx.webhook_url(row), **watch(ctx, row)}
            for row in rows
        ]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    console = context.console()
    for facts in found:
        console.print(f"[bold]{facts['slug']}[/]  {facts['provider']}", highlight=False)
        print_line(console, "    ", facts["url_here"])
        for sentence in describe_watched(facts):
            print_line(console, "    ", sentence)
        if facts["problem"]:
            print_line(console, "    [red]✗[/] ", facts["problem"])
    if not found:
        console.print("There are no sources yet. Create one with `tidings sources add`.")


@sources.command
@click.argument("slug")
@context.data_option
def show(slug: str, data: Path) -> None:
    """Show a source as JSON, with its secrets masked."""
    with context.open_context(data) as ctx:
        row = find_source(ctx, slug)
        with ctx.engine.begin() as connection:
            facts = source_service.describe(row, ctx.vault, queues.read(connection).get(row.id))
    click.echo(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())


@sources.command
@click.argument("slug")
@click.option("--credentials", help=f"The new secrets or keys. {_CREDENTIALS}")
@click.option(
    "--drop",
    multiple=True,
    metavar="FIELD",
    help="A secret or key to remove, such as signing_secrets.KEY_ID, secrets.old or previous.",
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
        row = source_service.rotate(connection, ctx.vault, slug, given, drop)
        if row is None:
            raise source_not_found(connection, slug)
        quarantined.make_due(connection, row.id)
        context.audit(connection, "source.changed", f"source:{slug}", credentials="changed")
        ctx.notify(VERIFY)
    echo(f"Changed the credentials of {slug}. Receivers use them within two seconds.")


@sources.command
@click.argument("slug", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def check(slug: str | None, as_json: bool, data: Path) -> None:
    """Check a source, or all, and show how to set up the provider.

    Fetches the provider's public keys if it publishes them. Exits with 1 if something is wrong.
    """
    console, good = context.console(), True
    checked: list[dict[str, Any]] = []
    with context.open_context(data) as ctx:
        rows = [find_source(ctx, slug)] if slug else list_stored_sources(ctx)
        for row in rows:
            findings = source_checks.check(row, ctx.vault, datetime.now(UTC))
            good = good and all(finding.level is not Level.ERROR for finding in findings)
            watched = watch(ctx, row)
            instructions = instruct(ctx, row, enrolled=watched["enrolled"] is True)
            if as_json:
                one = {**watched, "provider": row.provider, "url_here": ctx.webhook_url(row)}
                checked.append({**one, "findings": [asdict(finding) for finding in findings], "set_up": instructions})
                continue
            console.print(f"[bold]{row.slug}[/] ({row.provider})")
            for finding in findings:
                print_line(console, f"  {_MARKS[finding.level]} ", finding.sentence)
            for sentence in describe_watched(watched):
                print_line(console, "  · ", sentence)
            if watched["set_aside"]:
                text = f"the last event that was set aside: {watched['last_problem']}. Correct the cause, then process"
                print_line(console, f"  {_MARKS[Level.WARNING]} ", f"{text} them again:")
                command = context.complete_command(f"tidings reprocess --source {row.slug} --state all")
                console.print(f"      {escape(command)}", highlight=False, soft_wrap=True)
            print_line(console, "  → ", instructions)
    if as_json:
        click.echo(msgspec.json.encode(checked).decode())
    elif not rows:
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
            raise source_not_found(connection, slug)
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
            raise source_not_found(connection, slug)
        context.audit(connection, "source.removed", f"source:{slug}")
    echo(f"Deleted the source {slug}.")


for _command in (*source_webhooks.COMMANDS, source_mapping.try_mapping):
    sources.add_command(_command)


def with_fields(error: InvalidFieldError, provider: str) -> InvalidFieldError:
    """Return an error about credentials with the fields that this provider's have; any other as it is."""
    if not error.field.startswith("credentials"):
        return error
    fields = describe_credentials([PROVIDERS[provider]])
    return InvalidFieldError(error.field, error.value, f"{error}\nCredentials, `?` marking optional fields:\n{fields}")


def watch(ctx: CommandContext, row: SourceRow) -> dict[str, Any]:
    """Return when a source had its last event and refusal, what was set aside in a day, and its registration.

    `enrolled` and `validated` are None where the provider cannot be asked or was not.
    """
    day = Span(since=datetime.now(UTC) - timedelta(days=1))
    with ctx.engine.begin() as connection:
        queue = queues.read(connection).get(row.id)
        events = event_queries.list_events(connection, source=row.slug, limit=1).items
        refusals = receipt_queries.list_refusals(connection, source=row.slug, limit=1).items
        set_aside = event_queries.list_events(
            connection, source=row.slug, set_aside=True, span=day, limit=_MAX_COUNTED
        ).items
        known = reconciliations.get(connection, row.id)
        pulls = provider_sync.describe_pulls(connection, row.slug)
    return {
        "slug": row.slug,
        "last_event_at": events[0].received_at if events else None,
        "last_refusal_at": refusals[0].refused_at if refusals else None,
        "last_refusal": f"{refusals[0].reason}: {refusals[0].detail}" if refusals else None,
        "set_aside": len(set_aside),
        "last_problem": (set_aside[0].problem or "no reason was stored").rstrip(".") if set_aside else None,
        "enrolled": known.enrolled if known else None,
        "checked_at": known.checked_at if known else None,
        "validated": known.validated if known else None,
        "suppression_list": pulls,
        "queue": queue,
    }


def describe_watched(facts: dict[str, Any]) -> list[str]:
    """Return in sentences what `watch` found."""
    last = f"{facts['last_event_at']:%Y-%m-%d %H:%M} UTC" if facts["last_event_at"] else "never"
    refused = "never"
    if facts["last_refusal_at"]:
        refused = f"{facts['last_refusal_at']:%Y-%m-%d %H:%M} UTC ({facts['last_refusal']})"
    count = f"{facts['set_aside']}{' or more' if facts['set_aside'] == _MAX_COUNTED else ''}"
    lines = [f"last event: {last}", f"last refusal: {refused}"]
    if facts["set_aside"]:
        lines.append(f"authentic events that changed nothing in the last 24 hours: {count}")
    if facts["enrolled"] is not None:
        said = "registered" if facts["enrolled"] else "not registered"
        lines.append(f"{said} at the provider ({facts['checked_at']:%Y-%m-%d %H:%M} UTC)")
    if (queue := facts["queue"]) is not None:
        polled = f"{queue['polled_at']:%Y-%m-%d %H:%M} UTC" if queue["polled_at"] else "never"
        counts = f"{queue['stored']} messages stored, {queue['refused']} refused"
        lines.append(f"queue polled last: {polled}; {counts}")
        if queue["failures"]:
            lines.append(f"the queue could not be polled {queue['failures']} times in a row: {queue['error']}")
    if facts["suppression_list"] is not None:
        lines.extend(_describe_pulls(facts["suppression_list"], facts["slug"]))
    return lines


def _describe_pulls(pulls: dict[str, Any], slug: str) -> list[str]:
    """Return in sentences how the suppression lists differed when the provider's was last pulled."""
    lines = []
    if pulls["pulled_at"] is not None:
        counts = pulls["difference"]
        found = f"{counts['there']} addresses at the provider, of which {counts['added']} were new here"
        lines.append(f"suppression list pulled {pulls['pulled_at']:%Y-%m-%d %H:%M} UTC: {found}")
        differences = [
            f"{counts.get(name, 0)} {what}"
            for name, what in (
                ("only_here", "only here"),
                ("differing", "for different mail"),
                ("removed_there", "removed there since"),
                ("unreadable", "at the provider that are not addresses, or are for one sender only"),
            )
            if counts.get(name)
        ]
        if differences:
            shown = f"tidings suppressions push --source {slug} --dry-run"
            lines.append(f"entries on one list only: {', '.join(differences)}. They are shown by `{shown}`")
    if pulls["error"] is not None:
        times = f", {pulls['failures']} times in a row" if pulls["failures"] > 1 else ""
        lines.append(f"suppression list could not be pulled{times}: {pulls['error'].rstrip('.')}")
        if pulls["next_at"]:
            at = f"{pulls['next_at']:%Y-%m-%d %H:%M} UTC"
            lines.append(f"it is pulled again at {at}, or at once when the source is changed")
    return lines


def instruct(ctx: CommandContext, row: SourceRow, *, enrolled: bool = False) -> str:
    """Return the URL of a source's webhook, and where to enter it at the provider unless it is registered there."""
    path = f"/webhooks/{row.slug}"
    how = PROVIDERS[row.provider].setup.format(path=path, slug=row.slug) if row.provider in PROVIDERS else ""
    if enrolled:
        how = ""
    if row.settings.get("queue"):
        return f"Its events are taken from the queue {row.settings['queue'].get('url')} (docs/provider-guides.md)."
    if row.settings.get("webhook_url"):
        return f"Its webhook is {ctx.webhook_url(row)}. {how}".strip()
    here = f"Its webhook is {ctx.webhook_url(row)} on this machine, and https://<your host>{path} for the provider."
    return f"{here} {how}".strip()


def _read_credentials(text: str) -> dict[str, Any]:
    """Return the credentials that the option names: JSON, a file, or standard input."""
    try:
        if text == "-" or text.startswith("@"):
            text = read_text(text.removeprefix("@"))
    except ValueError as error:
        raise InvalidFieldError("credentials", None, f"{text.removeprefix('@')} cannot be read: {error}") from None
    try:
        value = json_text.read_of_person(text)
    except ValueError as error:
        raise InvalidFieldError("credentials", None, f"--credentials {error}") from None
    if not isinstance(value, dict):
        raise InvalidFieldError("credentials", None, "--credentials must be a JSON object")
    return value
