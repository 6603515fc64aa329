"""Runs both workflows on what is known of a message, and collects the report for the provider's support."""

from dataclasses import dataclass, replace
from datetime import datetime

from shared.diagnosis import event_missing, not_received, verdicts
from shared.diagnosis.model import DiagnosisInput, EventSummary, Finding, Mark
from shared.diagnosis.verdicts import RecipientVerdict, Verdict
from shared.vocabulary import EventType

QUESTIONS = (
    "Has the recipient checked the spam or junk folder?",
    "Has the recipient checked the quarantine, or asked the mail administrator to?",
    "Has the recipient checked forwarding?",
    "Has the recipient checked the mailbox's rules and filters?",
)
"""Questions of the provider's support that only the recipient can answer."""

_PROBLEMS = frozenset({EventType.BOUNCED, EventType.FAILED, EventType.REJECTED, EventType.COMPLAINED})
_INCOMPLETE = frozenset({Verdict.NEVER_SEEN, Verdict.PARTLY_SEEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """The facts that a provider's support asks for. `sent_at_known_by` is the origin of the time; times are UTC."""

    sender: str | None
    recipients: tuple[str, ...]
    sent_at: datetime | None
    sent_at_known_by: str
    request_id: str | None
    smtp_id: str | None
    provider_message_id: str | None
    last_event: EventSummary | None
    bounces_and_complaints: tuple[EventSummary, ...]
    to_ask: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The verdict with a sentence, the verdict on each recipient, the findings, the next steps, and the report."""

    verdict: Verdict
    headline: str
    recipients: tuple[RecipientVerdict, ...]
    findings: tuple[Finding, ...]
    next_steps: tuple[str, ...]
    escalation: Escalation


def is_incomplete(given: DiagnosisInput) -> bool:
    """Return whether a later event is missing."""
    return verdicts.judge_message(given, verdicts.judge_recipients(given)) in _INCOMPLETE


def diagnose(given: DiagnosisInput) -> Diagnosis:
    """Diagnose a message. The same input always gives the same diagnosis."""
    recipients = verdicts.judge_recipients(given)
    verdict = verdicts.judge_message(given, recipients)
    findings = [*not_received.list_findings(given, recipients), *not_received.list_gaps(given)]
    if verdict in _INCOMPLETE or any(finding.code == "gap" for finding in findings):
        causes = list(event_missing.list_findings(given))
        findings += causes
        if not given.operator_view:
            findings.append(event_missing.ASK_OPERATOR)
        elif all(finding.mark is not Mark.FAULT for finding in causes):
            findings.append(event_missing.ask_provider(given))
    if not recipients:
        headline = "No such message is known: no processed event names it, and no send was announced."
        if verdict is Verdict.SUPPRESSED:
            headline = "No such message is known, and the address is suppressed: it was probably never sent."
    elif len(recipients) == 1:
        headline = recipients[0].text
    else:
        worst = [one for one in recipients if one.verdict is verdict]
        headline = f"For {len(worst)} of {len(recipients)} recipients: {worst[0].text}"
    faults_first = sorted(findings, key=lambda finding: finding.mark is not Mark.FAULT)
    return Diagnosis(
        verdict=verdict,
        headline=headline,
        recipients=recipients,
        findings=tuple(findings),
        next_steps=tuple(dict.fromkeys(finding.next_step for finding in faults_first if finding.next_step)),
        escalation=collect_report(given),
    )


def collect_report(given: DiagnosisInput) -> Escalation:
    """Return the facts that a provider's support asks for, and the names of those that are missing."""
    sent_at, known_by = None, "nothing; ask the sender"
    if given.submitted_at:
        sent_at, known_by = given.submitted_at, "the announcement of the send"
    elif given.events:
        sent_at, known_by = min(event.occurred_at for event in given.events), "the first event of the provider"
    recipients = tuple(state.recipient for state in given.states if state.recipient)
    names = given.names
    report = Escalation(
        sender=given.sender,
        recipients=recipients or ((names.recipient,) if names.recipient else ()),
        sent_at=sent_at,
        sent_at_known_by=known_by,
        request_id=names.request_id,
        smtp_id=names.smtp_id,
        provider_message_id=names.provider_message_id,
        last_event=max(given.events, key=lambda event: event.occurred_at, default=None),
        bounces_and_complaints=tuple(event for event in given.events if event.type in _PROBLEMS),
        to_ask=QUESTIONS,
    )
    required = {
        "the sender's address": report.sender,
        "the recipient's address": report.recipients,
        "the approximate time of sending, with its zone": report.sent_at,
        "the request_id that the provider returned": report.request_id or report.provider_message_id or report.smtp_id,
        "the last event": report.last_event,
    }
    return replace(report, missing=tuple(name for name, value in required.items() if not value))
