"""`tidings diagnose`: explains the state of a message and the next steps."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console

from cli import context
from cli.commands import deliveries
from cli.formatting import escape, print_line
from shared.diagnosis import service as diagnosis
from shared.diagnosis import store as answers
from shared.diagnosis.model import Answer, Finding, Mark, Place
from shared.diagnosis.report import format_report
from shared.diagnosis.service import DiagnosisContext, MessageDiagnosis
from shared.errors import InvalidFieldError
from shared.messages.queries import MessageFilter
from shared.suppression import recipient_hashes

_SIGNS = {Mark.GOOD: "[green]✓[/]", Mark.NOTE: "[cyan]·[/]", Mark.FAULT: "[red]✗[/]"}


@click.command
@click.option("--request-id", help="The id that the provider returned when the message was sent.")
@click.option("--smtp-id", help="The Message-Id, with or without angle brackets.")
@click.option("--message-id", help="The id of the message in Tidings, or the beginning of it, or the provider's id.")
@click.option("--recipient", help="The address of a recipient; together with an id, diagnose only this recipient.")
@click.option("--source", help="Only messages of this source.")
@click.option("--delivery", metavar="ID", help="Diagnose this delivery to a subscriber instead of a message.")
@click.option("--report", is_flag=True, help="Print only the report for the provider's support, as one block to paste.")
@click.option("--markdown", is_flag=True, help="Print the report as Markdown.")
@click.option(
    "--answer",
    "given",
    multiple=True,
    metavar="PLACE=ANSWER",
    help=f"Record what the recipient said after looking in a place, and diagnose again; repeatable. PLACE is one of "
    f"{', '.join(Place)}; ANSWER is one of {', '.join(Answer)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def diagnose(
    request_id: str | None,
    smtp_id: str | None,
    message_id: str | None,
    recipient: str | None,
    source: str | None,
    delivery: str | None,
    report: bool,
    markdown: bool,
    given: tuple[str, ...],
    as_json: bool,
    data: Path,
) -> None:
    """Explain the state of a message: its events, what is missing, what was refused, and what to do next.

    Checks for the two usual problems: the recipient did not get the message, or an event is missing. Exits with 1 if
    no such message is known.

    --answer spam=not_found records the answer of the recipient, which the report then includes.
    """
    if delivery is not None:
        deliveries.print_delivery(delivery, as_json=as_json, data=data)
        return
    if not (request_id or smtp_id or message_id or recipient):
        raise click.UsageError(
            "One of these is required: --request-id, --smtp-id, --message-id, --recipient, --delivery."
        )
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        context.require_sources(connection, [source] if source else [])
        wanted = MessageFilter(
            source=source,
            request_id=request_id,
            smtp_id=smtp_id,
            message_id=context.expand_message_id(ctx, message_id),
            recipient=recipient,
        )
        hasher = recipient_hashes.load(connection, ctx.vault)
        diagnosis_context = DiagnosisContext(
            connection=connection, hasher=hasher, vault=ctx.vault, now=datetime.now(UTC)
        )
        found = diagnosis.diagnose_matching(diagnosis_context, wanted)
        if given:
            record(diagnosis_context, found, recipient, given)
            found = diagnosis.diagnose_matching(diagnosis_context, wanted)
    if as_json:
        reports = [
            {
                "message_id": one.message.id if one.message else None,
                **asdict(one.diagnosis),
                "report": format_report(one.diagnosis.escalation, markdown=markdown),
            }
            for one in found
        ]
        click.echo(msgspec.json.encode(reports).decode())
    elif report or markdown:
        click.echo("\n\n".join(format_report(one.diagnosis.escalation, markdown=markdown) for one in found))
    else:
        for one in found:
            _print_diagnosis(context.console(), one)
    if found[0].message is None:
        click.get_current_context().exit(1)


def record(
    ctx: DiagnosisContext, found: Sequence[MessageDiagnosis], recipient: str | None, given: Sequence[str]
) -> None:
    """Record the recipient's answers about the message. Raises InvalidFieldError unless exactly one is found."""
    recorded = dict(map(answers.read_answer, given))
    message = found[0].message
    if message is None or len(found) > 1:
        which = "no message" if message is None else f"{len(found)} messages"
        raise InvalidFieldError(
            "message_id", None, f"--answer is about one message, and {which} matched. Name it with --message-id."
        )
    chosen = answers.choose_recipient(message, recipient)
    now, recorded_by = ctx.now, context.current_user()
    answers.record_answers(ctx.connection, ctx.hasher, message.id, chosen, recorded, recorded_by=recorded_by, now=now)
    context.audit(ctx.connection, "message.answered", f"message:{message.id}", places=sorted(recorded))


def _print_diagnosis(console: Console, one: MessageDiagnosis) -> None:
    """Print what concerns the message first, and below a line what else happened to its source."""
    found = one.diagnosis
    console.rule(f"message {one.message.id}" if one.message else "no such message")
    if one.message:
        facts = found.escalation
        sent = f"sent {facts.sent_at:%Y-%m-%d %H:%M} UTC" if facts.sent_at else None
        sender, subject = facts.sender and f"from {facts.sender}", facts.subject and f"“{facts.subject}”"
        print_line(console, "", ", ".join(filter(None, (one.message.source, sent, sender, subject))))
    print_line(console, f"[bold]{found.verdict.replace('_', ' ')}[/]: ", found.headline)
    about = [finding for finding in found.findings if not finding.about_source]
    around = [finding for finding in found.findings if finding.about_source]
    print_findings(console, about)
    if around:
        sources = sorted({source.slug for source in one.sources})
        console.print()
        console.rule(f"around that time at {', '.join(sources) or 'all sources'}, perhaps of other messages")
        print_findings(console, around)


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print findings, then their next steps. A command has a separate line, uncut, so that it can be copied."""
    console.print("\n[bold]Findings[/]")
    for finding in findings:
        print_line(console, f" {_SIGNS[finding.mark]} ", finding.text)
    steps = {finding.next_step: finding.commands for finding in findings if finding.next_step}
    if steps:
        console.print("\n[bold]Next steps[/]")
    for number, (step, commands) in enumerate(steps.items(), 1):
        print_line(console, f" {number}. ", step)
        for command in commands:
            console.print(f"      {escape(context.complete_command(command))}", highlight=False, soft_wrap=True)
