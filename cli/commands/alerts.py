"""`tidings alerts`: alerts, what to do about them, and their acknowledgement."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.console import Console
from rich.table import Table
from sqlalchemy import Row

from cli import context
from cli.commands.alert_channels import channels
from cli.formatting import echo, escape, read_page
from shared.alerts import formatting, kinds
from shared.alerts import store as stored
from shared.errors import ConflictError, NotFoundError
from shared.notifications import store as notifications
from shared.rules import document, store
from shared.vocabulary import Severity

_COLORS = {"critical": "red", "warning": "yellow", "resolved": "green", "dead": "red", "sent": "green"}
_MAX_LISTED = 100
_TIME = "%Y-%m-%d %H:%M:%S"

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group
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
    table = Table("since", "severity", "rule", "summary", "acknowledged", "id", box=None, pad_edge=False)
    for alert in page.items:
        table.add_row(
            f"{alert.started_at:%Y-%m-%d %H:%M}",
            _colored(alert.severity if alert.state == "firing" else alert.state),
            escape(alert.rule),
            escape(alert.summary),
            escape(alert.acknowledged_by or ""),
            str(alert.id),
        )
    console = context.console()
    console.print(table)
    if page.next is not None:
        console.print(f"There are older alerts; these are the newest {len(page.items)}.")


@alerts.command
@click.argument("alert_id", metavar="ID", type=click.UUID)
@_json_option
@context.data_option
def show(alert_id: UUID, as_json: bool, data: Path) -> None:
    """Show an alert: its numbers, what to do, its history, and who was notified."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
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
@click.argument("alert_id", metavar="ID", type=click.UUID)
@context.data_option
def ack(alert_id: UUID, data: Path) -> None:
    """Acknowledge an alert: record that you are handling it."""
    now = datetime.now(UTC)
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        alert = stored.acknowledge(connection, alert_id, context.current_user(), now)
        if alert is None:
            raise _not_found(alert_id)
        if alert.acknowledged_at is None:
            raise ConflictError(f"Alert {alert_id} is resolved, so it cannot be acknowledged.")
        if alert.acknowledged_at == now:
            context.audit(connection, "alert.acknowledged", f"alert:{alert_id}", rule=alert.rule)
    echo(f"Acknowledged by {alert.acknowledged_by} at {alert.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC.")


@alerts.command
@context.data_option
def rules(data: Path) -> None:
    """List the alert rules. `tidings rules show` prints them in full."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        found = store.overview(connection)
    table = Table("rule", "kind", "warning", "critical", "from", "")
    of_file = found.path or "the defaults"
    of_api = [document.load_alert_rule(rule.definition) for rule in found.of_api if rule.name not in found.names]
    for rule in (*found.rules.alerts, *of_api):
        table.add_row(
            rule.name,
            rule.kind,
            *("" if value is None else f"{value:g}" for value in map(rule.threshold, Severity)),
            escape(of_file if rule.name in found.names else "the API"),
            "" if rule.enabled else "disabled",
        )
    context.console().print(table)


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
        "numbers": formatting.numbers(alert.numbers),
        "evidence": alert.evidence_event_id and f"event {alert.evidence_event_id}",
    }
    for name, value in facts.items():
        if value:
            console.print(f"[bold]{name:>14}[/]  {escape(str(value))}", highlight=False)
    if alert.state == "firing":
        console.print(f"\nWhat to do: {escape(kinds.next_step(alert.kind))}\n", highlight=False)
    history = Table("when", "step", "severity", "numbers", "by", box=None, pad_edge=False, header_style="dim")
    for step in steps:
        numbers = escape(formatting.numbers(step.numbers))
        history.add_row(f"{step.at:{_TIME}}", step.step, _colored(step.severity), numbers, escape(step.actor or ""))
    console.print(history)
    if not notices:
        console.print("Nobody was notified: no channel is set up for it. See `tidings alerts channels`.")
        return
    sent = Table("channel", "step", "state", "when", "attempts", "error", box=None, pad_edge=False, header_style="dim")
    for notice in notices:
        at = notice.sent_at or notice.next_attempt_at
        when, error = f"{at:{_TIME}}" if at else "", escape(notice.last_error or "")
        sent.add_row(notice.channel, notice.step, _colored(notice.state), when, str(notice.attempts), error)
    console.print(sent)


def _colored(word: str) -> str:
    color = _COLORS.get(word, "cyan")
    return f"[{color}]{word}[/]"


def _not_found(alert_id: UUID) -> NotFoundError:
    return NotFoundError(f"There is no alert {alert_id}; `tidings alerts list --all` lists the alerts.")
