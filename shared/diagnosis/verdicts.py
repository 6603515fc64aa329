"""The verdict on each recipient: one word and one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from shared.diagnosis.model import ActiveSuppression, DiagnosisInput, RecipientState, format_time
from shared.vocabulary import ALL_MAIL, Status


class Verdict(StrEnum):
    """The verdict, worst first: a message has the worst verdict of its recipients."""

    NEVER_SEEN = "never_seen"
    PARTLY_SEEN = "partly_seen"
    BOUNCED = "bounced"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    REJECTED = "rejected"
    HELD = "held"
    DEFERRED = "deferred"
    UNDERWAY = "underway"
    DELIVERED = "delivered"


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
}


def judge_recipients(given: DiagnosisInput) -> tuple[RecipientVerdict, ...]:
    """Return the verdict on each recipient; empty if the message is unknown."""
    return tuple(_judge(given, state) for state in given.states)


def judge_message(given: DiagnosisInput, recipients: tuple[RecipientVerdict, ...]) -> Verdict:
    """Return the verdict on the message: the worst of its recipients."""
    order = list(Verdict)
    if recipients:
        return min((one.verdict for one in recipients), key=order.index)
    # An application that checks the suppression list before it sends does not send: then no message and no id exists.
    return Verdict.SUPPRESSED if given.suppressed and not given.names.ids else Verdict.NEVER_SEEN


def _judge(given: DiagnosisInput, state: RecipientState) -> RecipientVerdict:
    entry = _find_suppression(given, state)
    verdict = _choose(given, state, entry)
    at = format_time(state.status_at)
    if verdict is Verdict.SUPPRESSED:
        text = f"The provider did not attempt delivery{_explain(state)}, at {at}: the address "
        text += (
            f"has been suppressed here since {format_time(entry.since)} because of {_spaced(entry.reason)}."
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


def _choose(given: DiagnosisInput, state: RecipientState, entry: ActiveSuppression | None) -> Verdict:
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


def _find_suppression(given: DiagnosisInput, state: RecipientState) -> ActiveSuppression | None:
    """Return the entry that applied to a recipient when its status was set: one for all mail first, then the oldest."""
    found = (
        entry
        for entry in given.suppressed
        if entry.recipient == state.recipient and (state.status_at is None or entry.since <= state.status_at)
    )
    return min(found, key=lambda entry: (not ALL_MAIL.issubset(entry.types), entry.since), default=None)


def _explain(state: RecipientState) -> str:
    answer = " ".join(filter(None, (state.codes, f"“{state.reason}”" if state.reason else "")))
    text = ": ".join(filter(None, (_spaced(state.classification or ""), answer)))
    return f" ({text})" if text else ""


def _spaced(name: str) -> str:
    return name.replace("_", " ")
