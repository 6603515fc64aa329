"""Finds the known patterns in the text of a failure.

Texts are compared word by word and without case, punctuation, numbers and addresses, so that "mailbox full" is not
found in a name. The time is linear in the length of the text, hostile texts included.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from shared.classification.patterns import ADDRESS_INVALID, PATTERNS, Pattern
from shared.vocabulary import Classification

_MAX_CHARS = 1000
"""Replies are short; what follows the first thousand characters is the returned message."""

_GAP = "…"
_BETWEEN = r"(?: .{0,60})??"
"""The words that a gap may stand for; bounded, so that the search stays linear."""

_SEPARATORS = '!"#$%&()*+,-/:;<=>?[\\]^_`{|}~“”„«»\t\r\n' + _GAP
_PLAIN = str.maketrans({**dict.fromkeys(_SEPARATORS, " "), "'": None, "\N{RIGHT SINGLE QUOTATION MARK}": None})


class _Phrase(NamedTuple):
    """A phrase and the position of its pattern. A phrase with gaps has `gapped`, which applies instead of `words`."""

    rank: int
    words: str
    gapped: re.Pattern[str] | None


def find(text: str, *, temporary: bool) -> Classification | None:
    """Return the classification of a text, or None. A `temporary` failure never means an invalid address."""
    return _find(text[:_MAX_CHARS], temporary)


# Cached because a few texts recur all the time, and matching one takes longer than everything else.
@lru_cache(maxsize=1024)
def _find(text: str, temporary: bool) -> Classification | None:
    words = split(text)
    row = f" {' '.join(words)} "
    ranks = {phrase.rank for word in _KEYWORDS.intersection(words) for phrase in _PHRASES[word] if _occurs(phrase, row)}
    if temporary:
        ranks -= _ADDRESS_INVALID_RANKS
    return PATTERNS[min(ranks)].classification if ranks else None


def says_something(text: str) -> bool:
    """Return whether a text has words besides codes and addresses."""
    return bool(split(text[:_MAX_CHARS]))


def split(text: str) -> list[str]:
    """Return the words of a text for comparison, without addresses and numbers.

    The parts of a dotted name keep a dot in front, so that a host name does not match a phrase by chance.
    """
    text = text.lower()
    if "@" in text:
        # Some servers write the reason after an address and a colon, without a blank.
        text = " ".join(part.rpartition("@")[2].partition(":")[2] if "@" in part else part for part in text.split())
    words: list[str] = []
    for part in text.translate(_PLAIN).split():
        word = part.strip(".")
        if "." in word:
            words += [f".{label}" for label in word.split(".") if label and not label.isdecimal()]
        elif word and not word.isdecimal():
            words.append(word)
    return words


def _occurs(phrase: _Phrase, row: str) -> bool:
    return phrase.words in row if phrase.gapped is None else phrase.gapped.search(row) is not None


def _index(patterns: Iterable[Pattern]) -> Mapping[str, tuple[_Phrase, ...]]:
    """Index the phrases by their rarest word: a text is searched only for phrases whose rarest word it contains."""
    phrases = [(rank, phrase) for rank, pattern in enumerate(patterns) for phrase in pattern.phrases]
    frequency = Counter(word for _, phrase in phrases for word in split(phrase))
    found: dict[str, list[_Phrase]] = defaultdict(list)
    for rank, phrase in phrases:
        rarest = min(split(phrase), key=lambda word: (frequency[word], -len(word)))
        parts = [f" {' '.join(split(part))}" for part in phrase.split(_GAP)]
        gapped = re.compile(_BETWEEN.join(map(re.escape, parts)) + " ") if len(parts) > 1 else None
        found[rarest].append(_Phrase(rank, f"{parts[0]} ", gapped))
    return {word: tuple(entries) for word, entries in found.items()}


_PHRASES = _index(PATTERNS)
_KEYWORDS = frozenset(_PHRASES)
_ADDRESS_INVALID_RANKS = frozenset(
    rank for rank, pattern in enumerate(PATTERNS) if pattern.classification in ADDRESS_INVALID
)
