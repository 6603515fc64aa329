"""`tidings trace`: the story of a message, told from everything that was received about it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Connection

from cli import context
from shared.messages import event_queries
from shared.messages import queries as messages
from shared.messages.event_queries import EventFacts
from shared.messages.queries import MessageFacts, RecipientFacts, Wanted
from shared.postgres.pagination import Span
from shared.receipts import queries as receipt_queries
from shared.receipts.queries import ReceiptFacts
from shared.receipts.refusals import Refusal
from shared.vocabulary import ReceiptState

_MOST_MESSAGES = 10
_MOST_EVENTS = 500
_MOST_NEIGHBOURS = 10
_AROUND = timedelta(hours=1)
_LATELY = timedelta(days=1)
_UNDECIDED = (ReceiptState.PENDING, ReceiptState.UNVERIFIED, ReceiptState.DEAD, ReceiptState.REJECTED)

_COLOURS = {
    "delivered": "green",
    "bounced": "red",
    "failed": "red",
    "rejected": "red",
    "complained": "red",
    "deferred": "yellow",
    "held": "yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What else came at the time and did not become an event: it may be what is missing."""

    refusals: Sequence[Refusal]
    receipts: Sequence[ReceiptFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A message, its events in their order, and what else came at the time."""

    message: MessageFacts
    events: Sequence[EventFacts]
    neighbours: Neighbours


@click.command
@click.option("--request-id", help="What the provider answered when the message was sent.")
@click.option("--smtp-id", help="The Message-Id, with or without angle brackets.")
@click.option("--message-id", help="Our id of the message, or the provider's.")
@click.option("--recipient", help="An address that messages were sent to.")
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
    """Tell what became of a message: every event, the state that followed, and what was refused meanwhile.

    Exits with 1 if nothing is known of it.
    """
    if not (request_id or smtp_id or message_id or recipient):
        raise click.UsageError("Say which: --request-id, --smtp-id, --message-id or --recipient.")
    wanted = Wanted(source=source, request_id=request_id, smtp_id=smtp_id, message_id=message_id, recipient=recipient)
    now = datetime.now(UTC)
    with context.open_context(data) as bench, bench.engine.begin() as connection:
        page = messages.listed(connection, wanted, limit=_MOST_MESSAGES)
        stories = [_story(connection, message) for message in page.items]
        lately = Neighbours(refusals=(), receipts=())
        if not stories:
            lately = _neighbours(connection, source, Span(since=now - _LATELY))
    if as_json:
        click.echo(_json(stories, lately))
    else:
        _tell(context.console(), stories, lately, more=page.next is not None)
    if not stories:
        click.get_current_context().exit(1)


def _story(connection: Connection, message: MessageFacts) -> Story:
    told = event_queries.timeline(connection, message.id, limit=_MOST_EVENTS).items
    times = [event.received_at for event in told] or [message.created_at]
    span = Span(since=min(times) - _AROUND, until=max(times) + _AROUND)
    return Story(message=message, events=told, neighbours=_neighbours(connection, message.source, span))


def _neighbours(connection: Connection, source: str | None, span: Span) -> Neighbours:
    refusals = receipt_queries.list_refusals(connection, source=source, span=span, limit=_MOST_NEIGHBOURS).items
    receipts = [
        receipt
        for state in _UNDECIDED
        for receipt in receipt_queries.list_receipts(
            connection, source=source, state=state, span=span, limit=_MOST_NEIGHBOURS
        ).items
    ]
    return Neighbours(refusals=refusals, receipts=receipts)


def _json(stories: Sequence[Story], lately: Neighbours) -> str:
    told = [asdict(story) for story in stories]
    for story in told:
        for event in story["events"]:
            event["provider_object"] = msgspec.Raw(event["provider_object"].encode())
    return msgspec.json.encode({"messages": told, "lately": lately}).decode()


def _tell(console: Console, stories: Sequence[Story], lately: Neighbours, *, more: bool) -> None:
    if not stories:
        console.print(
            "Nothing is known of such a message: no event that was processed names it. Either its provider has sent "
            "none, or what it sent was refused, or waits; this is what was, in the last 24 hours:"
        )
        _tell_neighbours(console, lately)
        return
    for story in stories:
        _tell_message(console, story)
    if more:
        console.print(f"… and more messages; these are the newest {len(stories)}.")


def _tell_message(console: Console, story: Story) -> None:
    message = story.message
    console.rule(f"message {message.id}")
    for name in ("source", "sender", "subject", "request_id", "smtp_id", "provider_message_id", "submitted_at"):
        if value := getattr(message, name):
            console.print(f"[bold]{name.replace('_', ' '):>20}[/]  {escape(str(value))}", highlight=False)
    table = _table("time", "type", "recipient", "what it said", "receipt")
    for event in story.events:
        colour = _COLOURS.get(event.type, "cyan")
        table.add_row(
            f"{event.occurred_at:%Y-%m-%d %H:%M:%S}",
            f"[{colour}]{event.type}[/]",
            escape(event.recipient or "(all)"),
            escape("; ".join(_said(event))),
            str(event.receipt_id),
        )
    console.print()
    console.print(table if story.events else "No event has come yet: it has only been announced.")
    console.print()
    for recipient in message.recipients:
        console.print(_standing(recipient), highlight=False)
    if story.neighbours.refusals or story.neighbours.receipts:
        console.print("\nWhat else came from this source within an hour, and is in no message:")
        _tell_neighbours(console, story.neighbours)


def _table(*names: str) -> Table:
    """A table whose times stay on one line, and whose other columns lose nothing."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, no_wrap=name == "time", overflow="fold")
    return table


def _said(event: EventFacts) -> Iterator[str]:
    codes = " ".join(filter(None, (event.smtp_status, event.enhanced_code)))
    if codes:
        yield codes
    if event.classification:
        yield f"{event.classification} ({event.classification_code})"
    for text in (event.reason, event.url, event.problem):
        if text:
            yield text


def _standing(recipient: RecipientFacts) -> str:
    """One recipient's state, and why it is so, in a sentence."""
    status = recipient.status or "unknown"
    parts = [f"{escape(recipient.recipient or '(all recipients)')} is [bold {_COLOURS.get(status, 'cyan')}]{status}[/]"]
    if recipient.status_at:
        parts.append(f"since {recipient.status_at:%Y-%m-%d %H:%M:%S}")
    if recipient.classification:
        parts.append(f"because of {recipient.classification}")
    if recipient.status_event_id:
        parts.append(f"by event {recipient.status_event_id}")
    if recipient.reason:
        parts.append(f"“{escape(recipient.reason)}”")
    remarks = [
        f"{word} {count} times" if count > 1 else word
        for word, count in (("opened", recipient.opens), ("read", recipient.reads), ("clicked", recipient.clicks))
        if count
    ]
    remarks += [word for word in ("complained", "unsubscribed") if getattr(recipient, word)]
    return ", ".join(parts) + (f"; {', '.join(remarks)}" if remarks else "") + "."


def _tell_neighbours(console: Console, found: Neighbours) -> None:
    table = _table("time", "source", "what", "why")
    for receipt in found.receipts:
        why = receipt.last_error or "; ".join(filter(None, (receipt.reason, receipt.detail)))
        what = f"receipt {receipt.id} {receipt.state}"
        table.add_row(f"{receipt.received_at:%Y-%m-%d %H:%M:%S}", receipt.source, what, escape(why))
    for refusal in found.refusals:
        what = f"{refusal.count} refused with {refusal.status_code}"
        why = escape(f"{refusal.reason}: {refusal.detail}")
        table.add_row(f"{refusal.refused_at:%Y-%m-%d %H:%M:%S}", escape(refusal.source), what, why)
    console.print(table if table.row_count else "nothing")
