"""The walk through both workflows, and what it comes to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.diagnosis import event_missing, not_received, support_report, verdicts
from shared.diagnosis.facts import Facts
from shared.diagnosis.finding import Finding, Mark
from shared.diagnosis.support_report import Escalation
from shared.diagnosis.verdicts import RecipientVerdict, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The answer: a word, a sentence, each recipient's lot, what was found, what to do, and the report for support."""

    verdict: Verdict
    headline: str
    recipients: tuple[RecipientVerdict, ...]
    findings: tuple[Finding, ...]
    next_steps: tuple[str, ...]
    escalation: Escalation


_INCOMPLETE = frozenset({Verdict.NEVER_SEEN, Verdict.PARTLY_SEEN})


def is_incomplete(facts: Facts) -> bool:
    """Whether an event that came after what was seen is missing."""
    return verdicts.of_message(facts, verdicts.of_recipients(facts)) in _INCOMPLETE


def diagnose(facts: Facts) -> Diagnosis:
    """Judge what is known. The same facts give the same diagnosis."""
    recipients = verdicts.of_recipients(facts)
    verdict = verdicts.of_message(facts, recipients)
    found = [*not_received.findings(facts, recipients), *not_received.gaps(facts)]
    if verdict in _INCOMPLETE or any(finding.code == "gap" for finding in found):
        why_missing = list(event_missing.findings(facts))
        found += why_missing
        if not facts.looked_around:
            found.append(event_missing.NOT_LOOKED_AROUND)
        elif all(finding.mark is not Mark.FAULT for finding in why_missing):
            found.append(event_missing.nothing_wrong(facts))
    return Diagnosis(
        verdict=verdict,
        headline=_headline(verdict, recipients),
        recipients=recipients,
        findings=tuple(found),
        next_steps=tuple(dict.fromkeys(_steps(found))),
        escalation=support_report.collect(facts),
    )


def _headline(verdict: Verdict, recipients: tuple[RecipientVerdict, ...]) -> str:
    if not recipients:
        if verdict is Verdict.SUPPRESSED:
            return "Nothing is known of such a message, and the address is suppressed: it was probably never sent."
        return "Nothing is known of such a message: no event that was processed names it, and no send was announced."
    if len(recipients) == 1:
        return recipients[0].text
    worst = [one for one in recipients if one.verdict is verdict]
    return f"For {len(worst)} of {len(recipients)} recipients: {worst[0].text}"


def _steps(findings: Iterable[Finding]) -> Iterator[str]:
    """What to do about faults first, then about the rest."""
    ordered = sorted(findings, key=lambda finding: finding.mark is not Mark.FAULT)
    return (finding.next_step for finding in ordered if finding.next_step)
