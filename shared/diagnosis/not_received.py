"""First workflow of the providers' support guides: the recipient reports that the message did not arrive."""

from collections.abc import Iterator, Mapping

from shared.diagnosis.model import DiagnosisInput, Finding, Mark, RecipientState, format_time
from shared.diagnosis.verdicts import RecipientVerdict, Verdict
from shared.vocabulary import Classification, EventType

_FIRST_EVENT: Mapping[str, EventType] = {"mailchannels": EventType.QUEUED, "cloudmailin": EventType.QUEUED}
"""The event that these providers always send first; other providers begin with an outcome."""

_MARKS: Mapping[Verdict, Mark] = {
    Verdict.DELIVERED: Mark.GOOD,
    Verdict.UNDERWAY: Mark.NOTE,
    Verdict.DEFERRED: Mark.NOTE,
}
"""Every other verdict is a fault."""

_NEXT_STEPS: Mapping[Verdict, str] = {
    Verdict.DELIVERED: "Ask the recipient to look in spam, quarantine, forwarding rules and mailbox filters: the "
    "recipient's mail system has the message, and only that system shows where.",
    Verdict.HELD: "Release the message at the provider, or find out there why it is held.",
    Verdict.DEFERRED: "Wait; do not send again. If delivery is still deferred after a day, check the reason.",
    Verdict.UNDERWAY: "Wait a few minutes, then check again.",
    Verdict.REJECTED: "Read the provider's reason: it concerns the request or the account, not the mailbox.",
    Verdict.SUPPRESSED: "Nothing is sent to this address until the entry ends or is lifted. If the recipient confirms "
    "that the address works and wants the mail: tidings suppressions lift ADDRESS, and remove it at the provider too.",
}
_NEXT_STEPS_AFTER_FAILURE: Mapping[str, str] = {
    Classification.INVALID_RECIPIENT: "There is no such mailbox: ask for the correct address.",
    Classification.INACTIVE_MAILBOX: "The mailbox is closed or disabled: contact the recipient in another way.",
    Classification.INVALID_DOMAIN: "The domain accepts no mail: check the part after the @ for a mistake.",
    Classification.MAILBOX_FULL: "The mailbox is full: send again when the recipient has freed space.",
    Classification.SPAM_BLOCK: "The sender is blocked, not the recipient: check the sender's reputation.",
    Classification.SPAM_CONTENT: "The content was classified as spam: change it, and check links and attachments.",
    Classification.POLICY_REJECTION: "A policy refused the message (authentication, DMARC, size): fix what the reason "
    "names.",
}
_SEND_AGAIN = "The failure does not concern the mailbox: send again later. The reason has details."
_MAX_NAMED = 5


def list_findings(given: DiagnosisInput, recipients: tuple[RecipientVerdict, ...]) -> Iterator[Finding]:
    """Yield what is known of the message, the verdict on each recipient, and the suppressions that apply."""
    if given.known:
        yield from _describe_message(given)
    else:
        names = given.names
        asked = ", ".join(f"{name} {value}" for name in names.__slots__ if (value := getattr(names, name)))
        text = f"No message is known with {asked or 'these ids'}."
        yield Finding(code="unknown_message", mark=Mark.FAULT, text=text)
    states = {state.recipient or None: state for state in given.states}
    for one in recipients:
        yield from _describe_recipient(one, states[one.recipient])
    for entry in given.suppressed:
        until = f"until {entry.until:%Y-%m-%d}" if entry.until else "permanently"
        subject = f"The domain of {entry.recipient}" if entry.of_domain else entry.recipient
        yield Finding(
            code="suppressed_here",
            mark=Mark.NOTE,
            text=f"{subject} has been suppressed here since {format_time(entry.since)}, {until}, for "
            f"{' and '.join(sorted(entry.types))} mail: {entry.reason.replace('_', ' ')} (by {entry.origin}).",
            next_step=f"See the reason and the history: tidings suppressions why {entry.recipient}",
            evidence=(entry.evidence_event_id,) if entry.evidence_event_id else (),
        )


def list_gaps(given: DiagnosisInput) -> Iterator[Finding]:
    """Yield a finding if the event that this provider always sends first is missing."""
    first = _FIRST_EVENT.get(given.sources[0].provider) if given.sources else None
    if first and given.events and all(event.type is not first for event in given.events):
        yield Finding(
            code="gap",
            mark=Mark.NOTE,
            text=f"The {first} event is missing, which this provider sends first: it was refused, lost, or not sent.",
        )


def _describe_message(given: DiagnosisInput) -> Iterator[Finding]:
    asked, named = given.names.recipient, [state.recipient for state in given.states if state.recipient]
    if asked and named and asked not in named:
        more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
        yield Finding(
            code="not_a_recipient",
            mark=Mark.FAULT,
            text=f"{asked} is not among the recipients of this message: {', '.join(named[:_MAX_NAMED])}{more}.",
            next_step="Compare the address with the one that the message was sent to.",
        )
    elif asked and not named:
        text = f"No event names a recipient. Whether the message went to {asked} is unknown."
        yield Finding(code="no_recipient_named", mark=Mark.NOTE, text=text)
    if given.submitted_at:
        text = f"The application announced the send at {format_time(given.submitted_at)}."
        yield Finding(code="announced", mark=Mark.GOOD, text=text)
    if given.events:
        types = " → ".join(dict.fromkeys(str(event.type) for event in given.events))
        yield Finding(
            code="sequence",
            mark=Mark.GOOD,
            text=f"{len(given.events)} events were processed: {types}.",
            evidence=tuple(event.id for event in given.events),
        )
    if reconciled := [event.id for event in given.events if event.reconciled]:
        yield Finding(
            code="reconciled",
            mark=Mark.NOTE,
            text=f"{len(reconciled)} of them were missing and arrived after Tidings asked the provider to resend them.",
            evidence=tuple(reconciled),
        )


def _describe_recipient(one: RecipientVerdict, state: RecipientState) -> Iterator[Finding]:
    next_step = _NEXT_STEPS.get(one.verdict)
    if one.verdict in (Verdict.BOUNCED, Verdict.FAILED):
        next_step = _NEXT_STEPS_AFTER_FAILURE.get(state.classification or "", _SEND_AGAIN)
    yield Finding(
        code=one.verdict,
        mark=_MARKS.get(one.verdict, Mark.FAULT),
        text=f"{one.recipient or '(recipient not named)'}: {one.text}",
        next_step=next_step,
        evidence=(one.event_id,) if one.event_id else (),
    )
    for name, at in (("complained", state.complained_at), ("unsubscribed", state.unsubscribed_at)):
        if at:
            text = f"{one.recipient} {name} at {format_time(at)}."
            yield Finding(code=name, mark=Mark.NOTE, text=text, next_step="Do not write to this recipient again.")
