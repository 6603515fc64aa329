"""What is to be said of one recipient, in one word and one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from shared.diagnosis.facts import Facts, Seen, Standing, Suppressed
from shared.diagnosis.finding import shown
from shared.vocabulary import ALL_MAIL, Status


class Verdict(StrEnum):
    """The word. Of several recipients' the first in this order is the message's."""

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
    """The word and the sentence about one recipient."""

    recipient: str | None
    verdict: Verdict
    text: str
    event_id: str | None = None


PATIENCE = timedelta(hours=1)
"""How long a message may be under way before the next word of its provider is missed."""

LONGEST_RETRIES = timedelta(days=5)
"""Mail servers give up after four to five days (RFC 5321 4.5.4.1): what was put off before has ended, unheard of."""

_OUTCOMES: Mapping[Status, Verdict] = {
    Status.DELIVERED: Verdict.DELIVERED,
    Status.BOUNCED: Verdict.BOUNCED,
    Status.FAILED: Verdict.FAILED,
    Status.HELD: Verdict.HELD,
}

_OF_SUPPRESSION = ("suppress", "unsubscri")
"""What a provider's reason has in it when that is the reason."""

_SENTENCES: Mapping[Verdict, str] = {
    Verdict.DELIVERED: "The recipient's mail system accepted the message at {at}. That is acceptance: it does not"
    " promise that the message is in the inbox, nor that anybody saw it.",
    Verdict.BOUNCED: "The message was refused for good at {at}{why}.",
    Verdict.FAILED: "The provider gave the message up at {at}{why}.",
    Verdict.REJECTED: "The provider did not try to deliver the message{why}, at {at}.",
    Verdict.HELD: "The provider has held the message since {at}{why}: it goes no further until somebody releases it.",
    Verdict.DEFERRED: "Delivery was put off at {at}{why}; the provider tries again by itself.",
    Verdict.UNDERWAY: "The message is {status} since {at}; the next word of its provider may still come.",
}


def of_recipients(facts: Facts) -> tuple[RecipientVerdict, ...]:
    """What is to be said of each recipient; of nobody where nothing is known."""
    return tuple(_of(facts, standing) for standing in facts.standings)


def of_message(facts: Facts, recipients: tuple[RecipientVerdict, ...]) -> Verdict:
    """The message's verdict: that of the recipient who fared worst."""
    order = list(Verdict)
    if recipients:
        return min((one.verdict for one in recipients), key=order.index)
    # Whoever asks the list before sending does not send: then there is no message to be seen, and no id of one.
    return Verdict.SUPPRESSED if facts.suppressed and not facts.names.ids else Verdict.NEVER_SEEN


def _of(facts: Facts, standing: Standing) -> RecipientVerdict:
    verdict = _verdict(facts, standing)
    return RecipientVerdict(
        recipient=standing.recipient or None,
        verdict=verdict,
        text=_sentence(facts, standing, verdict),
        event_id=standing.event_id,
    )


def _verdict(facts: Facts, standing: Standing) -> Verdict:
    if standing.status and standing.status in _OUTCOMES:
        return _OUTCOMES[standing.status]
    if standing.status is Status.REJECTED:
        return Verdict.SUPPRESSED if _is_suppressed(facts, standing) else Verdict.REJECTED
    since = standing.status_at or facts.submitted_at or facts.now
    if standing.status is Status.DEFERRED:
        return Verdict.DEFERRED if facts.now - since < LONGEST_RETRIES else Verdict.PARTLY_SEEN
    if facts.now - since < PATIENCE:
        return Verdict.UNDERWAY
    if standing.status in (None, Status.SUBMITTED) and not _concerning(facts.events, standing.recipient):
        return Verdict.NEVER_SEEN if not facts.events else Verdict.PARTLY_SEEN
    return Verdict.PARTLY_SEEN


def _is_suppressed(facts: Facts, standing: Standing) -> bool:
    """Whether a rejection was for the sake of a suppression: the provider says so, or nothing else and the list does.

    An entry for some mail only says nothing of a rejection for which there is another reason.
    """
    entry, reason = _entry_for(facts, standing), (standing.reason or "").lower()
    if not reason or any(word in reason for word in _OF_SUPPRESSION):
        return bool(reason) or entry is not None
    return entry is not None and ALL_MAIL.issubset(entry.types)


def _entry_for(facts: Facts, standing: Standing) -> Suppressed | None:
    """The entry of the list that held for a recipient when the status came about.

    Of several one for all mail, and of those the oldest.
    """
    found = (
        entry
        for entry in facts.suppressed
        if entry.recipient == standing.recipient and (standing.status_at is None or entry.since <= standing.status_at)
    )
    return min(found, key=lambda entry: (not ALL_MAIL.issubset(entry.types), entry.since), default=None)


def _concerning(events: tuple[Seen, ...], recipient: str) -> bool:
    return any(event.recipient in (recipient, None) for event in events)


def _sentence(facts: Facts, standing: Standing, verdict: Verdict) -> str:
    at = shown(standing.status_at)
    if verdict is Verdict.SUPPRESSED:
        return _suppressed(facts, standing)
    if verdict is Verdict.NEVER_SEEN:
        return f"The send was announced at {shown(facts.submitted_at)}, and its provider has said nothing of it since."
    if verdict is Verdict.PARTLY_SEEN:
        if standing.status in (None, Status.SUBMITTED):
            return "Its provider has told of other recipients, and nothing of this one."
        return f"The last that its provider told is {standing.status}, at {at}; how it ended was never heard of."
    return _SENTENCES[verdict].format(at=at, why=_why(standing), status=standing.status)


def _suppressed(facts: Facts, standing: Standing) -> str:
    text = (
        f"The provider did not try to deliver the message{_why(standing)}, at {shown(standing.status_at)}: the address"
    )
    entry = _entry_for(facts, standing)
    if entry is None:
        return f"{text} is suppressed there."
    return f"{text} is suppressed, here since {shown(entry.since)} because of {_words(entry.reason)}."


def _why(standing: Standing) -> str:
    said = " ".join(filter(None, (standing.codes, f"“{standing.reason}”" if standing.reason else "")))
    parts = [_words(standing.classification) if standing.classification else "", said]
    text = ": ".join(filter(None, parts))
    return f" ({text})" if text else ""


def _words(name: str) -> str:
    return name.replace("_", " ")
