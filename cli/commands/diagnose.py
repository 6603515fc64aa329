"""`tidings diagnose`: explains the state of a message and the next steps."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import click
import msgspec
from rich import markup
from rich.console import Console
from rich.padding import Padding

from cli import context
from cli.commands import deliveries
from cli.formatting import escape
from shared.diagnosis import service as diagnosis
from shared.diagnosis.diagnose import Escalation
from shared.diagnosis.model import Mark
from shared.diagnosis.service import DiagnosisContext, MessageDiagnosis
from shared.foreign_text import show
from shared.messages.queries import MessageFilter
from shared.suppression import recipient_hashes

_SIGNS = {Mark.GOOD: "[green]✓[/]", Mark.NOTE: "[cyan]·[/]", Mark.FAULT: "[red]✗[/]"}


@click.command
@click.option("--request-id", help="The id that the provider returned when the message was sent.")
@click.option("--smtp-id", help="The Message-Id, with or without angle brackets.")
@click.option("--message-id", help="The id of the message in Tidings or at the provider.")
@click.option("--recipient", help="The address of a recipient; together with an id, diagnose only this recipient.")
@click.option("--source", help="Only messages of this source.")
@click.option("--delivery", type=click.UUID, help="Diagnose this delivery to a subscriber instead of a message.")
@click.option("--report", is_flag=True, help="Also print the report for the provider's support.")
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
    """Explain the state of a message: its events, what is missing, what was refused, and what to do next.

    Checks for the two usual problems: the recipient did not get the message, or an event is missing. Exits with 1 if
    no such message is known.
    """
    if delivery is not None:
        deliveries.print_delivery(delivery, as_json=as_json, data=data)
        return
    if not (request_id or smtp_id or message_id or recipient):
        raise click.UsageError(
            "One of these is required: --request-id, --smtp-id, --message-id, --recipient, --delivery."
        )
    wanted = MessageFilter(
        source=source, request_id=request_id, smtp_id=smtp_id, message_id=message_id, recipient=recipient
    )
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        hasher = recipient_hashes.load(connection, ctx.vault)
        diagnosis_context = DiagnosisContext(
            connection=connection, hasher=hasher, vault=ctx.vault, now=datetime.now(UTC)
        )
        found = diagnosis.diagnose_matching(diagnosis_context, wanted)
    if as_json:
        reports = [{"message_id": one.message.id if one.message else None, **asdict(one.diagnosis)} for one in found]
        click.echo(msgspec.json.encode(reports).decode())
    else:
        for one in found:
            _print_diagnosis(context.console(), one, report=report)
    if found[0].message is None:
        click.get_current_context().exit(1)


def _print_diagnosis(console: Console, one: MessageDiagnosis, *, report: bool) -> None:
    found = one.diagnosis
    console.rule(f"message {one.message.id}" if one.message else "no such message")
    console.print(f"[bold]{found.verdict.replace('_', ' ')}[/]: {escape(found.headline)}", highlight=False)
    console.print("\n[bold]Findings[/]")
    for finding in found.findings:
        console.print(f" {_SIGNS[finding.mark]} {escape(finding.text)}", highlight=False)
    console.print("\n[bold]Next steps[/]")
    for number, step in enumerate(found.next_steps, 1):
        console.print(f" {number}. {escape(step)}", highlight=False)
    if report:
        console.print("\n[bold]Report for support[/]")
        console.print(Padding(markup.escape(_format_report(found.escalation)), (0, 1)), highlight=False)


def _format_report(report: Escalation) -> str:
    last = report.last_event
    problems = (
        f"{event.type} at {event.occurred_at:%Y-%m-%d %H:%M:%S} UTC {event.codes} {event.reason or ''}".rstrip()
        for event in report.bounces_and_complaints
    )
    lines = {
        "Sender": report.sender,
        "Recipients": ", ".join(report.recipients),
        "Sent": f"{report.sent_at:%Y-%m-%d %H:%M:%S} UTC (from {report.sent_at_known_by})" if report.sent_at else None,
        "request_id": report.request_id,
        "smtp_id": report.smtp_id,
        "Provider's id": report.provider_message_id,
        "Last event": f"{last.type} at {last.occurred_at:%Y-%m-%d %H:%M:%S} UTC" if last else None,
        "Bounces, complaints": "; ".join(problems) or "none",
    }
    known = [f"{name}: {show(value or 'unknown')}" for name, value in lines.items()]
    return "\n".join([*known, *(f"{question} (ask the recipient)" for question in report.to_ask)])
