"""Output of `tidings suppressions`."""

from collections.abc import Sequence
from dataclasses import asdict

import msgspec
from rich.console import Console
from rich.table import Table

from cli.formatting import escape
from shared.suppression.queries import Explanation
from shared.suppression.store import Entry
from shared.vocabulary import MailType


def table(entries: Sequence[Entry]) -> Table:
    """Return a table with one entry per line."""
    found = Table("address or domain", "reason", "mail", "tenant", "since", "until", "added by", "note")
    for entry in entries:
        found.add_row(
            escape(entry.address or (f"@{entry.domain}" if entry.domain else "(erased)")),
            entry.reason + (f" ({entry.classification})" if entry.classification else ""),
            "all" if len(entry.types) == len(MailType) else ", ".join(entry.types),
            escape(entry.tenant or "all"),
            f"{entry.since:%Y-%m-%d %H:%M}",
            f"{entry.expires_at:%Y-%m-%d %H:%M}" if entry.expires_at else "for good",
            escape(entry.source or entry.actor or entry.origin),
            escape(entry.note or ""),
        )
    return found


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
        console.print(f"{name} is suppressed:", table(explanation.entries))
    else:
        console.print(f"{name} is not suppressed.")
    history = Table(
        "time", "action", "address or domain", "reason", "tenant", "by", "note", title="History", title_justify="left"
    )
    for step in explanation.history:
        history.add_row(
            f"{step['at']:%Y-%m-%d %H:%M:%S}",
            step["action"],
            escape(step["address"] or f"@{step['domain']}"),
            step["reason"],
            escape(step["tenant"] or "all"),
            escape(step["actor"] or step["source"] or step["origin"]),
            escape(step["note"] or ""),
        )
    evidence = Table("time", "event", "failure", "message", title="Evidence", title_justify="left")
    for event in explanation.events:
        failure = filter(None, (event.smtp_status, event.enhanced_code, event.classification, event.reason))
        occurred_at, message = f"{event.occurred_at:%Y-%m-%d %H:%M:%S}", str(event.message_id or "")
        evidence.add_row(occurred_at, event.type, escape(" ".join(failure)), message)
    for found in (history, evidence):
        if found.row_count:
            console.print(found)
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
