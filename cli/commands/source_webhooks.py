"""`tidings sources enrol|webhooks|unenrol|validate`: manage the webhooks that are registered at the provider."""

from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from cli import context
from cli.context import find_source, load_source
from cli.formatting import echo, escape, print_line
from shared.reconciliation import webhook_registration
from shared.sources import provider_api

_MARKS = {True: "[green]✓[/]", False: "[red]✗[/]"}


@click.command
@click.argument("slug")
@click.option("--url", help="The public URL of the receiver's /webhooks/SLUG; stored as the source's webhook_url.")
@context.data_option
def enrol(slug: str, url: str | None, data: Path) -> None:
    """Register our webhook at the provider.

    The URL is --url, or else the source's setting webhook_url.
    """
    with context.open_context(data) as ctx:
        row = find_source(ctx, slug)
        source, _, is_new = webhook_registration.enrol(ctx.engine, ctx.vault, row, url, context.audit)
    wanted = source.settings.webhook_url
    echo(f"Registered {wanted}." if is_new else f"{wanted} is already registered.")


@click.command
@click.argument("slug")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def webhooks(slug: str, as_json: bool, data: Path) -> None:
    """List the webhooks registered at the provider. Exits with 1 if none of them leads here."""
    with context.open_context(data) as ctx:
        source = load_source(ctx, slug)
        found = webhook_registration.list_webhooks(ctx.engine, source, provider_api.open_client(source))
    shown = [
        {"id": one.id, "url": one.url, "enabled": one.enabled, "ours": webhook_registration.is_own(source, one)}
        for one in found
    ]
    if as_json:
        click.echo(msgspec.json.encode(shown).decode())
    else:
        console = context.console()
        for webhook in shown:
            state = "enabled" if webhook["enabled"] else "[red]disabled[/]"
            name = f"  {escape(str(webhook['id']))}" if webhook["id"] != webhook["url"] else ""
            console.print(f"{state}{'  [green]ours[/]' if webhook['ours'] else ''}{name}", highlight=False)
            print_line(console, "    ", str(webhook["url"]))
        if not shown:
            console.print("No webhook is registered at the provider.")
    if not any(one.enabled for one in webhook_registration.own(source, found)):
        echo(f"None of them leads here: tidings sources enrol {slug}", err=True)
        click.get_current_context().exit(1)


@click.command
@click.argument("slug")
@click.option("--url", help="Remove this webhook instead of ours.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@context.data_option
def unenrol(slug: str, url: str | None, yes: bool, data: Path) -> None:
    """Remove our webhook at the provider.

    MailChannels can only remove all webhooks of the account at once. The others are registered again at once, but
    events in between are not posted to them.
    """
    with context.open_context(data) as ctx:
        source = load_source(ctx, slug)
        client = provider_api.open_client(source)
        found = client.webhooks()
        chosen = webhook_registration.choose(source, found, url)
        if not yes:
            question = f"Remove {', '.join(one.url for one in chosen)} at {source.provider.name}?"
            kept = ", ".join(one.url for one in found if one not in chosen)
            if kept and source.provider.removes_all_webhooks:
                question += f" The provider removes all webhooks at once; these are registered again: {kept}."
            click.confirm(question, abort=True)
        webhook_registration.remove(ctx.engine, source, chosen, client, context.audit)
    echo(f"The provider no longer posts to {', '.join(one.url for one in chosen)}.")


@click.command
@click.argument("slug")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def validate(slug: str, yes: bool, as_json: bool, data: Path) -> None:
    """Make the provider post a test to us. Exits with 1 if it does not arrive."""
    with context.open_context(data) as ctx:
        source = load_source(ctx, slug)
        client = provider_api.open_client(source)
        ours = webhook_registration.choose_testable(ctx.engine, source, client)
        if source.provider.tests_look_real and not yes:
            click.confirm(
                "The test looks like a real event and creates a message that was never sent. Continue?", abort=True
            )
        results = webhook_registration.validate(ctx.engine, source, client, ours, context.audit)
    console = context.console()
    if as_json:
        click.echo(msgspec.json.encode([asdict(result) for result in results]).decode())
    for result in () if as_json else results:
        print_line(console, f"{_MARKS[result.passed]} ", f"{result.url}: {result.detail}")
    if not results or not all(result.passed for result in results):
        click.get_current_context().exit(1)


COMMANDS = (enrol, webhooks, unenrol, validate)
