"""First workflow of the providers' support guides: the recipient reports that the message did not arrive."""

from collections.abc import Iterator, Mapping

from shared.diagnosis import advice
from shared.diagnosis.model import (
    Answer,
    DiagnosisInput,
    EventSummary,
    Finding,
    Mark,
    Place,
    RecipientState,
    format_time,
)
from shared.diagnosis.provider_advice import LIFT, Advice
from shared.diagnosis.verdicts import RecipientVerdict, Verdict
from shared.vocabulary import ALL_MAIL, Classification, DeliveryStatus, EventType

_FIRST_EVENT: Mapping[str, EventType] = {"mailchannels": EventType.QUEUED, "cloudmailin": EventType.QUEUED}
"""The event that these providers always send first; other providers begin with an outcome."""

_MARKS: Mapping[Verdict, Mark] = {
    Verdict.DELIVERED: Mark.GOOD,
    Verdict.SEEN: Mark.GOOD,
    Verdict.INBOUND: Mark.GOOD,
    Verdict.UNDERWAY: Mark.NOTE,
    Verdict.DEFERRED: Mark.NOTE,
}
"""Every other verdict is a fault."""

_WITHOUT_ADVICE = frozenset({Verdict.NEVER_SEEN, Verdict.PARTLY_SEEN, Verdict.FOREIGN_ACCOUNT, Verdict.SET_ASIDE})
"""Verdicts whose next steps are those of the other workflow, or of the events that were set aside."""

_SEEN: Mapping[EventType, str] = {
    EventType.OPENED: "Opened",
    EventType.READ: "Read",
    EventType.CLICKED: "A link was followed",
    EventType.REPLIED: "Replied to",
    EventType.AUTORESPONDED: "Answered automatically",
}
"""Events that are evidence that the message reached a mailbox."""
_PROGRAMS: Mapping[str, str] = {
    "scanner": "by a scanner, which opens mail before anybody sees it",
    "privacy_proxy": "by a privacy proxy, which does not show whether a person looked",
}
_PLACES: Mapping[Place, str] = {
    Place.SPAM: "the spam folder",
    Place.JUNK: "the junk folder",
    Place.QUARANTINE: "the quarantine",
    Place.FORWARDING: "the forwarding",
    Place.RULES: "the mailbox rules",
}
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
    found = [finding for one in recipients for finding in _describe_recipient(given, one, states[one.recipient])]
    yield from found
    yield from list_set_aside(given)
    yield from list_answers(given)
    explained = {command for finding in found for command in finding.commands}
    for entry in given.suppressed:
        why = advice.fill_commands(("tidings suppressions why {recipient}",), {"recipient": entry.recipient})
        is_new = not explained.issuperset(why)
        until = f"until {entry.until:%Y-%m-%d}" if entry.until else "permanently"
        mail = "all" if set(entry.types) >= ALL_MAIL else " and ".join(entry.types).replace("_", "-")
        subject = f"The domain of {entry.recipient}" if entry.of_domain else entry.recipient
        yield Finding(
            code="suppressed_here",
            mark=Mark.NOTE,
            text=f"{subject} has been suppressed here since {format_time(entry.since)}, {until}, for "
            f"{mail} mail: {entry.reason.replace('_', ' ')} (by {entry.origin}).",
            next_step="See the reason and the history of the entry:" if is_new else None,
            commands=why if is_new else (),
            evidence=(entry.evidence_event_id,) if entry.evidence_event_id else (),
        )


def list_gaps(given: DiagnosisInput) -> Iterator[Finding]:
    """Yield a finding if the event that this provider always sends first is missing."""
    first = _FIRST_EVENT.get(given.sources[0].provider) if given.sources else None
    if first and given.events and all(event.type not in (first, EventType.UNKNOWN) for event in given.events):
        yield Finding(
            code="gap",
            mark=Mark.NOTE,
            text=f"The {first} event is missing, which this provider sends first: it was refused, lost, or not sent.",
        )


def list_set_aside(given: DiagnosisInput) -> Iterator[Finding]:
    """Yield the authentic events with the ids of this message that changed nothing, and how to make them count."""
    for event in given.own_set_aside:
        accounts = [account for source in given.sources if source.slug == event.source for account in source.accounts]
        commands = [f"tidings sources show {event.source}"]
        if event.account and accounts:
            step = (
                f"If {event.account} is your account, accept it: change customer_handles, tenant_id or "
                f"settings.sub_accounts of the source {event.source}, which accepts {', '.join(accounts)} now. Then "
                "process the request again:"
            )
        elif event.account:
            step = f"If {event.account} is yours, change the source {event.source}. Then process the request again:"
        else:
            step = f"Update Tidings, which does not know this kind of {event.source} yet. Then process it again:"
            commands = []
        yield Finding(
            code="foreign_account" if event.account else "set_aside",
            mark=Mark.FAULT,
            text=f"An authentic event of this message arrived at {format_time(event.received_at)} and changed nothing: "
            f"{event.problem.rstrip('.')}.",
            next_step=step,
            commands=(*commands, f"tidings reprocess --receipt {event.receipt_id}"),
            evidence=(event.event_id,),
        )


def list_answers(given: DiagnosisInput) -> Iterator[Finding]:
    """Yield what recipients answered about their mailboxes."""
    for one in given.answers:
        is_found = one.answer is Answer.FOUND
        said = {
            Answer.FOUND: "found the message in",
            Answer.NOT_FOUND: "did not find the message in",
            Answer.NOT_CHECKED: "has not looked in",
        }[one.answer]
        step = None
        if is_found:
            step = f"Ask {one.recipient} to mark the message as wanted, or to correct the rule that moved it."
        yield Finding(
            code=f"answer_{one.answer}",
            mark=Mark.GOOD if is_found else Mark.NOTE,
            text=f"{one.recipient} {said} {_PLACES[one.place]} ({format_time(one.answered_at)}, recorded by "
            f"{one.recorded_by}).",
            next_step=step,
        )


def describe_seen(event: EventSummary) -> str:
    """Return who caused an open, read, click or reply, as far as the event shows it."""
    if event.type is EventType.AUTORESPONDED:
        return "by the mailbox, so the message reached it"
    if event.automated:
        return _PROGRAMS.get(event.automated, "by a program")
    return f"by a person ({event.by})" if event.by else "by a person, as far as the event shows"


def _describe_message(given: DiagnosisInput) -> Iterator[Finding]:
    asked, named = given.names.recipient, [state.recipient for state in given.states if state.recipient]
    if asked and named and asked not in named:
        more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
        yield Finding(
            code="not_a_recipient",
            mark=Mark.FAULT,
            text=f"{asked} is not among the recipients of this message: {', '.join(named[:_MAX_NAMED])}{more}.",
            next_step=f"Compare {asked} with the address that the message was sent to.",
        )
    elif asked and not named:
        text = f"No event names a recipient. Whether the message went to {asked} is unknown."
        yield Finding(code="no_recipient_named", mark=Mark.NOTE, text=text)
    if given.submitted_at:
        text = f"The application announced the send at {format_time(given.submitted_at)}."
        yield Finding(code="announced", mark=Mark.GOOD, text=text)
    if given.events:
        types = " → ".join(dict.fromkeys(str(event.type) for event in given.events))
        count = "1 event was" if len(given.events) == 1 else f"{len(given.events)} events were"
        yield Finding(
            code="sequence",
            mark=Mark.GOOD,
            text=f"{count} processed: {types}.",
            evidence=tuple(event.id for event in given.events),
        )
    if reconciled := [event.id for event in given.events if event.reconciled]:
        yield Finding(
            code="reconciled",
            mark=Mark.NOTE,
            text=f"{len(reconciled)} of them were missing and arrived after Tidings asked the provider to resend them.",
            evidence=tuple(reconciled),
        )
    alike: dict[tuple[EventType, str | None, str | None], list[EventSummary]] = {}
    for event in given.events:
        if event.type in _SEEN:
            alike.setdefault((event.type, event.recipient, event.automated), []).append(event)
    for (event_type, recipient, automated), found in alike.items():
        last = f", {len(found)} times until {format_time(found[-1].occurred_at)}" if len(found) > 1 else ""
        by = f" by {recipient}" if event_type is EventType.REPLIED and recipient else ""
        of = f" ({recipient})" if recipient and len(named) > 1 and not by else ""
        yield Finding(
            code=f"{event_type}_by_program" if automated else str(event_type),
            mark=Mark.NOTE if automated else Mark.GOOD,
            text=f"{_SEEN[event_type]}{by}{of} at {format_time(found[0].occurred_at)}{last}, "
            f"{describe_seen(found[0])}.",
            evidence=tuple(event.id for event in found),
        )


def _take_row(row: Advice, names: Mapping[str, str | None], *, is_suppressed: bool) -> tuple[str, tuple[str, ...]]:
    """Return the step and the commands of a row. Where nothing is suppressed here, nothing can be lifted."""
    step, commands = advice.fill(row.step, names), advice.fill_commands(row.commands, names)
    if row.commands == LIFT and commands and not is_suppressed:
        return f"{step.removesuffix(':')}. It is not suppressed here now; this shows its history:", commands[:1]
    return step, commands


def _names_of(given: DiagnosisInput, one: RecipientVerdict) -> dict[str, str | None]:
    """Return what steps and commands may name."""
    their_id = given.names.provider_message_id or given.names.request_id or given.names.smtp_id
    return {
        "recipient": one.recipient,
        "domain": one.recipient.rpartition("@")[2] if one.recipient else None,
        "sender_domain": given.sender.rpartition("@")[2] if given.sender else None,
        "source": given.source,
        "api_source": given.source if given.source and given.sources[0].managed else None,
        "message": given.selector,
        "id": given.names.message_id,
        "their_message": f"message {their_id}" if their_id else None,
    }


def _next_step(
    given: DiagnosisInput, one: RecipientVerdict, row: Advice | None, names: Mapping[str, str | None]
) -> tuple[str, tuple[str, ...]]:
    """Return what to do about a recipient, with the commands for it; both are empty if there is nothing to do."""
    if one.verdict is Verdict.QUARANTINED:
        held = [delivery for delivery in given.deliveries if delivery.status == DeliveryStatus.QUARANTINED]
        places = ", ".join(delivery.subscription for delivery in held[:_MAX_NAMED])
        commands = tuple(f"tidings deliveries replay {delivery.id}" for delivery in held[:_MAX_NAMED])
        return f"Read the mail. If it is wanted, release it for {places}:", commands
    if one.verdict is Verdict.SUPPRESSED:
        step = (
            "Nothing is sent to {recipient} until the entry is lifted, here and at the provider. If {recipient} is "
            "known to work and wants the mail, lift it:"
        )
        lifting = ("tidings suppressions why {recipient}", "tidings suppressions lift {recipient}")
        return advice.fill(step, names), advice.fill_commands(lifting, names)
    if one.verdict is Verdict.SEEN:
        return f"Nothing is missing: tell {one.recipient or 'the recipient'} when the message was seen.", ()
    if one.verdict is Verdict.PARTLY_REJECTED:
        step = (
            "Ask the provider's support which reply the mail system of {domain} gave for {recipient}, with the report:"
        )
        return advice.fill(step, names), advice.fill_commands(("tidings diagnose {message} --report",), names)
    if row:
        is_suppressed = any(entry.recipient == one.recipient for entry in given.suppressed)
        return _take_row(row, names, is_suppressed=is_suppressed)
    return "", ()


def _describe_recipient(given: DiagnosisInput, one: RecipientVerdict, state: RecipientState) -> Iterator[Finding]:
    setting = next((event for event in given.events if event.id == state.event_id), None)
    word = setting.word if setting else ""
    if one.verdict in (Verdict.INBOUND, Verdict.QUARANTINED):
        word = "inbound"
    row = None if one.verdict in _WITHOUT_ADVICE else advice.find_advice(given.provider, word, state.status)
    names = _names_of(given, one)
    step, commands = _next_step(given, one, row, names)
    if one.verdict in (Verdict.BOUNCED, Verdict.FAILED) and state.classification:
        by_classification = advice.BY_CLASSIFICATION[Classification(state.classification)]
        step = f"{advice.fill(by_classification, names)} {step}".rstrip()
    meaning = advice.fill(row.meaning, names) if row and one.verdict is not Verdict.PARTLY_REJECTED else ""
    # The headline has the verdict on the only recipient already.
    said = meaning if meaning and len(given.states) == 1 else f"{one.text} {meaning}".rstrip()
    yield Finding(
        code=one.verdict,
        mark=_MARKS.get(one.verdict, Mark.FAULT),
        text=f"{one.recipient or '(recipient not named)'}: {said}",
        next_step=(step if commands or not step.endswith(":") else f"{step[:-1]}.") or None,
        commands=commands,
        evidence=(one.event_id,) if one.event_id else (),
    )
    for name, at in (("complained", state.complained_at), ("unsubscribed", state.unsubscribed_at)):
        if at:
            text = f"{one.recipient} {name} at {format_time(at)}."
            step = f"Do not write to {one.recipient} again."
            yield Finding(code=name, mark=Mark.NOTE, text=text, next_step=step)
