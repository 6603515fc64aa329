"""Why a delivery failed, and whether for good: the judgements of the tables, applied in their order."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from shared.classification import diagnostic_text
from shared.classification.enhanced_codes import ENHANCED, SUBJECTS
from shared.classification.patterns import CONDEMNING
from shared.classification.provider_codes import REPLIES, WORDS, Judgement
from shared.vocabulary import Classification, ClassificationCode, EventType


class Codes(NamedTuple):
    """What a server answered: `smtp_status` is three digits, `enhanced_code` x.y.z; None if it gave none."""

    smtp_status: str | None
    enhanced_code: str | None


class Hardness(StrEnum):
    """What a failure says of the address: hard ones last, soft ones may pass, the others are not its fault."""

    HARD = "hard"
    SOFT = "soft"
    NONE = "none"


def _by_telling(judgements: Mapping[str, Judgement]) -> tuple[dict[str, Classification], dict[str, Classification]]:
    """What tells enough by itself, and what is asked later; what says nothing is in neither."""
    known = {key: row for key, row in judgements.items() if row.classification is not Classification.UNCLASSIFIED}
    telling = {key: row.classification for key, row in known.items() if not row.vague}
    return telling, {key: row.classification for key, row in known.items() if row.vague}


_WORDS, _VAGUE_WORDS = _by_telling(WORDS)
_ENHANCED, _VAGUE_ENHANCED = _by_telling(ENHANCED)
_SUBJECTS, _ = _by_telling(SUBJECTS)
_REPLIES, _ = _by_telling(REPLIES)


def classify(
    *,
    word: str | None = None,
    enhanced_code: str | None = None,
    smtp_status: str | None = None,
    text: str | None = None,
) -> Classification:
    """The classification of a failure, by the most telling of what is known about it.

    The provider's own word comes first, for it has read the whole conversation; then the enhanced code, unless
    it is a vague one; then what the server wrote; then the vague code or the subject of an unknown one; then
    the reply code; and last a vague word of the provider's. What says nothing, such as `unclassified`, is passed over.
    A reply code condemns an address only where nothing stands beside it: what nobody can read is no proof.
    """
    word = word.lower() if word else ""
    return (
        _WORDS.get(word)
        or _ENHANCED.get(enhanced_code or "")
        or (
            diagnostic_text.find(text, temporary=(enhanced_code or smtp_status or "").startswith("4")) if text else None
        )
        or (_judge_vaguely(enhanced_code) if enhanced_code else None)
        or (_judge_reply(smtp_status, enhanced_code, text) if smtp_status else None)
        or _VAGUE_WORDS.get(word)
        or Classification.UNCLASSIFIED
    )


def _judge_vaguely(enhanced_code: str) -> Classification | None:
    if enhanced_code in ENHANCED:
        return _VAGUE_ENHANCED.get(enhanced_code)
    return _SUBJECTS.get(enhanced_code.rpartition(".")[0])


def _judge_reply(smtp_status: str, enhanced_code: str | None, text: str | None) -> Classification | None:
    found = _REPLIES.get(smtp_status)
    if found in CONDEMNING and (enhanced_code or (text and diagnostic_text.says_something(text))):
        return None
    # The class alone is worth something for 4 (try again), nothing for 5.
    return found or (Classification.TRANSIENT_FAILURE if smtp_status.startswith("4") else None)


def code(classification: Classification) -> ClassificationCode:
    """The number that goes with a classification."""
    return ClassificationCode[classification.name]


_GAVE_UP = (EventType.BOUNCED, EventType.FAILED)
PASSING = frozenset(
    {
        Classification.MAILBOX_FULL,
        Classification.DNS_FAILURE,
        Classification.ROUTING_ERROR,
        Classification.CONNECTION_ERROR,
        Classification.PROTOCOL_ERROR,
        Classification.TRANSIENT_FAILURE,
        # A failure that nobody can read is no proof against an address; many of them in a row are a sign.
        Classification.UNCLASSIFIED,
    }
)
"""What may pass by itself: soft."""

HARDNESS: Mapping[tuple[EventType, Classification], Hardness] = {
    # Only who has asked the recipient's server knows: what the provider itself rejected or holds says nothing.
    **{(kind, reason): Hardness.HARD for kind in _GAVE_UP for reason in CONDEMNING},
    **{(kind, reason): Hardness.SOFT for kind in _GAVE_UP for reason in PASSING},
    # As long as it is tried again nothing is for good, whatever the server says.
    **{(EventType.DEFERRED, reason): Hardness.SOFT for reason in PASSING | CONDEMNING},
}
"""Whatever is not here, such as spam and policy, is the sender's affair, or no failure: `Hardness.NONE`."""


def hardness(event_type: EventType, classification: Classification | None) -> Hardness:
    """Whether a failure is for good, may pass, or says nothing of the address. No classification is unclassified."""
    return HARDNESS.get((event_type, classification or Classification.UNCLASSIFIED), Hardness.NONE)


# An enhanced code is told from an address such as 5.1.1.2 by what stands around it, and from a version such as 4.94.2
# by its subject: all that are registered have one digit.
_ENHANCED_CODE = re.compile(r"(?<![\w.])([245]\.[0-9]\.[0-9]{1,3})(?![0-9]|\.[0-9])")
_REPLY_CODE = re.compile(
    r"(?:^\s*|\s)([245][0-9]{2})(?=[ -]#?[245]\.[0-9]{1,3}\.[0-9]|$)|^\s*([245][0-9]{2})(?=[\s:-])"
)
# Servers answer in lines; what follows the first thousand characters is no code.
_LONGEST = 1000


def find_codes(*texts: str | None) -> Codes:
    """The first reply code and the first enhanced code in texts such as "550 5.1.1 No such user" or "452"."""
    smtp_status = enhanced_code = None
    for text in texts:
        if not text:
            continue
        head = text[:_LONGEST]
        if smtp_status is None and (reply := _REPLY_CODE.search(head)):
            smtp_status = reply[1] or reply[2]
        if enhanced_code is None and (match := _ENHANCED_CODE.search(head)):
            enhanced_code = match[1]
    return Codes(smtp_status, enhanced_code)
