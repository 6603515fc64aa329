"""What a provider's support asks for, collected: so that a case is opened with one message rather than five."""

from dataclasses import dataclass
from datetime import datetime

from shared.diagnosis.facts import Facts, Seen
from shared.vocabulary import EventType

QUESTIONS = (
    "Has the recipient checked the spam or junk folder?",
    "Has the recipient checked the quarantine, or asked the mail administrator to?",
    "Has the recipient checked forwarding?",
    "Has the recipient checked the mailbox's rules and filters?",
)
"""What only the recipient can answer; support will ask."""

_TROUBLES = frozenset({EventType.BOUNCED, EventType.FAILED, EventType.REJECTED, EventType.COMPLAINED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """The report. `sent_at_known_by` says what the time rests on; times are UTC."""

    sender: str | None
    recipients: tuple[str, ...]
    sent_at: datetime | None
    sent_at_known_by: str
    request_id: str | None
    smtp_id: str | None
    provider_message_id: str | None
    last_event: Seen | None
    bounces_and_complaints: tuple[Seen, ...]
    to_ask: tuple[str, ...]
    missing: tuple[str, ...]


def collect(facts: Facts) -> Escalation:
    """Everything that is known of what support asks for, and what is still missing of it."""
    sent_at, known_by = _sent_at(facts)
    recipients = tuple(one.recipient for one in facts.standings if one.recipient)
    asked = (facts.names.recipient,) if facts.names.recipient else ()
    report = Escalation(
        sender=facts.sender,
        recipients=recipients or asked,
        sent_at=sent_at,
        sent_at_known_by=known_by,
        request_id=facts.names.request_id,
        smtp_id=facts.names.smtp_id,
        provider_message_id=facts.names.provider_message_id,
        last_event=max(facts.events, key=lambda event: event.occurred_at, default=None),
        bounces_and_complaints=tuple(event for event in facts.events if event.type in _TROUBLES),
        to_ask=QUESTIONS,
        missing=(),
    )
    return _with_missing(report)


def _sent_at(facts: Facts) -> tuple[datetime | None, str]:
    if facts.submitted_at:
        return facts.submitted_at, "the announcement of the send"
    if facts.events:
        return min(event.occurred_at for event in facts.events), "the first event of the provider"
    return None, "nothing: ask the sender"


def _with_missing(report: Escalation) -> Escalation:
    wanted = {
        "the sender's address": report.sender,
        "the recipient's address": report.recipients,
        "the approximate time of sending, with its zone": report.sent_at,
        "the request_id that the provider answered": report.request_id or report.provider_message_id or report.smtp_id,
        "the last event": report.last_event,
    }
    missing = tuple(name for name, value in wanted.items() if not value)
    return Escalation(**{name: getattr(report, name) for name in report.__slots__} | {"missing": missing})
