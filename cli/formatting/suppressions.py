"""How `tidings suppressions` says things."""

from collections.abc import Sequence
from dataclasses import asdict

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.messages.event_queries import EventFacts
from shared.suppression.explain import Case, Happened
from shared.suppression.lifts import Lift
from shared.suppression.store import Entry
from shared.vocabulary import MailType


def table(entries: Sequence[Entry]) -> Table:
    """Entries, one a line."""
    found = Table("whom", "reason", "mail", "tenant", "since", "until", "who says so", "note")
    for entry in entries:
        found.add_row(
            escape(entry.address or (f"@{entry.domain}" if entry.domain else "(erased)")),
            entry.reason + (f" ({entry.classification})" if entry.classification else ""),
            "all" if len(entry.types) == len(MailType) else ", ".join(entry.types),
            escape(entry.tenant or "all"),
            f"{entry.since:%Y-%m-%d %H:%M}",
            _end(entry, ""),
            escape(entry.source or entry.actor or entry.origin),
            escape(entry.note or ""),
        )
    return found


def tell_checked(console: Console, asked: Sequence[str], found: Sequence[Entry | None]) -> None:
    """What a check found, an address a line."""
    for address, entry in zip(asked, found, strict=True):
        if entry is None:
            console.print(f"[green]✓[/] {escape(address)} may be written to", highlight=False)
        else:
            domain = f", as is all of {entry.domain}" if entry.domain else ""
            said = f"is suppressed{domain}: {entry.reason}, {_end(entry, 'until ')}"
            console.print(f"[red]✗[/] {escape(address)} {said}", highlight=False)


def tell(console: Console, case: Case) -> None:
    """Why something is suppressed, or is not."""
    whom = escape(case.target.name)
    if case.entries:
        console.print(f"{whom} is suppressed:", table(case.entries))
    else:
        console.print(f"{whom} is not suppressed.")
    if case.history:
        console.print(_history(case.history))
    if case.events:
        console.print(_evidence(case.events))
    for lift in case.lifts:
        console.print(_remembered(lift), highlight=False)


def json_of(case: Case) -> str:
    """The same for machines."""
    facts = {
        **asdict(case.target),
        "suppressed": case.is_suppressed,
        "entries": [entry._asdict() for entry in case.entries],
        "ended": [entry._asdict() for entry in case.ended],
        "history": [{**asdict(happened.about), **asdict(happened.step)} for happened in case.history],
        "lifts": [asdict(lift) for lift in case.lifts],
        "events": [
            {**asdict(event), "provider_object": msgspec.Raw(event.provider_object.encode())} for event in case.events
        ],
    }
    return msgspec.json.encode(facts).decode()


def _history(history: Sequence[Happened]) -> Table:
    steps = Table("time", "what", "of whom", "reason", "tenant", "by", "note", title="History", title_justify="left")
    for happened in history:
        step = happened.step
        steps.add_row(
            f"{step.at:%Y-%m-%d %H:%M:%S}",
            step.action,
            escape(happened.about.name),
            step.reason,
            escape(step.tenant or "all"),
            escape(step.actor or step.source or step.origin),
            escape(step.note or ""),
        )
    return steps


def _evidence(events: Sequence[EventFacts]) -> Table:
    found = Table("time", "event", "what it said", "message", title="Evidence", title_justify="left")
    for event in events:
        said = filter(None, (event.smtp_status, event.enhanced_code, event.classification, event.reason))
        happened_at, message = f"{event.occurred_at:%Y-%m-%d %H:%M:%S}", str(event.message_id or "")
        found.add_row(happened_at, event.type, escape(" ".join(said)), message)
    return found


def _remembered(lift: Lift) -> str:
    which = " and ".join(filter(None, (lift.reason, lift.tenant and f"tenant {lift.tenant}")))
    by = "the recipient subscribed again" if lift.by_event else "a person lifted it"
    of = f" ({escape(which)})" if which else ""
    return f"What happened before {lift.lifted_at:%Y-%m-%d %H:%M:%S} no longer counts{of}: {by}."


def _end(entry: Entry, before: str) -> str:
    return f"{before}{entry.expires_at:%Y-%m-%d %H:%M}" if entry.expires_at else "for good"
