"""`tidings sources enrol|webhooks|unenrol|validate`: manage the webhooks that are registered at the provider."""

from pathlib import Path

import click
from rich.table import Table

from cli import context
from cli.context import load_source
from cli.formatting import echo, escape
from shared.errors import TidingsError
from shared.reconciliation import webhook_registration
from shared.sources import provider_api
from shared.sources import service as source_service

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
        if url:
            with ctx.engine.begin() as connection:
                source_service.change(connection, ctx.vault, slug, settings={"webhook_url": url})
                context.audit(connection, "source.changed", f"source:{slug}", settings={"webhook_url": url})
        source = load_source(ctx, slug)
        wanted = source.settings.webhook_url
        if wanted is None:
            raise TidingsError(
                f"The public URL of {slug} is unknown. Give it with --url https://<your host>/webhooks/{slug}."
            )
        client = provider_api.open_client(source)
        is_new = client.enrol(wanted)
        with ctx.engine.begin() as connection:
            if source.provider.NAME == "ark" and source.credentials.tenant_id:
                # The webhook of an Ark tenant never names the tenant.
                source_service.change(connection, ctx.vault, slug, settings={"events_without_tenant": "accept"})
            context.audit(connection, "source.enrolled", f"source:{slug}", url=wanted, new=is_new)
        webhook_registration.list_webhooks(ctx.engine, source, client)
    echo(f"Registered {wanted}." if is_new else f"{wanted} is already registered.")


@click.command
@click.argument("slug")
@context.data_option
def webhooks(slug: str, data: Path) -> None:
    """List the webhooks registered at the provider. Exits with 1 if none of them leads here."""
    with context.open_context(data) as ctx:
        source = load_source(ctx, slug)
        found = webhook_registration.list_webhooks(ctx.engine, source, provider_api.open_client(source))
    table = Table("webhook", "URL", "enabled", "ours")
    for one in found:
        is_own = webhook_registration.is_own(source, one)
        name = one.id if one.id != one.url else ""
        table.add_row(escape(name), escape(one.url), "yes" if one.enabled else "no", "[green]yes[/]" if is_own else "")
    context.console().print(table if found else "No webhook is registered at the provider.")
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
        going = [one for one in found if one.url == url] if url else webhook_registration.own(source, found)
        if not going:
            raise TidingsError(f"The provider does not post to {url or slug}.")
        if not yes:
            question = f"Remove {', '.join(one.url for one in going)} at {source.provider.NAME}?"
            staying = [one.url for one in found if one not in going]
            if staying and source.provider.NAME == "mailchannels":
                question += (
                    " MailChannels removes all webhooks at once; these are registered again: "
                    + ", ".join(staying)
                    + "."
                )
            click.confirm(question, abort=True)
        client.remove(going)
        with ctx.engine.begin() as connection:
            context.audit(connection, "source.unenrolled", f"source:{slug}", urls=[one.url for one in going])
        webhook_registration.list_webhooks(ctx.engine, source, client)
    echo(f"The provider no longer posts to {', '.join(one.url for one in going)}.")


@click.command
@click.argument("slug")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@context.data_option
def validate(slug: str, yes: bool, data: Path) -> None:
    """Make the provider post a test to us. Exits with 1 if it does not arrive."""
    with context.open_context(data) as ctx:
        source = load_source(ctx, slug)
        client = provider_api.open_client(source)
        ours = webhook_registration.own(source, webhook_registration.list_webhooks(ctx.engine, source, client))
        if not ours:
            raise TidingsError(f"The provider does not post to {slug}: tidings sources enrol {slug}")
        if not (client.TEST_IS_HARMLESS or yes):
            click.confirm(
                "The test looks like a real event and creates a message that was never sent. Continue?", abort=True
            )
        results = webhook_registration.validate(ctx.engine, source, client, ours)
    console = context.console()
    for result in results:
        console.print(f"{_MARKS[result.passed]} {escape(result.url)}: {escape(result.detail)}", highlight=False)
    if not results or not all(result.passed for result in results):
        click.get_current_context().exit(1)


COMMANDS = (enrol, webhooks, unenrol, validate)
