"""The first workflow of the providers' guides: the recipient says that it did not arrive."""

from collections.abc import Iterator, Mapping, Sequence

from shared.diagnosis.facts import Facts, Standing
from shared.diagnosis.finding import Finding, Mark, shown
from shared.diagnosis.verdicts import RecipientVerdict, Verdict
from shared.vocabulary import Classification, EventType

_BEGINS_WITH: Mapping[str, EventType] = {"mailchannels": EventType.QUEUED, "cloudmailin": EventType.QUEUED}
"""What these providers always tell first; the others begin with an outcome."""

_MARKS: Mapping[Verdict, Mark] = {
    Verdict.DELIVERED: Mark.GOOD,
    Verdict.UNDERWAY: Mark.NOTE,
    Verdict.DEFERRED: Mark.NOTE,
}
"""Every other verdict is a fault."""

_BY_VERDICT: Mapping[Verdict, str] = {
    Verdict.DELIVERED: "Ask the recipient to look in spam, quarantine, forwarding rules and mailbox filters: the "
    "recipient's mail system has the message, and only it can say where.",
    Verdict.HELD: "Release the message at the provider, or find out there why it is held.",
    Verdict.DEFERRED: "Wait: nothing has to be sent again. If it stays put off for a day, look at the reason.",
    Verdict.UNDERWAY: "Wait a little, and look again.",
    Verdict.REJECTED: "Read the provider's reason: it is about the request or the account, not about the mailbox.",
    Verdict.SUPPRESSED: "Nothing is sent to this address until the entry ends or is lifted. If the recipient confirms "
    "that the address works and wants the mail: tidings suppressions lift ADDRESS, and remove it at the provider too.",
}
_BY_CLASSIFICATION: Mapping[str, str] = {
    Classification.INVALID_RECIPIENT: "There is no such mailbox: correct the address with whoever gave it.",
    Classification.INACTIVE_MAILBOX: "The mailbox is closed or disabled: reach the recipient by another way.",
    Classification.INVALID_DOMAIN: "The domain takes no mail: look for a mistake in what follows the @.",
    Classification.MAILBOX_FULL: "The mailbox is full: send again when the recipient has made room.",
    Classification.SPAM_BLOCK: "The sender is blocked, not the recipient: look at the sender's reputation.",
    Classification.SPAM_CONTENT: "The content was taken for spam: change it, and look at links and attachments.",
    Classification.POLICY_REJECTION: "A policy refused it (authentication, DMARC, size): mend what the reason names.",
}
_MOST_NAMED = 5
_TRY_AGAIN = "The way to the recipient failed, not the mailbox: send it again later; the reason tells more."


def findings(facts: Facts, recipients: tuple[RecipientVerdict, ...]) -> Iterator[Finding]:
    """What was seen in its order, what became of it for each recipient, and what the suppression list says."""
    yield from _seen(facts) if facts.known else _unknown(facts)
    standings = {standing.recipient or None: standing for standing in facts.standings}
    for one in recipients:
        yield from _lot(one, standings[one.recipient])
    yield from _suppressions(facts)


def gaps(facts: Facts) -> Iterator[Finding]:
    """What should have been seen before what was seen."""
    first = _BEGINS_WITH.get(facts.sources[0].provider) if facts.sources else None
    if first and facts.events and all(event.type is not first for event in facts.events):
        yield Finding(
            code="gap",
            mark=Mark.NOTE,
            text=f"There is no {first} event, with which this provider begins: it was refused, lost, or not sent.",
        )


def _unknown(facts: Facts) -> Iterator[Finding]:
    names = facts.names
    asked = ", ".join(f"{name} {value}" for name in names.__slots__ if (value := getattr(names, name)))
    yield Finding(code="unknown_message", mark=Mark.FAULT, text=f"No message is known by {asked or 'nothing'}.")


def _seen(facts: Facts) -> Iterator[Finding]:
    yield from _other_recipients(facts)
    if facts.submitted_at:
        text = f"The application announced the send at {shown(facts.submitted_at)}."
        yield Finding(code="announced", mark=Mark.GOOD, text=text)
    if facts.events:
        types = " → ".join(dict.fromkeys(str(event.type) for event in facts.events))
        yield Finding(
            code="sequence",
            mark=Mark.GOOD,
            text=f"{len(facts.events)} events were processed: {types}.",
            evidence=tuple(event.id for event in facts.events),
        )
    if reconciled := [event.id for event in facts.events if event.reconciled]:
        yield Finding(
            code="reconciled",
            mark=Mark.NOTE,
            text=f"{len(reconciled)} of them had been missing, and came when the provider was asked for them.",
            evidence=tuple(reconciled),
        )


def _other_recipients(facts: Facts) -> Iterator[Finding]:
    """What to know where the recipient who was asked about is not one that an event named."""
    asked, named = facts.names.recipient, [one.recipient for one in facts.standings if one.recipient]
    if asked is None or asked in named:
        return
    if named:
        yield Finding(
            code="not_a_recipient",
            mark=Mark.FAULT,
            text=f"{asked} is not among the recipients of this message: {_some(named)}.",
            next_step="See whether the address is written as it was sent to.",
        )
    else:
        text = f"No event names a recipient: whether this is about {asked} is not known."
        yield Finding(code="no_recipient_named", mark=Mark.NOTE, text=text)


def _some(recipients: Sequence[str]) -> str:
    more = len(recipients) - _MOST_NAMED
    return ", ".join(recipients[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _lot(one: RecipientVerdict, standing: Standing) -> Iterator[Finding]:
    yield Finding(
        code=one.verdict,
        mark=_MARKS.get(one.verdict, Mark.FAULT),
        text=f"{one.recipient or '(recipient not named)'}: {one.text}",
        next_step=_advice(one.verdict, standing.classification),
        evidence=(one.event_id,) if one.event_id else (),
    )
    for name, at in (("complained", standing.complained_at), ("unsubscribed", standing.unsubscribed_at)):
        if at:
            text = f"{one.recipient} {name} at {shown(at)}."
            yield Finding(code=name, mark=Mark.NOTE, text=text, next_step="Do not write to this recipient again.")


def _advice(verdict: Verdict, classification: str | None) -> str | None:
    if verdict in (Verdict.BOUNCED, Verdict.FAILED):
        return _BY_CLASSIFICATION.get(classification or "", _TRY_AGAIN)
    return _BY_VERDICT.get(verdict)


def _suppressions(facts: Facts) -> Iterator[Finding]:
    for entry in facts.suppressed:
        until = f"until {entry.until:%Y-%m-%d}" if entry.until else "for good"
        whose = f"the domain of {entry.recipient}" if entry.of_domain else entry.recipient
        yield Finding(
            code="suppressed_here",
            mark=Mark.NOTE,
            text=f"{whose} is suppressed here since {shown(entry.since)}, {until}, for "
            f"{' and '.join(sorted(entry.types))} mail: {entry.reason.replace('_', ' ')} (by {entry.origin}).",
            next_step=f"See why, and what happened before: tidings suppressions why {entry.recipient}",
            evidence=(entry.evidence_event_id,) if entry.evidence_event_id else (),
        )
