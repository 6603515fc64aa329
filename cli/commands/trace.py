"""`tidings trace`: shows a message with its events, states, and the requests refused around that time."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from sqlalchemy import Connection, Row

from cli import context
from cli.formatting import escape, print_line
from shared.classification.classify import write_reply
from shared.messages import event_queries
from shared.messages import queries as messages
from shared.messages.queries import Message, MessageFilter
from shared.postgres.pagination import Span
from shared.receipts import queries as receipt_queries
from shared.vocabulary import ReceiptState

_MAX_MESSAGES = 10
_MAX_EVENTS = 500
_MAX_AROUND = 10
_MARGIN = timedelta(hours=1)
_RECENT = timedelta(days=1)
_UNPROCESSED = (ReceiptState.PENDING, ReceiptState.UNVERIFIED, ReceiptState.DEAD, ReceiptState.REJECTED)

_COLOURS = {
    "delivered": "green",
    "bounced": "red",
    "failed": "red",
    "rejected": "red",
    "complained": "red",
    "deferred": "yellow",
    "held": "yellow",
}


@click.command
@click.option("--request-id", help="The id that the provider returned when the message was sent.")
@click.option("--smtp-id", help="The Message-Id, with or without angle brackets.")
@click.option("--message-id", help="The id of the message in Tidings, or the beginning of it, or the provider's id.")
@click.option("--recipient", help="The address of a recipient.")
@click.option("--source", help="Only messages of this source.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def trace(
    request_id: str | None,
    smtp_id: str | None,
    message_id: str | None,
    recipient: str | None,
    source: str | None,
    as_json: bool,
    data: Path,
) -> None:
    """Show a message: every event, the resulting states, and the requests refused around that time.

    Exits with 1 if no such message is known.
    """
    if not (request_id or smtp_id or message_id or recipient):
        raise click.UsageError("One of these is required: --request-id, --smtp-id, --message-id, --recipient.")
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        context.require_sources(connection, [source] if source else [])
        wanted = MessageFilter(
            source=source,
            request_id=request_id,
            smtp_id=smtp_id,
            message_id=context.expand_message_id(ctx, message_id),
            recipient=recipient,
        )
        page = messages.list_messages(connection, wanted, limit=_MAX_MESSAGES)
        traces: list[dict[str, Any]] = []
        for message in page.items:
            events = event_queries.list_timeline(connection, message.id, limit=_MAX_EVENTS).items
            times = [event.received_at for event in events] or [message.created_at]
            span = Span(since=min(times) - _MARGIN, until=max(times) + _MARGIN)
            around = _list_unprocessed(connection, message.source, span)
            traces.append({"message": message, "events": events, "neighbours": around})
        recent: dict[str, Any] = {"refusals": (), "receipts": ()}
        if not traces:
            recent = _list_unprocessed(connection, source, Span(since=datetime.now(UTC) - _RECENT))
    if as_json:
        for trace in traces:
            recipients = [row._asdict() for row in trace["message"].recipients]
            trace["message"] = asdict(replace(trace["message"], recipients=())) | {"recipients": recipients}
            trace["events"] = [
                asdict(event) | {"provider_object": msgspec.Raw(event.provider_object.encode())}
                for event in trace["events"]
            ]
        click.echo(msgspec.json.encode({"messages": traces, "lately": recent}).decode())
    else:
        console = context.console()
        for one in traces:
            _print_message(console, one)
        if page.next is not None:
            console.print(f"… and more messages; these are the newest {len(traces)}.")
        if not traces:
            console.print(
                "No such message is known: no processed event names it. Its provider has sent none, or a request was "
                "refused or is waiting. Refused and waiting requests of the last 24 hours:"
            )
            print_unprocessed(console, recent)
    if not traces:
        click.get_current_context().exit(1)


def _list_unprocessed(connection: Connection, source: str | None, span: Span) -> dict[str, Any]:
    """Return the requests of this time that were refused or have led to no event: a missing event may be among them."""
    refusals = receipt_queries.list_refusals(connection, source=source, span=span, limit=_MAX_AROUND).items
    receipts = [
        receipt
        for state in _UNPROCESSED
        for receipt in receipt_queries.list_receipts(
            connection, source=source, state=state, span=span, limit=_MAX_AROUND
        ).items
    ]
    return {"refusals": refusals, "receipts": receipts}


def _print_message(console: Console, trace: dict[str, Any]) -> None:
    message: Message = trace["message"]
    console.rule(f"message {message.id}")
    for name in ("source", "sender", "subject", "request_id", "smtp_id", "provider_message_id", "submitted_at"):
        if value := getattr(message, name):
            console.print(f"[bold]{name.replace('_', ' '):>20}[/]  {escape(str(value))}", highlight=False)
    console.print()
    for event in trace["events"]:
        colour = _COLOURS.get(event.type, "cyan")
        who = escape(event.recipient or "(all)")
        line = f"{event.occurred_at:%Y-%m-%d %H:%M:%S}  [{colour}]{event.type}[/]  {who}"
        console.print(line, highlight=False, soft_wrap=True)
        reply = write_reply((event.smtp_status, event.enhanced_code), event.reason)
        classification = event.classification and f"{event.classification} ({event.classification_code})"
        details = [*filter(None, (reply, classification, event.url, event.problem))]
        if details:
            print_line(console, "    ", "; ".join(details))
        console.print(f"    [dim]receipt {event.receipt_id}[/]", highlight=False, soft_wrap=True)
    if not trace["events"]:
        console.print("No event has arrived yet: the message has only been announced.")
    console.print()
    for recipient in message.recipients:
        print_line(console, "", _describe(recipient))
    if trace["neighbours"]["refusals"] or trace["neighbours"]["receipts"]:
        console.print("\nOther requests of this source within an hour that led to no event:")
        print_unprocessed(console, trace["neighbours"])


def _describe(recipient: Row[Any]) -> str:
    """Return a sentence about one recipient's state and its cause."""
    status = recipient.status or "unknown"
    parts = [f"{recipient.recipient or '(all recipients)'} is {status}"]
    if recipient.status_at:
        parts.append(f"since {recipient.status_at:%Y-%m-%d %H:%M:%S}")
    if recipient.classification:
        parts.append(f"because of {recipient.classification}")
    if recipient.status_event_id:
        parts.append(f"by event {recipient.status_event_id}")
    if recipient.reason:
        parts.append(f"“{recipient.reason}”")
    remarks = [
        f"{word} {count} times" if count > 1 else word
        for word, count in (("opened", recipient.opens), ("read", recipient.reads), ("clicked", recipient.clicks))
        if count
    ]
    remarks += [word for word in ("complained", "unsubscribed") if getattr(recipient, word)]
    return ", ".join(parts) + (f"; {', '.join(remarks)}" if remarks else "") + "."


def print_unprocessed(console: Console, found: dict[str, Any]) -> None:
    """Print requests that were refused or have led to no event."""
    for receipt in found["receipts"]:
        why = receipt.last_error or "; ".join(filter(None, (receipt.reason, receipt.detail)))
        line = f"{receipt.received_at:%Y-%m-%d %H:%M:%S}  {receipt.state}  {receipt.source}  receipt {receipt.id}"
        console.print(escape(line), highlight=False, soft_wrap=True)
        if why:
            print_line(console, "    ", why)
    for refusal in found["refusals"]:
        line = f"{refusal.refused_at:%Y-%m-%d %H:%M:%S}  {refusal.count} refused with {refusal.status_code}"
        console.print(f"{line}  {escape(refusal.source)}", highlight=False, soft_wrap=True)
        print_line(console, "    ", f"{refusal.reason}: {refusal.detail}")
    if not (found["receipts"] or found["refusals"]):
        console.print("none")
