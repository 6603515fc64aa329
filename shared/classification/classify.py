"""Classifies delivery failures: applies the tables of codes and patterns in their order of precedence."""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from shared.classification import diagnostic_text
from shared.classification.enhanced_codes import ENHANCED_CODES, SUBJECTS
from shared.classification.patterns import ABOUT_SENDER, ADDRESS_INVALID, BARE_REFUSAL, SENDER_AT_FAULT, Pattern
from shared.classification.provider_codes import PROVIDER_WORDS, REPLY_CODES
from shared.vocabulary import Classification, ClassificationCode, EventType


class Hardness(StrEnum):
    """Whether a failure of an address is permanent (hard), temporary (soft), or not caused by the address (none)."""

    HARD = "hard"
    SOFT = "soft"
    NONE = "none"


class Judgement(NamedTuple):
    """A classification, and the row that decided: the table's name, the row's key, and why it means that."""

    classification: Classification
    table: str
    row: str = ""
    why: str = ""


def classify(
    *,
    word: str | None = None,
    enhanced_code: str | None = None,
    smtp_status: str | None = None,
    text: str | None = None,
) -> Classification:
    """Return the classification of a failure, as `judge` decides it."""
    return judge(word, enhanced_code, smtp_status, text).classification


def judge(word: str | None, enhanced_code: str | None, smtp_status: str | None, text: str | None) -> Judgement:
    """Return the classification of a failure and its row, by the first of these that gives one.

    1. The provider's word, because the provider has seen the whole SMTP conversation;
    2. the enhanced code, unless it is vague or the text contradicts it (`_contradicts`);
    3. the text of the server;
    4. the vague enhanced code, or the subject of an unknown one;
    5. a text that refuses without a reason;
    6. the reply code, which means less beside a text that matches nothing;
    7. a vague word of the provider.
    """
    word = word.lower() if word else ""
    by_word = PROVIDER_WORDS.get(word)
    if by_word and not by_word.vague:
        return Judgement(by_word.classification, "provider word", word, by_word.why)
    smtp_status, enhanced_code = smtp_status or "", enhanced_code or ""
    by_code = ENHANCED_CODES.get(enhanced_code)
    patterns: Sequence[Pattern] = ()
    if by_code and not by_code.vague:
        if text and by_code.classification not in SENDER_AT_FAULT:
            patterns = diagnostic_text.find(text, enhanced_code)
        if not patterns or not _contradicts(patterns, by_code.classification):
            return Judgement(by_code.classification, "enhanced code", enhanced_code, by_code.why)
    elif text:
        patterns = diagnostic_text.find(text, enhanced_code or smtp_status)
    if patterns and patterns[0] is not BARE_REFUSAL:
        return Judgement(patterns[0].classification, "text", patterns[0].meaning)
    # A provider that was refused some recipients only may pass on the success of the others.
    unread = bool(text and not smtp_status.startswith("2") and diagnostic_text.says_something(text))
    if by_code and (found := by_code.apply(beside_text=unread)):
        return Judgement(found, "enhanced code", enhanced_code, by_code.why)
    if enhanced_code and not by_code and (subject := SUBJECTS.get(enhanced_code.rpartition(".")[0])):
        return Judgement(subject.classification, "subject of the enhanced code", enhanced_code, subject.why)
    if patterns:
        return Judgement(patterns[0].classification, "text", patterns[0].meaning)
    return _judge_by_reply_code(word, smtp_status, unread=unread, beside=unread or bool(enhanced_code))


def _judge_by_reply_code(word: str, smtp_status: str, *, unread: bool, beside: bool) -> Judgement:
    """Return the judgement if only the reply code and a vague word are left (6 and 7 of `judge`).

    `unread`: there is a text that matches nothing. `beside`: there is such a text, or an enhanced code.
    """
    by_reply = REPLY_CODES.get(smtp_status)
    if by_reply and (found := by_reply.apply(beside_text=beside)):
        return Judgement(found, "reply code", smtp_status, by_reply.why)
    if not by_reply and smtp_status.startswith("4"):  # an unknown 4xx is still temporary; an unknown 5xx says nothing
        return Judgement(Classification.TRANSIENT_FAILURE, "reply code", smtp_status, "any other 4xx is temporary")
    if by_word := PROVIDER_WORDS.get(word):
        found = by_word.apply(beside_text=unread) or Classification.UNCLASSIFIED
        return Judgement(found, "provider word", word, by_word.why)
    return Judgement(Classification.UNCLASSIFIED, "no row matches")


def _contradicts(patterns: Sequence[Pattern], by_code: Classification) -> bool:
    """Return whether a text outranks a clear enhanced code.

    A text with another reason than an invalid address outranks a code that condemns the address. A text that blames
    the sender outranks a code that would count as a soft bounce of the recipient. General words never do.
    """
    first = patterns[0]
    if first.general or first.classification in ADDRESS_INVALID:
        return False
    if by_code in ADDRESS_INVALID:
        # Multiline replies quote the answers to later commands, and what happened in other attempts.
        if first.classification in (Classification.PROTOCOL_ERROR, Classification.CONNECTION_ERROR):
            return False
        # A text that condemns the address too confirms the code, unless it says so of the sender's address.
        confirms = any(pattern.classification in ADDRESS_INVALID and not pattern.general for pattern in patterns)
        return first in ABOUT_SENDER or not confirms
    return by_code not in SENDER_AT_FAULT and first.classification in SENDER_AT_FAULT


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
"""Everything else, such as spam and policy, is caused by the sender or is not a failure: `Hardness.NONE`."""


def hardness(event_type: EventType, classification: Classification | None) -> Hardness:
    """Return whether a failure is hard, soft or not caused by the address. None counts as unclassified."""
    return HARDNESS.get((event_type, classification or Classification.UNCLASSIFIED), Hardness.NONE)


# The characters around it distinguish an enhanced code from an IP address such as 5.1.1.2; the one-digit subject
# distinguishes it from a version such as 4.94.2.
_ENHANCED_CODE = re.compile(r"(?<![\w.])([245]\.[0-9]\.[0-9]{1,3})(?![0-9]|\.[0-9])")
_REPLY_CODE = re.compile(
    r"(?:^\s*|[\s;])([245][0-9]{2})(?=[ -][#']?[245]\.[0-9]{1,3}\.[0-9]|$)|^\s*([245][0-9]{2})(?=[\s:-])"
)
# A gateway quotes the reply that it received, after its own code, which says less.
_QUOTED_CODE = re.compile(r"'(?:[245][0-9]{2}[ -])?([245]\.[0-9]\.[0-9]{1,3})(?![0-9]|\.[0-9])")
# Replies are short lines; codes are not beyond the first thousand characters.
_MAX_CHARS = 1000


def write_reply(codes: Iterable[str | None], text: str | None) -> str:
    """Return a server's reply in one line: its codes, then its text. A code that the text has is not repeated."""
    missing = [code for code in codes if code and not re.search(rf"(?<![\w.]){re.escape(code)}(?!\.?\w)", text or "")]
    return " ".join([*missing, text] if text else missing)


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
        if enhanced_code is None and (match := _QUOTED_CODE.search(head) or _ENHANCED_CODE.search(head)):
            enhanced_code = match[1]
    return smtp_status, enhanced_code
