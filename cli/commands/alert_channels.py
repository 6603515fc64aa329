"""`tidings alerts channels`: where notifications of alerts are sent."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from cli import context
from cli.formatting import echo, print_line
from cli.options import WholeHelpGroup, read_text
from shared.errors import InvalidFieldError
from shared.notifications import channels as service
from shared.notifications import store
from shared.notifications.channels import Kind
from shared.vocabulary import Severity


@click.group(cls=WholeHelpGroup)
def channels() -> None:
    """Manage notification channels: signed webhooks, and all services of apprise.

    A channel is notified of alerts that fire after it was created.
    """


@channels.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_channels(as_json: bool, data: Path) -> None:
    """List the channels, and whether they work."""
    with context.open_context(data) as ctx:
        with ctx.engine.begin() as connection:
            rows = store.list_channels(connection)
        found = [service.describe(row, ctx.vault) for row in rows]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    if not found:
        click.echo("There are no channels, so nobody is notified. Create one with `tidings alerts channels add`.")
        return
    console = context.console()
    for channel in found:
        error = channel["problem"]
        if error is None and channel["failing_since"] is not None:
            error = f"failing since {channel['failing_since']:%Y-%m-%d %H:%M}: {channel['last_error']}"
        limits = [f"{name} {', '.join(channel[name])}" for name in ("sources", "tenants", "rules") if channel[name]]
        notified = f"{channel['told_at']:%Y-%m-%d %H:%M}" if channel["told_at"] else "never"
        console.print(f"[bold]{channel['name']}[/]  {channel['kind']}", highlight=False)
        print_line(console, "    ", channel["url"])
        print_line(
            console, "    ", f"alerts of severity {channel['least_severity']} or more; last notified: {notified}"
        )
        if limits:
            print_line(console, "    ", f"only {'; '.join(limits)}")
        if error:
            print_line(console, "    [red]✗[/] ", error)


@channels.command
@click.argument("name")
@click.argument("url")
@click.option("--kind", type=click.Choice([str(kind) for kind in Kind]), help="By default, chosen by the URL.")
@click.option(
    "--least",
    type=click.Choice([str(severity) for severity in Severity]),
    default=str(Severity.WARNING),
    show_default=True,
    help="The lowest severity that the channel is notified of.",
)
@click.option("--source", "sources", multiple=True, help="Only alerts about this source; repeatable.")
@click.option("--tenant", "tenants", multiple=True, help="Only alerts about this tenant; repeatable.")
@click.option("--rule", "rules", multiple=True, help="Only alerts of this rule; repeatable.")
@context.data_option
def add(
    name: str,
    url: str,
    kind: str | None,
    least: str,
    sources: tuple[str, ...],
    tenants: tuple[str, ...],
    rules: tuple[str, ...],
    data: Path,
) -> None:
    """Create a channel NAME that sends to URL (- reads it from standard input).

    An https:// URL receives webhooks with a Standard Webhooks signature; the secret is printed once. Other URLs are of
    apprise, such as mailto://user:password@example.com or slack://…, and needs `pip install 'tidings[apprise]'`.
    """
    if url == "-":
        try:
            url = read_text(url).strip()
        except ValueError as error:
            raise InvalidFieldError("url", None, f"Standard input cannot be read: {error}.") from None
    chosen = Kind(kind) if kind else Kind.WEBHOOK if url.lower().startswith(("http://", "https://")) else Kind.APPRISE
    valid = service.validate_url(chosen, url)
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        severity = Severity(least)
        _, secret = service.create(
            connection,
            ctx.vault,
            name=name,
            kind=chosen,
            url=valid,
            min_severity=severity,
            sources=sources,
            tenants=tenants,
            rules=rules,
        )
        context.audit(connection, "alert_channel.created", f"alert_channel:{name}", kind=chosen)
    if secret:
        click.echo(secret)
        click.echo("This secret signs the webhooks. It is not shown again.", err=True)
    echo(f"Created the channel {name}. Test it with `tidings alerts channels test {name}`.", err=True)


@channels.command
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.data_option
def remove(name: str, yes: bool, data: Path) -> None:
    """Delete a channel. Its pending notifications are not sent."""
    if not yes:
        click.confirm(f"Delete {name} and its pending notifications?", abort=True)
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        service.get(connection, name, lock=True)
        store.delete_channel(connection, name)
        context.audit(connection, "alert_channel.removed", f"alert_channel:{name}")
    echo(f"Deleted the channel {name}.")


@channels.command
@click.argument("name")
@context.data_option
def test(name: str, data: Path) -> None:
    """Send a test message to a channel, and print the response. Exits with 1 if it fails."""
    with context.open_context(data) as ctx:
        with ctx.engine.begin() as connection:
            row = service.get(connection, name)
        result = service.send_test(row, ctx.vault, datetime.now(UTC))
        with ctx.engine.begin() as connection:
            context.audit(connection, "alert_channel.tried", f"alert_channel:{name}", ok=result["ok"])
            if result["ok"]:
                store.end_rest(connection, name)
    if not result["ok"]:
        echo(f"The test message to {name} failed: {result['detail']}")
        raise SystemExit(1)
    echo(f"Sent a test message to {name}: {result['detail']}. Check that it arrived.")


@channels.command("rotate-secret")
@click.argument("name")
@context.data_option
def rotate_secret(name: str, data: Path) -> None:
    """Generate a new secret for a webhook and print it. The old one signs, too, for a day."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        _, secret = service.rotate_secret(connection, ctx.vault, name, datetime.now(UTC))
        context.audit(connection, "alert_channel.secret_rotated", f"alert_channel:{name}")
    click.echo(secret)
    click.echo("This secret is not shown again. For 24 hours the old one signs the webhooks, too.", err=True)
