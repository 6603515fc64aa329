"""The report for a provider's support: one block to paste, as text or as Markdown.

MailChannels' support asks for the sender, the recipient, the time with its zone, the request_id, the last event,
bounces and complaints, and whether the recipient looked in spam, junk, quarantine, forwarding and mailbox rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.classification.classify import write_reply
from shared.diagnosis.advice import NAMES
from shared.diagnosis.model import Answer, DiagnosisInput, EventSummary, Place, RecipientAnswer, format_time
from shared.foreign_text import show
from shared.vocabulary import EventType

MAX_TIMELINE = 50
"""Events in a report, the newest; support staff asks for more if it needs them."""

_PROBLEMS = frozenset({EventType.BOUNCED, EventType.FAILED, EventType.REJECTED, EventType.COMPLAINED})
_PLACES = {
    Place.SPAM: "the spam folder",
    Place.JUNK: "the junk folder",
    Place.QUARANTINE: "the quarantine",
    Place.FORWARDING: "forwarding",
    Place.RULES: "the mailbox's rules and filters",
}
_ANSWERS = {
    Answer.FOUND: "yes, and found the message there",
    Answer.NOT_FOUND: "yes, the message is not there",
    Answer.NOT_CHECKED: "no",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """The facts that a provider's support asks for. `sent_at_known_by` is the origin of the time; times are UTC.

    `timeline` has the newest events, the oldest of them first; `to_ask` the questions without an answer.
    """

    provider: str
    sender: str | None
    recipients: tuple[str, ...]
    subject: str | None
    sent_at: datetime | None
    sent_at_known_by: str
    request_id: str | None
    smtp_id: str | None
    provider_message_id: str | None
    last_event: EventSummary | None
    bounces_and_complaints: tuple[EventSummary, ...]
    timeline: tuple[EventSummary, ...]
    answers: tuple[RecipientAnswer, ...]
    to_ask: tuple[str, ...]
    missing: tuple[str, ...] = ()


def ask(place: Place) -> str:
    """Return the question whether the recipient has looked in a place."""
    return f"Has the recipient checked {_PLACES[place]}?"


def collect_report(given: DiagnosisInput) -> Escalation:
    """Return the facts that a provider's support asks for, and the names of those that are missing."""
    sent_at, known_by = None, "nothing; ask the sender"
    if given.submitted_at:
        sent_at, known_by = given.submitted_at, "the announcement of the send"
    elif given.events:
        sent_at, known_by = min(event.occurred_at for event in given.events), "the first event of the provider"
    recipients = tuple(state.recipient for state in given.states if state.recipient)
    names = given.names
    answered = {one.place for one in given.answers if one.answer is not Answer.NOT_CHECKED}
    report = Escalation(
        provider=NAMES.get(given.provider, given.provider),
        sender=given.sender,
        recipients=recipients or ((names.recipient,) if names.recipient else ()),
        subject=given.subject,
        sent_at=sent_at,
        sent_at_known_by=known_by,
        request_id=names.request_id,
        smtp_id=names.smtp_id,
        provider_message_id=names.provider_message_id,
        last_event=max(given.events, key=lambda event: event.occurred_at, default=None),
        bounces_and_complaints=tuple(event for event in given.events if event.type in _PROBLEMS),
        timeline=given.events[-MAX_TIMELINE:],
        answers=given.answers,
        to_ask=tuple(ask(place) for place in Place if place not in answered),
    )
    required = {
        "the sender's address": report.sender,
        "the recipient's address": report.recipients,
        "the approximate time of sending, with its zone": report.sent_at,
        "the request_id that the provider returned": report.request_id or report.provider_message_id or report.smtp_id,
        "the last event": report.last_event,
    }
    return replace(report, missing=tuple(name for name, value in required.items() if not value))


def format_report(report: Escalation, *, markdown: bool = False) -> str:
    """Return the report as one block to paste. Foreign text is shown without control characters."""
    last = report.last_event
    facts = {
        "Sender": report.sender,
        "Recipients": ", ".join(report.recipients),
        "Subject": report.subject,
        "Sent": f"{format_time(report.sent_at)} (from {report.sent_at_known_by})" if report.sent_at else None,
        "request_id": report.request_id,
        "smtp_id": report.smtp_id,
        "Provider's id": report.provider_message_id,
        "Last event": f"{last.type} at {format_time(last.occurred_at)}" if last else None,
        "Bounces, complaints": "; ".join(map(describe_event, report.bounces_and_complaints)) or "none",
    }
    lines = [f"# Message not received ({report.provider or 'provider unknown'})", ""] if markdown else []
    for name, value in facts.items():
        said = show(value or "unknown")
        lines.append(f"- **{name}:** {quote(said)}" if markdown else f"{name}: {said}")
    lines += ["", "## Timeline" if markdown else "Timeline (UTC):", *([""] if markdown else [])]
    if markdown and report.timeline:
        lines += ["| time (UTC) | event | recipient | reply |", "|---|---|---|---|"]
    for event in report.timeline:
        cells = (
            f"{event.occurred_at:%Y-%m-%d %H:%M:%S}",
            f"{event.type} ({event.word})" if event.word else str(event.type),
            event.recipient or "all",
            write_reply(event.codes.split(), event.reason),
        )
        shown = [show(cell) for cell in cells]
        lines.append(f"| {' | '.join(map(quote, shown))} |" if markdown else f"  {'  '.join(shown)}".rstrip())
    if not report.timeline:
        lines.append("No event has arrived." if markdown else "  no event has arrived")
    lines += ["", "## The recipient's mailbox" if markdown else "The recipient's mailbox:", *([""] if markdown else [])]
    bullet = "- " if markdown else "  "
    lines += [f"{bullet}{line}" for line in list_answers(report)]
    return "\n".join(lines)


def list_answers(report: Escalation) -> Sequence[str]:
    """Return each question about the mailbox with its answers, or that the recipient must be asked."""
    lines = []
    for place in Place:
        said = [one for one in report.answers if one.place is place]
        lines += [
            show(f"{ask(place)} {_ANSWERS[one.answer]} ({one.recipient}, {format_time(one.answered_at)})")
            for one in said
        ]
        if not said:
            lines.append(f"{ask(place)} (ask the recipient)")
    return lines


def describe_event(event: EventSummary) -> str:
    """Return an event with its reply, in one line."""
    reply = write_reply(event.codes.split(), event.reason)
    parts = (f"{event.type} at {format_time(event.occurred_at)}", event.recipient, reply)
    return " ".join(filter(None, parts))


def quote(text: str) -> str:
    """Return foreign text for a line or a cell of Markdown, where it must not become markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|~!" else sign for sign in text)
