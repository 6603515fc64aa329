"""`tidings alerts`: alerts, what to do about them, and their acknowledgement."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.console import Console
from sqlalchemy import Row

from cli import context
from cli.commands.alert_channels import channels
from cli.formatting import echo, escape, print_line, read_page
from cli.options import NEXT_MOMENT, WholeHelpGroup
from shared.alerts import formatting, kinds
from shared.alerts import store as stored
from shared.alerts.tables import alerts as alert_table
from shared.errors import ConflictError, InvalidFieldError, NotFoundError
from shared.notifications import store as notifications
from shared.rules import document, store
from shared.vocabulary import Severity

_COLORS = {"critical": "red", "warning": "yellow", "resolved": "green", "dead": "red", "sent": "green"}
_MAX_LISTED = 100
_TIME = "%Y-%m-%d %H:%M:%S"

_LISTING = "tidings alerts list --all"

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=WholeHelpGroup)
def alerts() -> None:
    """Show and acknowledge alerts, and manage notification channels."""


alerts.add_command(channels)


@alerts.command("list")
@click.option("--all", "with_resolved", is_flag=True, help="Include resolved alerts.")
@click.option("--severity", type=click.Choice([str(severity) for severity in Severity]))
@click.option("--rule", help="Only alerts of this rule.")
@click.option("--source", help="Only alerts about this source.")
@_json_option
@context.data_option
def list_alerts(
    with_resolved: bool, severity: str | None, rule: str | None, source: str | None, as_json: bool, data: Path
) -> None:
    """List the alerts that fire, newest first."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        context.require_sources(connection, [source] if source else [])
        page = read_page(
            lambda after, limit: stored.list_alerts(
                connection,
                state=None if with_resolved else "firing",
                severity=severity,
                rule=rule,
                source=source,
                after=after,
                limit=limit,
            ),
            _MAX_LISTED,
        )
    if as_json:
        click.echo(msgspec.json.encode([alert._asdict() for alert in page.items]).decode())
        return
    if not page.items:
        click.echo(
            "No matching alerts." if with_resolved else "No matching alert fires. --all lists resolved alerts, too."
        )
        return
    console = context.console()
    for alert in page.items:
        remarks = [f"acknowledged by {alert.acknowledged_by}"] if alert.acknowledged_by else []
        if alert.muted_until and alert.muted_until > datetime.now(UTC):
            remarks.append(f"muted until {alert.muted_until:%Y-%m-%d %H:%M} by {alert.muted_by}")
        state = _colored(alert.severity if alert.state == "firing" else alert.state)
        console.print(f"{alert.id}  {state}  {alert.started_at:%Y-%m-%d %H:%M}", highlight=False, soft_wrap=True)
        print_line(console, "    ", f"{alert.rule}: {alert.summary}")
        if remarks:
            print_line(console, "    ", "; ".join(remarks))
    if page.next is not None:
        console.print(f"There are older alerts; these are the newest {len(page.items)}.")


@alerts.command
@click.argument("named", metavar="ID")
@_json_option
@context.data_option
def show(named: str, as_json: bool, data: Path) -> None:
    """Show an alert: its numbers, what to do, its history, and who was notified."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        alert_id = context.find_id(ctx, alert_table, named, noun="alert", listing=_LISTING)
        alert = stored.get(connection, alert_id)
        steps = stored.list_steps(connection, alert_id)
        notices = notifications.list_notices(connection, alert_id)
    if alert is None:
        raise _not_found(alert_id)
    if as_json:
        whole = {
            **alert._asdict(),
            "steps": [step._asdict() for step in steps],
            "notices": [notice._asdict() for notice in notices],
        }
        click.echo(msgspec.json.format(msgspec.json.encode(whole), indent=2).decode())
        return
    _print_alert(context.console(), alert, steps, notices)


@alerts.command
@click.argument("named", metavar="ID")
@click.option("--hours", type=click.FloatRange(0, 24 * 366, min_open=True), help="For this long, instead of --until.")
@click.option("--until", type=NEXT_MOMENT, help="Until this time (UTC). 12:00 is the next noon.")
@context.data_option
def mute(named: str, hours: float | None, until: datetime | None, data: Path) -> None:
    """Mute an alert: notify no channel of it until a time.

    It goes on firing. If it still fires when the mute ends, the channels are notified then.
    """
    now = datetime.now(UTC)
    if (hours is None) == (until is None):
        raise click.UsageError("Give either --hours or --until.")
    ends_at = until if hours is None else now + timedelta(hours=hours)
    if ends_at is None or ends_at <= now:
        raise InvalidFieldError("until", until, f"--until is {until:%Y-%m-%dT%H:%M} UTC; it must be in the future.")
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        alert_id = context.find_id(ctx, alert_table, named, noun="alert", listing=_LISTING)
        alert = stored.mute(connection, alert_id, context.current_user(), until=ends_at, now=now)
        if alert is None:
            raise _not_found(alert_id)
        if alert.state != "firing":
            raise ConflictError(f"Alert {alert_id} is resolved, so it cannot be muted.")
        notifications.drop_muted(connection, alert_id)
        context.audit(connection, "alert.muted", f"alert:{alert_id}", rule=alert.rule, until=ends_at.isoformat())
    echo(f"Muted {alert_id} until {ends_at:%Y-%m-%d %H:%M:%S} UTC.")


@alerts.command
@click.argument("named", metavar="ID")
@context.data_option
def unmute(named: str, data: Path) -> None:
    """End the mute of an alert."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        alert_id = context.find_id(ctx, alert_table, named, noun="alert", listing=_LISTING)
        now = datetime.now(UTC)
        alert = stored.mute(connection, alert_id, context.current_user(), until=None, now=now)
        if alert is None:
            raise _not_found(alert_id)
        if alert.state != "firing":
            raise ConflictError(f"Alert {alert_id} is resolved, so it is not muted.")
        context.audit(connection, "alert.unmuted", f"alert:{alert_id}", rule=alert.rule)
    echo(f"Channels are notified of {alert_id} again.")


@alerts.command
@click.argument("named", metavar="ID")
@context.data_option
def ack(named: str, data: Path) -> None:
    """Acknowledge an alert: record that you are handling it."""
    now = datetime.now(UTC)
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        alert_id = context.find_id(ctx, alert_table, named, noun="alert", listing=_LISTING)
        alert = stored.acknowledge(connection, alert_id, context.current_user(), now)
        if alert is None:
            raise _not_found(alert_id)
        if alert.acknowledged_at is None:
            raise ConflictError(f"Alert {alert_id} is resolved, so it cannot be acknowledged.")
        if alert.acknowledged_at == now:
            context.audit(connection, "alert.acknowledged", f"alert:{alert_id}", rule=alert.rule)
    echo(f"Acknowledged by {alert.acknowledged_by} at {alert.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC.")


@alerts.command
@_json_option
@context.data_option
def rules(as_json: bool, data: Path) -> None:
    """List the alert rules. `tidings rules show` prints them in full."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        found = store.overview(connection)
    of_file = found.path or "the defaults"
    of_api = [document.load_alert_rule(rule.definition) for rule in found.of_api if rule.name not in found.names]
    listed = [
        {
            "name": rule.name,
            "kind": rule.kind,
            **{str(severity): rule.threshold(severity) for severity in Severity},
            "from": str(of_file) if rule.name in found.names else "the API",
            "enabled": rule.enabled,
        }
        for rule in (*found.rules.alerts, *of_api)
    ]
    if as_json:
        click.echo(msgspec.json.encode(listed).decode())
        return
    console = context.console()
    for one in listed:
        thresholds = [f"{name} {one[name]:g}" for name in map(str, Severity) if one[name] is not None]
        console.print(f"[bold]{escape(str(one['name']))}[/]  {one['kind']}", highlight=False, soft_wrap=True)
        disabled = "" if one["enabled"] else "; disabled"
        print_line(console, "    ", f"{', '.join(thresholds)}; from {one['from']}{disabled}")


def _print_alert(console: Console, alert: Row[Any], steps: Sequence[Row[Any]], notices: Sequence[Row[Any]]) -> None:
    console.print(f"[bold]{escape(alert.summary)}[/]", highlight=False)
    facts = {
        "state": alert.severity if alert.state == "firing" else f"{alert.state}, was {alert.severity}",
        "rule": alert.rule,
        "source": alert.source,
        "tenant": alert.tenant,
        "since": f"{alert.started_at:{_TIME}}",
        "resolved": alert.resolved_at and f"{alert.resolved_at:{_TIME}}",
        "acknowledged": alert.acknowledged_at and f"{alert.acknowledged_at:{_TIME}} by {alert.acknowledged_by}",
        "muted until": alert.muted_until and f"{alert.muted_until:{_TIME}} by {alert.muted_by}",
        "numbers": formatting.numbers(alert.numbers),
        "evidence": alert.evidence_event_id and f"event {alert.evidence_event_id}",
    }
    for name, value in facts.items():
        if value:
            print_line(console, f"[bold]{name:>14}[/]  ", str(value))
    if alert.state == "firing":
        advice = kinds.next_step(alert.kind, subject=alert.subject, source=alert.source, numbers=alert.numbers)
        console.print()
        print_line(console, "What to do: ", advice)
        console.print()
    console.print("[bold]History[/]")
    for step in steps:
        by = f" by {escape(step.actor)}" if step.actor else ""
        line = f"{step.at:{_TIME}}  {step.step}{by}  {_colored(step.severity)}"
        console.print(line, highlight=False, soft_wrap=True)
        print_line(console, "    ", formatting.numbers(step.numbers))
    if not notices:
        console.print("Nobody was notified: no channel is set up for it. See `tidings alerts channels`.")
        return
    console.print("[bold]Notifications[/]")
    for notice in notices:
        at = notice.sent_at or notice.next_attempt_at
        when = f"  {at:{_TIME}}" if at else ""
        attempts = f"{notice.attempts} attempt{'s' if notice.attempts != 1 else ''}"
        line = f"{notice.channel}  {notice.step}  {_colored(notice.state)}{when}  {attempts}"
        console.print(line, highlight=False, soft_wrap=True)
        if notice.last_error:
            print_line(console, "    [red]✗[/] ", notice.last_error)


def _colored(word: str) -> str:
    color = _COLORS.get(word, "cyan")
    return f"[{color}]{word}[/]"


def _not_found(alert_id: UUID) -> NotFoundError:
    return NotFoundError(f"There is no alert {alert_id}; `tidings alerts list --all` lists the alerts.")
