"""`tidings alerts`: what fires, what to do about it, and that somebody is at it."""

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import context
from cli.commands.alert_channels import channels
from cli.formatting import pages
from shared.alerts import store as stored
from shared.alerts.policy import AlertRule
from shared.alerts.store import AlertFacts, StepFacts
from shared.errors import TidingsError
from shared.notifications import rendering
from shared.notifications import store as notifications
from shared.notifications.store import NoticeFacts
from shared.rules import document, store
from shared.vocabulary import Severity

_COLOURS = {"critical": "red", "warning": "yellow", "resolved": "green", "dead": "red", "sent": "green"}
_MOST = 100

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group
def alerts() -> None:
    """Look at alerts, acknowledge them, and say where people are told of them."""


alerts.add_command(channels)


@alerts.command("list")
@click.option("--all", "with_resolved", is_flag=True, help="Also those that are over.")
@click.option("--severity", type=click.Choice([str(severity) for severity in Severity]))
@click.option("--rule", help="Only those of this rule.")
@click.option("--source", help="Only those about this source.")
@_json_option
@context.data_option
def list_alerts(
    with_resolved: bool, severity: str | None, rule: str | None, source: str | None, as_json: bool, data: Path
) -> None:
    """List the alerts that fire, the newest first."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        page = pages.read(
            lambda after, limit: stored.listed(
                connection,
                state=None if with_resolved else "firing",
                severity=severity,
                rule=rule,
                source=source,
                after=after,
                limit=limit,
            ),
            _MOST,
        )
    if as_json:
        click.echo(msgspec.json.encode([asdict(alert) for alert in page.items]).decode())
        return
    if not page.items:
        click.echo(
            "There are no such alerts." if with_resolved else "No such alert fires; --all lists those of before."
        )
        return
    console = context.console()
    console.print(_listed(page.items))
    if page.next is not None:
        console.print(f"… and older ones; these are the newest {len(page.items)}.")


@alerts.command
@click.argument("alert_id", metavar="ID", type=click.UUID)
@_json_option
@context.data_option
def show(alert_id: UUID, as_json: bool, data: Path) -> None:
    """Show an alert: what it is judged by, what to do, what happened to it, and who was told."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        alert = stored.find(connection, alert_id)
        steps = stored.steps(connection, alert_id)
        told = notifications.of_alert(connection, alert_id)
    if alert is None:
        raise _unknown(alert_id)
    if as_json:
        whole = {**asdict(alert), "steps": steps, "notices": told}
        click.echo(msgspec.json.format(msgspec.json.encode(whole), indent=2).decode())
        return
    _tell(context.console(), alert, steps, told)


@alerts.command
@click.argument("alert_id", metavar="ID", type=click.UUID)
@context.data_option
def ack(alert_id: UUID, data: Path) -> None:
    """Say that somebody knows of an alert and is at it."""
    now = datetime.now(UTC)
    with context.opened(data) as bench, bench.engine.begin() as connection:
        alert = stored.acknowledge(connection, alert_id, _user(), now)
        if alert is None:
            raise _unknown(alert_id)
        if alert.acknowledged_at is None:
            raise TidingsError("The alert is over; there is nothing left to acknowledge.")
        if alert.acknowledged_at == now:
            context.audit(connection, "alert.acknowledged", f"alert:{alert_id}", rule=alert.rule)
    click.echo(f"Acknowledged by {alert.acknowledged_by} at {alert.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC.")


@alerts.command
@context.data_option
def rules(data: Path) -> None:
    """List the rules by which alerts fire; `tidings rules show` has all of them."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        found = store.overview(connection)
    table = Table("rule", "kind", "warning", "critical", "from", "")
    of_file = found.path or "the defaults"
    of_api = [document.load_alert_rule(rule.definition) for rule in found.of_api if rule.name not in found.names]
    for rule in (*found.rules.alerts, *of_api):
        table.add_row(
            rule.name,
            rule.kind,
            *(_threshold(rule, severity) for severity in Severity),
            escape(of_file if rule.name in found.names else "the API"),
            "" if rule.enabled else "disabled",
        )
    context.console().print(table)


def _threshold(rule: AlertRule, severity: Severity) -> str:
    value = rule.threshold(severity)
    return "" if value is None else f"{value:g}"


def _listed(found: Sequence[AlertFacts]) -> Table:
    table = Table("since", "severity", "rule", "what", "acknowledged", "id", box=None, pad_edge=False)
    for alert in found:
        word = alert.severity if alert.state == "firing" else alert.state
        table.add_row(
            f"{alert.started_at:%Y-%m-%d %H:%M}",
            _coloured(word),
            escape(alert.rule),
            escape(alert.summary),
            escape(alert.acknowledged_by or ""),
            str(alert.id),
        )
    return table


def _tell(console: Console, alert: AlertFacts, steps: Sequence[StepFacts], told: Sequence[NoticeFacts]) -> None:
    word = alert.severity if alert.state == "firing" else f"{alert.state}, was {alert.severity}"
    console.print(f"[bold]{escape(alert.summary)}[/]", highlight=False)
    facts = {
        "state": word,
        "rule": alert.rule,
        "source": alert.source,
        "tenant": alert.tenant,
        "since": _moment(alert.started_at),
        "resolved": alert.resolved_at and _moment(alert.resolved_at),
        "acknowledged": alert.acknowledged_at and f"{_moment(alert.acknowledged_at)} by {alert.acknowledged_by}",
        "numbers": rendering.in_words(alert.numbers),
        "evidence": alert.evidence_event_id and f"event {alert.evidence_event_id}",
    }
    for name, value in facts.items():
        if value:
            console.print(f"[bold]{name:>14}[/]  {escape(str(value))}", highlight=False)
    if alert.state == "firing":
        console.print(f"\nWhat to do: {escape(rendering.next_step(alert.kind))}\n", highlight=False)
    console.print(_history(steps))
    console.print(
        _told(told) if told else "Nobody was told: there was no channel for it. See `tidings alerts channels`."
    )


def _history(steps: Sequence[StepFacts]) -> Table:
    table = Table("when", "step", "severity", "numbers", "by", box=None, pad_edge=False, header_style="dim")
    for step in steps:
        words = rendering.in_words(step.numbers)
        table.add_row(_moment(step.at), step.step, _coloured(step.severity), escape(words), escape(step.actor or ""))
    return table


def _told(told: Sequence[NoticeFacts]) -> Table:
    table = Table(
        "channel", "told of", "state", "when", "attempts", "error", box=None, pad_edge=False, header_style="dim"
    )
    for notice in told:
        when = notice.sent_at or notice.next_attempt_at
        table.add_row(
            notice.channel,
            notice.step,
            _coloured(notice.state),
            _moment(when) if when else "",
            str(notice.attempts),
            escape(notice.last_error or ""),
        )
    return table


def _coloured(word: str) -> str:
    colour = _COLOURS.get(word, "cyan")
    return f"[{colour}]{word}[/]"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _user() -> str:
    """Who is at the keyboard, as far as the machine knows."""
    try:
        return f"{getpass.getuser()} on the command line"
    except (OSError, KeyError, ImportError):
        return "the command line"


def _unknown(alert_id: UUID) -> TidingsError:
    return TidingsError(f"There is no alert {alert_id}; `tidings alerts list --all` shows those there are.")
