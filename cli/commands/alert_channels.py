"""`tidings alerts channels`: where people are told of alerts."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from cli import context
from shared.errors import TidingsError
from shared.notifications import channel_store as stored
from shared.notifications import channels as outlets
from shared.notifications.channel_store import ChannelRow
from shared.notifications.channels import ChannelError, ChannelFacts, Kind
from shared.vocabulary import Severity

_LEAST = click.option(
    "--least",
    type=click.Choice([str(severity) for severity in Severity]),
    default=str(Severity.WARNING),
    show_default=True,
    help="Tell only what is at least so urgent.",
)


@click.group
def channels() -> None:
    """Say where people are told of alerts: signed webhooks, and everything that apprise speaks.

    A channel is told of what happens after it was made.
    """


@channels.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_channels(as_json: bool, data: Path) -> None:
    """List the channels, and whether they work."""
    with context.opened(data) as bench:
        with bench.engine.begin() as connection:
            rows = stored.listed(connection)
        found = [outlets.shown(row, bench.vault) for row in rows]
    if as_json:
        click.echo(msgspec.json.encode([asdict(facts) for facts in found]).decode())
        return
    if not found:
        click.echo("There are no channels, so nobody is told of alerts. Make one with `tidings alerts channels add`.")
        return
    table = Table("channel", "kind", "goes to", "least", "told last", "")
    for facts in found:
        table.add_row(
            facts.name,
            facts.kind,
            escape(facts.url),
            facts.least_severity,
            f"{facts.told_at:%Y-%m-%d %H:%M}" if facts.told_at else "never",
            f"[red]{escape(_trouble(facts))}[/]",
        )
    context.console().print(table)


@channels.command
@click.argument("name")
@click.argument("url")
@click.option("--kind", type=click.Choice([str(kind) for kind in Kind]), help="Only if it cannot be told by the URL.")
@_LEAST
@context.data_option
def add(name: str, url: str, kind: str | None, least: str, data: Path) -> None:
    """Make a channel NAME that goes to URL (- reads it from standard input).

    An https:// URL is posted to, signed by Standard Webhooks: the secret is printed, once. Any other is apprise's, such
    as mailto://user:password@example.com or slack://…; that needs `pip install 'tidings[apprise]'`.
    """
    url = sys.stdin.read().strip() if url == "-" else url
    chosen = Kind(kind) if kind else Kind.WEBHOOK if url.lower().startswith(("http://", "https://")) else Kind.APPRISE
    try:
        checked = outlets.checked_url(chosen, url)
        with context.opened(data) as bench, bench.engine.begin() as connection:
            made = outlets.create(
                connection, bench.vault, name=name, kind=chosen, url=checked, least_severity=Severity(least)
            )
            context.audit(connection, "alert_channel.created", f"alert_channel:{name}", kind=chosen)
    except ChannelError as error:
        raise TidingsError(f"The {error.field} {error}.") from None
    if made.secret:
        click.echo(made.secret)
        click.echo("This is the secret of what is posted, shown this once.", err=True)
    click.echo(f"The channel {name} is made. Try it with `tidings alerts channels test {name}`.", err=True)


@channels.command
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.data_option
def remove(name: str, yes: bool, data: Path) -> None:
    """Remove a channel. What it has yet to be told is not told."""
    if not yes:
        click.confirm(f"Remove {name}, and tell it nothing more?", abort=True)
    with context.opened(data) as bench, bench.engine.begin() as connection:
        if not stored.delete(connection, name):
            raise _unknown(name)
        context.audit(connection, "alert_channel.removed", f"alert_channel:{name}")
    click.echo(f"The channel {name} is removed.")


@channels.command
@click.argument("name")
@context.data_option
def test(name: str, data: Path) -> None:
    """Send a channel a test, and say what came back. Exits with 1 if it was not taken."""
    with context.opened(data) as bench:
        with bench.engine.begin() as connection:
            row = _find(stored.find(connection, name), name)
        tried = outlets.try_out(row, bench.vault, datetime.now(UTC))
        with bench.engine.begin() as connection:
            context.audit(connection, "alert_channel.tried", f"alert_channel:{name}", ok=tried.ok)
            if tried.ok:
                stored.wake(connection, name)
    if not tried.ok:
        click.echo(f"{name} was not told: {tried.detail}")
        raise SystemExit(1)
    click.echo(f"{name} was told: {tried.detail}. See whether it arrived.")


@channels.command("rotate-secret")
@click.argument("name")
@context.data_option
def rotate_secret(name: str, data: Path) -> None:
    """Make a new secret for a webhook and print it. The old one signs, too, for a day."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        made = outlets.rotate_secret(connection, bench.vault, name, datetime.now(UTC))
        if made is None:
            raise _unknown(name)
        context.audit(connection, "alert_channel.secret_rotated", f"alert_channel:{name}")
    click.echo(made.secret)
    click.echo("Shown this once. What is posted is signed with the old one, too, for 24 hours.", err=True)


def _trouble(facts: ChannelFacts) -> str:
    if facts.problem:
        return facts.problem
    if facts.failing_since is None:
        return ""
    return f"failing since {facts.failing_since:%Y-%m-%d %H:%M}: {facts.last_error}"


def _find(row: ChannelRow | None, name: str) -> ChannelRow:
    if row is None:
        raise _unknown(name)
    return row


def _unknown(name: str) -> TidingsError:
    return TidingsError(f"There is no channel called {name!r}; `tidings alerts channels list` shows those there are.")
