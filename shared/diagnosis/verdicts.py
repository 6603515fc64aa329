"""The verdict on each recipient: one word and one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from shared.classification.classify import write_reply
from shared.diagnosis.model import ActiveSuppression, DiagnosisInput, EventSummary, RecipientState, format_time
from shared.vocabulary import ALL_MAIL, DeliveryStatus, EventType, Status, SuppressionReason


class Verdict(StrEnum):
    """The verdict, worst first: a message has the worst verdict of its recipients.

    Foreign account and set aside: authentic events changed nothing. Inbound and quarantined: mail that was received.
    """

    FOREIGN_ACCOUNT = "foreign_account"
    SET_ASIDE = "set_aside"
    NEVER_SEEN = "never_seen"
    PARTLY_SEEN = "partly_seen"
    BOUNCED = "bounced"
    PARTLY_REJECTED = "partly_rejected"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    REJECTED = "rejected"
    HELD = "held"
    QUARANTINED = "quarantined"
    DEFERRED = "deferred"
    UNDERWAY = "underway"
    INBOUND = "inbound"
    DELIVERED = "delivered"
    SEEN = "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientVerdict:
    """The verdict on one recipient, with its sentence and the event that it rests on."""

    recipient: str | None
    verdict: Verdict
    text: str
    event_id: str | None = None


MAX_SILENCE = timedelta(hours=1)
"""If no event follows within this time, one is missing."""

MAX_RETRY_PERIOD = timedelta(days=5)
"""Mail servers give up after four to five days (RFC 5321 4.5.4.1): an older deferral has ended without an event."""

_BY_STATUS: Mapping[Status, Verdict] = {
    Status.DELIVERED: Verdict.DELIVERED,
    Status.BOUNCED: Verdict.BOUNCED,
    Status.FAILED: Verdict.FAILED,
    Status.HELD: Verdict.HELD,
}

BY_PERSON: Mapping[EventType, str] = {
    EventType.OPENED: "opened it",
    EventType.READ: "read it",
    EventType.CLICKED: "followed a link in it",
    EventType.REPLIED: "replied to it",
    EventType.COMPLAINED: "reported it as spam",
    EventType.UNSUBSCRIBED: "unsubscribed by it",
}
"""What only a person does, unless the event is flagged as that of a program."""

_MAY_BE_SEEN = frozenset({None, Status.SUBMITTED, Status.QUEUED, Status.SENT, Status.DEFERRED, Status.DELIVERED})
"""The statuses that an open outweighs: the message arrived, although no `delivered` event says so."""

_SUPPRESSION_WORDS = ("suppress", "unsubscri")
"""Parts of words in a provider's reason that mean that the provider suppresses the address."""

_SENTENCES: Mapping[Verdict, str] = {
    Verdict.DELIVERED: "The recipient's mail system accepted the message at {at}. This does not promise that the"
    " message is in the inbox, or that anybody has seen it.",
    Verdict.BOUNCED: "The recipient's mail system permanently refused the message at {at}{why}.",
    Verdict.FAILED: "The provider gave up on the message at {at}{why}.",
    Verdict.REJECTED: "The provider did not attempt delivery{why}, at {at}.",
    Verdict.HELD: "The provider has held the message since {at}{why}. It stays there until somebody releases it.",
    Verdict.DEFERRED: "Delivery was deferred at {at}{why}. The provider retries by itself.",
    Verdict.UNDERWAY: "The message has been {status} since {at}. The next event may still arrive.",
    Verdict.PARTLY_REJECTED: "The recipient's mail system took the message for other recipients at {at} and refused it"
    " for this one{why}. It gave no reason for this recipient alone.",
    Verdict.INBOUND: "This is mail that was received for this address at {at}. Nothing was sent.",
    Verdict.QUARANTINED: "This is mail that was received for this address at {at}. It is held back from"
    " {subscriptions} because of its spam score{score}, until somebody releases it.",
}


def judge_recipients(given: DiagnosisInput) -> tuple[RecipientVerdict, ...]:
    """Return the verdict on each recipient; empty if the message is unknown."""
    return tuple(_judge(given, state) for state in given.states)


def judge_message(given: DiagnosisInput, recipients: tuple[RecipientVerdict, ...]) -> Verdict:
    """Return the verdict on the message: the worst of its recipients."""
    order = list(Verdict)
    if recipients:
        return min((one.verdict for one in recipients), key=order.index)
    if given.own_set_aside:
        return Verdict.FOREIGN_ACCOUNT if any(event.account for event in given.own_set_aside) else Verdict.SET_ASIDE
    # An application that checks the suppression list before it sends does not send: then no message and no id exists.
    return Verdict.SUPPRESSED if given.suppressed and not given.names.ids else Verdict.NEVER_SEEN


def _judge(given: DiagnosisInput, state: RecipientState) -> RecipientVerdict:
    # The entry that applied when the status was set: one for all mail first, then the oldest.
    entry = min(
        (
            entry
            for entry in given.suppressed
            if entry.recipient == state.recipient and (state.status_at is None or entry.since <= state.status_at)
        ),
        key=lambda entry: (not ALL_MAIL.issubset(entry.types), entry.since),
        default=None,
    )
    verdict = _choose(given, state, entry)
    at = format_time(state.status_at)
    received = [event.occurred_at for event in given.events if event.type is EventType.INBOUND]
    if verdict in (Verdict.INBOUND, Verdict.QUARANTINED):
        count = sum(delivery.status == DeliveryStatus.QUARANTINED for delivery in given.deliveries)
        score = "" if given.spam_score is None else f" of {given.spam_score:g}"
        held_from = f"{count} subscription{'' if count == 1 else 's'}"
        text = _SENTENCES[verdict].format(at=format_time(min(received)), subscriptions=held_from, score=score)
    elif verdict is Verdict.SEEN:
        seen = min(find_person(given, state), key=lambda event: event.occurred_at)
        accepted = f"accepted the message at {at}" if state.status is Status.DELIVERED else "has the message"
        text = f"The recipient's mail system {accepted}, and a person {BY_PERSON[seen.type]}"
        text += f" at {format_time(seen.occurred_at)}."
    elif verdict is Verdict.SET_ASIDE:
        problem = next(event.problem or "" for event in given.events if event.type is EventType.UNKNOWN).rstrip(".")
        text = f"Events of this message have arrived, but they changed nothing: {problem}."
    elif verdict is Verdict.SUPPRESSED:
        text = f"The provider did not attempt delivery{_explain(state)}, at {at}: the address "
        text += (
            f"has been suppressed here since {format_time(entry.since)} "
            f"{'by hand' if entry.reason == SuppressionReason.MANUAL else f'because of {_spaced(entry.reason)}'}."
            if entry
            else "is suppressed there."
        )
    elif verdict is Verdict.NEVER_SEEN:
        text = f"The send was announced at {format_time(given.submitted_at)}. No event has arrived since."
    elif verdict is Verdict.PARTLY_SEEN and state.status in (None, Status.SUBMITTED):
        text = "Events have arrived for other recipients, but none for this one."
    elif verdict is Verdict.PARTLY_SEEN:
        text = f"Last known status: {state.status} ({at}). No final event has arrived."
    else:
        text = _SENTENCES[verdict].format(at=at, why=_explain(state), status=state.status)
    return RecipientVerdict(recipient=state.recipient or None, verdict=verdict, text=text, event_id=state.event_id)


def judge_by_events(given: DiagnosisInput, state: RecipientState) -> Verdict | None:
    """Return the verdict that the events give rather than the status; None if the status decides."""
    types = {event.type for event in given.events}
    if EventType.INBOUND in types and state.status is None:
        held = any(delivery.status == DeliveryStatus.QUARANTINED for delivery in given.deliveries)
        return Verdict.QUARANTINED if held else Verdict.INBOUND
    if types == {EventType.UNKNOWN} and state.status in (None, Status.SUBMITTED):
        return Verdict.SET_ASIDE
    if state.status in _MAY_BE_SEEN and find_person(given, state):
        return Verdict.SEEN
    # MailChannels reports 2xx if the server took the message for other recipients.
    if state.status is Status.BOUNCED and state.codes.startswith("2"):
        return Verdict.PARTLY_REJECTED
    return None


def _choose(given: DiagnosisInput, state: RecipientState, entry: ActiveSuppression | None) -> Verdict:
    if by_events := judge_by_events(given, state):
        return by_events
    if state.status and state.status in _BY_STATUS:
        return _BY_STATUS[state.status]
    if state.status is Status.REJECTED:
        # The cause is a suppression if the provider's reason says so. If there is no reason, any entry of the list is
        # taken for the cause; with another reason, only an entry for all mail.
        reason = (state.reason or "").lower()
        if not reason:
            is_cause = entry is not None
        else:
            is_cause = any(word in reason for word in _SUPPRESSION_WORDS) or (
                entry is not None and ALL_MAIL.issubset(entry.types)
            )
        return Verdict.SUPPRESSED if is_cause else Verdict.REJECTED
    since = state.status_at or given.submitted_at or given.now
    if state.status is Status.DEFERRED:
        return Verdict.DEFERRED if given.now - since < MAX_RETRY_PERIOD else Verdict.PARTLY_SEEN
    if given.now - since < MAX_SILENCE:
        return Verdict.UNDERWAY
    if state.status in (None, Status.SUBMITTED) and not given.events:
        return Verdict.NEVER_SEEN
    return Verdict.PARTLY_SEEN


def find_person(given: DiagnosisInput, state: RecipientState) -> list[EventSummary]:
    """Return the events that only a person causes, and that this recipient caused.

    An event without a recipient counts if the message has only one.
    """
    alone = len(given.states) == 1
    return [
        event
        for event in given.events
        if event.type in BY_PERSON
        and event.automated is None
        and (event.recipient == (state.recipient or None) or (alone and event.recipient is None))
    ]


def _explain(state: RecipientState) -> str:
    answer = write_reply(state.codes.split(), f"“{state.reason}”" if state.reason else None)
    text = ": ".join(filter(None, (_spaced(state.classification or ""), answer)))
    return f" ({text})" if text else ""


def _spaced(name: str) -> str:
    return name.replace("_", " ")
