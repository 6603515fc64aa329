"""Classifies delivery failures: applies the tables of codes and patterns in their order of precedence."""

import re
from collections.abc import Mapping
from enum import StrEnum

from shared.classification import diagnostic_text
from shared.classification.enhanced_codes import ENHANCED_CODES, SUBJECTS
from shared.classification.patterns import ADDRESS_INVALID
from shared.classification.provider_codes import PROVIDER_WORDS, REPLY_CODES, Meaning
from shared.vocabulary import Classification, ClassificationCode, EventType


class Hardness(StrEnum):
    """Whether a failure of an address is permanent (hard), temporary (soft), or not caused by the address (none)."""

    HARD = "hard"
    SOFT = "soft"
    NONE = "none"


def _split_vague(meanings: Mapping[str, Meaning]) -> tuple[dict[str, Classification], dict[str, Classification]]:
    """Return the clear and the vague meanings; unclassified ones are in neither."""
    known = {key: row for key, row in meanings.items() if row.classification is not Classification.UNCLASSIFIED}
    clear = {key: row.classification for key, row in known.items() if not row.vague}
    return clear, {key: row.classification for key, row in known.items() if row.vague}


_WORDS, _VAGUE_WORDS = _split_vague(PROVIDER_WORDS)
_ENHANCED, _VAGUE_ENHANCED = _split_vague(ENHANCED_CODES)
_SUBJECTS, _ = _split_vague(SUBJECTS)
_REPLIES, _ = _split_vague(REPLY_CODES)


def classify(
    *,
    word: str | None = None,
    enhanced_code: str | None = None,
    smtp_status: str | None = None,
    text: str | None = None,
) -> Classification:
    """Return the classification of a failure, by the first of these that gives one.

    1. The provider's word, because the provider has seen the whole SMTP conversation;
    2. the enhanced code, unless it is vague;
    3. the text of the server;
    4. the vague enhanced code, or the subject of an unknown one;
    5. the reply code; it means an invalid address only if it stands alone, because an unknown text may differ;
    6. a vague word of the provider.
    """
    word = word.lower() if word else ""
    if found := _WORDS.get(word) or _ENHANCED.get(enhanced_code or ""):
        return found
    temporary = (enhanced_code or smtp_status or "").startswith("4")
    if text and (found := diagnostic_text.find(text, temporary=temporary)):
        return found
    if enhanced_code:
        by_subject = None if enhanced_code in ENHANCED_CODES else _SUBJECTS.get(enhanced_code.rpartition(".")[0])
        if found := _VAGUE_ENHANCED.get(enhanced_code) or by_subject:
            return found
    if smtp_status:
        found = _REPLIES.get(smtp_status)
        stands_alone = not enhanced_code and not (text and diagnostic_text.says_something(text))
        if found and (stands_alone or found not in ADDRESS_INVALID):
            return found
        if not found and smtp_status.startswith("4"):  # an unknown 4xx is still temporary; an unknown 5xx says nothing
            return Classification.TRANSIENT_FAILURE
    return _VAGUE_WORDS.get(word, Classification.UNCLASSIFIED)


def code_of(classification: Classification) -> ClassificationCode:
    """Return the number of a classification."""
    return ClassificationCode[classification.name]


_GAVE_UP = (EventType.BOUNCED, EventType.FAILED)
TEMPORARY = frozenset(
    {
        Classification.MAILBOX_FULL,
        Classification.DNS_FAILURE,
        Classification.ROUTING_ERROR,
        Classification.CONNECTION_ERROR,
        Classification.PROTOCOL_ERROR,
        Classification.TRANSIENT_FAILURE,
        # One unclassified failure does not prove an address invalid; many in a row suggest it.
        Classification.UNCLASSIFIED,
    }
)
"""Classifications of failures that may pass: soft bounces."""

HARDNESS: Mapping[tuple[EventType, Classification], Hardness] = {
    # Only after an attempt at the recipient's server: mail that the provider rejects or holds proves nothing.
    **{(kind, reason): Hardness.HARD for kind in _GAVE_UP for reason in ADDRESS_INVALID},
    **{(kind, reason): Hardness.SOFT for kind in _GAVE_UP for reason in TEMPORARY},
    # While the provider retries, no failure is permanent, whatever the server says.
    **{(EventType.DEFERRED, reason): Hardness.SOFT for reason in TEMPORARY | ADDRESS_INVALID},
}
"""Everything else, such as spam and policy, is caused by the sender or is no failure: `Hardness.NONE`."""


def hardness(event_type: EventType, classification: Classification | None) -> Hardness:
    """Return whether a failure is hard, soft or not caused by the address. None counts as unclassified."""
    return HARDNESS.get((event_type, classification or Classification.UNCLASSIFIED), Hardness.NONE)


# The characters around it distinguish an enhanced code from an IP address such as 5.1.1.2; the one-digit subject
# distinguishes it from a version such as 4.94.2.
_ENHANCED_CODE = re.compile(r"(?<![\w.])([245]\.[0-9]\.[0-9]{1,3})(?![0-9]|\.[0-9])")
_REPLY_CODE = re.compile(
    r"(?:^\s*|\s)([245][0-9]{2})(?=[ -]#?[245]\.[0-9]{1,3}\.[0-9]|$)|^\s*([245][0-9]{2})(?=[\s:-])"
)
# Replies are short lines; codes are not beyond the first thousand characters.
_MAX_CHARS = 1000


def find_codes(*texts: str | None) -> tuple[str | None, str | None]:
    """Return the first reply code and the first enhanced code in texts such as "550 5.1.1 No such user" or "452".

    A reply code is three digits, an enhanced code is x.y.z; None if absent.
    """
    smtp_status = enhanced_code = None
    for text in texts:
        if not text:
            continue
        head = text[:_MAX_CHARS]
        if smtp_status is None and (reply := _REPLY_CODE.search(head)):
            smtp_status = reply[1] or reply[2]
        if enhanced_code is None and (match := _ENHANCED_CODE.search(head)):
            enhanced_code = match[1]
    return smtp_status, enhanced_code
