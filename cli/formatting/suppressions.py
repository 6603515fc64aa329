"""Output of `tidings suppressions`."""

from collections.abc import Sequence
from dataclasses import asdict

import msgspec
from rich.console import Console

from cli.formatting import escape, print_line
from shared.classification.classify import write_reply
from shared.suppression.queries import Explanation
from shared.suppression.store import Entry
from shared.vocabulary import MailType


def print_entries(console: Console, entries: Sequence[Entry]) -> None:
    """Print entries: the address or domain on a line, the details on others."""
    for entry in entries:
        name = entry.address or (f"@{entry.domain}" if entry.domain else "(erased)")
        reason = entry.reason + (f" ({entry.classification})" if entry.classification else "")
        console.print(f"{escape(name)}  {reason}", highlight=False, soft_wrap=True)
        mail = "all mail" if len(entry.types) == len(MailType) else f"{', '.join(entry.types)} mail"
        until = f"until {entry.expires_at:%Y-%m-%d %H:%M}" if entry.expires_at else "for good"
        by = entry.source or entry.actor or entry.origin
        details = f"{mail}; tenant {entry.tenant or 'all'}; since {entry.since:%Y-%m-%d %H:%M}, {until}; by {by}"
        print_line(console, "    ", details)
        if entry.note:
            print_line(console, "    ", entry.note)


def print_checked(console: Console, addresses: Sequence[str], found: Sequence[Entry | None]) -> None:
    """Print the result of a check, one address per line."""
    for address, entry in zip(addresses, found, strict=True):
        if entry is None:
            console.print(f"[green]✓[/] {escape(address)} is not suppressed", highlight=False)
        else:
            domain = f" with its domain {entry.domain}" if entry.domain else ""
            end = f"until {entry.expires_at:%Y-%m-%d %H:%M}" if entry.expires_at else "for good"
            result = f"is suppressed{domain}: {entry.reason}, {end}"
            console.print(f"[red]✗[/] {escape(address)} {result}", highlight=False)


def print_explanation(console: Console, explanation: Explanation) -> None:
    """Print why something is suppressed, or is not."""
    name = escape(explanation.target.name)
    if explanation.entries:
        console.print(f"{name} is suppressed:")
        print_entries(console, explanation.entries)
    else:
        console.print(f"{name} is not suppressed.")
    if explanation.history:
        console.print("[bold]History[/]")
    for step in explanation.history:
        line = f"{step['at']:%Y-%m-%d %H:%M:%S}  {step['action']}  {escape(step['address'] or '@' + step['domain'])}"
        console.print(line, highlight=False, soft_wrap=True)
        by = step["actor"] or step["source"] or step["origin"]
        parts = (step["reason"], f"tenant {step['tenant'] or 'all'}", f"by {by}", step["note"])
        print_line(console, "    ", "; ".join(filter(None, parts)))
    if explanation.events:
        console.print("[bold]Evidence[/]")
    for event in explanation.events:
        message = f"  message {event.message_id}" if event.message_id else ""
        line = f"{event.occurred_at:%Y-%m-%d %H:%M:%S}  {event.type}{message}"
        console.print(line, highlight=False, soft_wrap=True)
        codes = (event.smtp_status, event.enhanced_code, event.classification)
        print_line(console, "    ", write_reply(codes, event.reason))
    for lift in explanation.lifts:
        scope = " and ".join(filter(None, (lift.reason, lift.tenant and f"tenant {lift.tenant}")))
        by = "the recipient subscribed again" if lift.by_event else "a person lifted it"
        of = f" ({escape(scope)})" if scope else ""
        console.print(
            f"An event before {lift.lifted_at:%Y-%m-%d %H:%M:%S} no longer counts{of}: {by}.", highlight=False
        )


def to_json(explanation: Explanation) -> str:
    """Return an explanation as JSON."""
    events = [
        {**asdict(event), "provider_object": msgspec.Raw(event.provider_object.encode())}
        for event in explanation.events
    ]
    facts = {
        **asdict(explanation.target),
        "suppressed": explanation.is_suppressed,
        "entries": [entry._asdict() for entry in explanation.entries],
        "ended": [entry._asdict() for entry in explanation.ended],
        "history": explanation.history,
        "lifts": [
            {"lifted_at": lift.lifted_at, "tenant": lift.tenant, "reason": lift.reason, "by_event": lift.by_event}
            for lift in explanation.lifts
        ],
        "events": events,
    }
    return msgspec.json.encode(facts).decode()
