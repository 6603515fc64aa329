"""Runs both workflows on what is known of a message, and names the next steps."""

from dataclasses import dataclass

from shared.diagnosis import event_missing, not_received, verdicts
from shared.diagnosis.model import DiagnosisInput, Finding, Mark
from shared.diagnosis.report import Escalation, collect_report
from shared.diagnosis.verdicts import RecipientVerdict, Verdict

_INCOMPLETE = frozenset({Verdict.NEVER_SEEN, Verdict.PARTLY_SEEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The verdict with a sentence, the verdict on each recipient, the findings, the next steps, and the report.

    Findings and steps about this message come first; those about its source only follow.
    """

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
    if verdict in _INCOMPLETE:
        if not given.events:
            findings.append(event_missing.confirm_accepted(given))
        if not given.operator_view:
            findings.append(event_missing.ASK_OPERATOR)
    if given.operator_view and (verdict in _INCOMPLETE or any(finding.code == "gap" for finding in findings)):
        causes = list(event_missing.list_findings(given))
        around = list(event_missing.list_around(given))
        nothing_wrong = all(finding.mark is not Mark.FAULT for finding in (*causes, *around))
        findings += causes
        if verdict in _INCOMPLETE:
            findings.append(event_missing.escalate(given, nothing_wrong=nothing_wrong))
        findings += around
    return Diagnosis(
        verdict=verdict,
        headline=choose_headline(given, verdict, recipients),
        recipients=recipients,
        findings=tuple(findings),
        next_steps=tuple(dict.fromkeys(finding.whole_step for finding in findings if finding.whole_step)),
        escalation=collect_report(given),
    )


def choose_headline(given: DiagnosisInput, verdict: Verdict, recipients: tuple[RecipientVerdict, ...]) -> str:
    """Return the verdict on the message in a sentence."""
    if given.own_set_aside and not recipients:
        problem = given.own_set_aside[0].problem.rstrip(".")
        return f"The provider reported this message, but the event changed nothing here: {problem}."
    if not recipients and verdict is Verdict.SUPPRESSED:
        return "No such message is known, and the address is suppressed: it was probably never sent."
    if not recipients:
        return "No such message is known: no processed event names it, and no send was announced."
    if len(recipients) == 1:
        return recipients[0].text
    worst = [one for one in recipients if one.verdict is verdict]
    return f"For {len(worst)} of {len(recipients)} recipients: {worst[0].text}"
