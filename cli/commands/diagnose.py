"""`tidings diagnose`: why a message is where it is, and what to do next."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from cli import context
from cli.commands import deliveries
from shared.diagnosis import service as diagnosis
from shared.diagnosis.finding import Mark
from shared.diagnosis.service import Desk, Diagnosed
from shared.diagnosis.support_report import Escalation
from shared.messages.queries import Wanted
from shared.suppression import recipient_hashes

_SIGNS = {Mark.GOOD: "[green]✓[/]", Mark.NOTE: "[cyan]·[/]", Mark.FAULT: "[red]✗[/]"}


@click.command
@click.option("--request-id", help="What the provider answered when the message was sent.")
@click.option("--smtp-id", help="The Message-Id, with or without angle brackets.")
@click.option("--message-id", help="Our id of the message, or the provider's.")
@click.option("--recipient", help="An address that messages were sent to; with an id, look at this recipient only.")
@click.option("--source", help="Only messages of this source.")
@click.option("--delivery", type=click.UUID, help="Instead of a message: a delivery of a change to a subscriber.")
@click.option("--report", is_flag=True, help="Print the report that the provider's support asks for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def diagnose(
    request_id: str | None,
    smtp_id: str | None,
    message_id: str | None,
    recipient: str | None,
    source: str | None,
    delivery: UUID | None,
    report: bool,
    as_json: bool,
    data: Path,
) -> None:
    """Say why a message is where it is: what was seen, what is missing, what was refused, and what to do next.

    Walks "the recipient did not get it" and "an event is missing" over everything that is known. Exits with 1 if
    nothing is known of such a message.
    """
    if delivery is not None:
        deliveries.tell(delivery, as_json=as_json, data=data)
        return
    if not (request_id or smtp_id or message_id or recipient):
        raise click.UsageError("Say which: --request-id, --smtp-id, --message-id, --recipient or --delivery.")
    asked = Wanted(source=source, request_id=request_id, smtp_id=smtp_id, message_id=message_id, recipient=recipient)
    with context.open_context(data) as bench, bench.engine.begin() as connection:
        hasher = recipient_hashes.load(connection, bench.vault)
        desk = Desk(connection=connection, hasher=hasher, vault=bench.vault, now=datetime.now(UTC))
        found = diagnosis.wanted(desk, asked)
    if as_json:
        click.echo(msgspec.json.encode([_plain(one) for one in found]).decode())
    else:
        for one in found:
            _tell(context.console(), one, report=report)
    if found[0].message is None:
        click.get_current_context().exit(1)


def _plain(one: Diagnosed) -> dict[str, object]:
    return {"message_id": one.message.id if one.message else None, **asdict(one.diagnosis)}


def _tell(console: Console, one: Diagnosed, *, report: bool) -> None:
    found = one.diagnosis
    console.rule(f"message {one.message.id}" if one.message else "no such message")
    console.print(f"[bold]{found.verdict.replace('_', ' ')}[/]: {escape(found.headline)}", highlight=False)
    console.print("\n[bold]What was looked at[/]")
    for finding in found.findings:
        console.print(f" {_SIGNS[finding.mark]} {escape(finding.text)}", highlight=False)
    console.print("\n[bold]What to do next[/]")
    for number, step in enumerate(found.next_steps, 1):
        console.print(f" {number}. {escape(step)}", highlight=False)
    if report:
        console.print("\n[bold]Report for support[/]")
        console.print(Padding(escape(_report(found.escalation)), (0, 1)), highlight=False)


def _report(report: Escalation) -> str:
    last = report.last_event
    troubles = (
        f"{event.type} at {event.occurred_at:%Y-%m-%d %H:%M:%S} UTC {event.codes} {event.reason or ''}".rstrip()
        for event in report.bounces_and_complaints
    )
    lines = {
        "Sender": report.sender,
        "Recipients": ", ".join(report.recipients),
        "Sent": f"{report.sent_at:%Y-%m-%d %H:%M:%S} UTC (known by {report.sent_at_known_by})"
        if report.sent_at
        else None,
        "request_id": report.request_id,
        "smtp_id": report.smtp_id,
        "Provider's id": report.provider_message_id,
        "Last event": f"{last.type} at {last.occurred_at:%Y-%m-%d %H:%M:%S} UTC" if last else None,
        "Bounces, complaints": "; ".join(troubles) or "none",
    }
    known = [f"{name}: {value or 'not known'}" for name, value in lines.items()]
    return "\n".join([*known, *(f"{question} (to be asked)" for question in report.to_ask)])
