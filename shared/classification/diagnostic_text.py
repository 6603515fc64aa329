"""Reading the text of a failure: which of the known wordings it holds.

Texts are compared word by word, without regard to case, punctuation, numbers and addresses: "mailbox full" is not
found in somebody's name, and no text, however hostile, takes longer than its length.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from shared.classification.patterns import CONDEMNING, WORDINGS, Wording
from shared.vocabulary import Classification

_LONGEST = 1000
"""Servers answer in lines; what follows the first thousand characters is the message that was sent back."""

_GAP = "…"
_BETWEEN = r"(?: .{0,60})??"
"""As much as a sentence puts between two of its words. Bounded, so that no search starts all over again."""

_PARTING = '!"#$%&()*+,-/:;<=>?[\\]^_`{|}~“”„«»\t\r\n' + _GAP
_PLAIN = str.maketrans({**dict.fromkeys(_PARTING, " "), "'": None, "\N{RIGHT SINGLE QUOTATION MARK}": None})


class _Phrase(NamedTuple):
    """A phrase, and how early its row is asked. `gapped` holds instead of `words` where others may stand between."""

    rank: int
    words: str
    gapped: re.Pattern[str] | None


def find(text: str, *, temporary: bool) -> Classification | None:
    """What a text says, None if nothing that is known. A `temporary` failure condemns no address."""
    return _find(text[:_LONGEST], temporary)


# The same few answers come again and again, and a text takes longer to read than all the codes together.
@lru_cache(maxsize=1024)
def _find(text: str, temporary: bool) -> Classification | None:
    words = split(text)
    row = f" {' '.join(words)} "
    ranks = {phrase.rank for word in _KEYWORDS.intersection(words) for phrase in _PHRASES[word] if _occurs(phrase, row)}
    if temporary:
        ranks -= _CONDEMNING_RANKS
    return WORDINGS[min(ranks)].classification if ranks else None


def says_something(text: str) -> bool:
    """Whether a text holds more than codes and addresses."""
    return bool(split(text[:_LONGEST]))


def split(text: str) -> list[str]:
    """The words of a text as they are compared: no addresses, no numbers.

    The parts of a dotted name keep a dot before them, so that the name of a host says nothing by chance.
    """
    text = text.lower()
    if "@" in text:
        text = " ".join(_drop_address(part) for part in text.split())
    words: list[str] = []
    for part in text.translate(_PLAIN).split():
        word = part.strip(".")
        if "." in word:
            words += [f".{label}" for label in word.split(".") if label and not label.isdecimal()]
        elif word and not word.isdecimal():
            words.append(word)
    return words


def _drop_address(part: str) -> str:
    """What is left of a part without blanks: behind an address, some servers write the reason after a colon."""
    return part.rpartition("@")[2].partition(":")[2] if "@" in part else part


def _occurs(phrase: _Phrase, row: str) -> bool:
    return phrase.words in row if phrase.gapped is None else phrase.gapped.search(row) is not None


def _index(wordings: Iterable[Wording]) -> Mapping[str, tuple[_Phrase, ...]]:
    """The phrases by their rarest word: only those whose word a text has are looked for in it."""
    phrases = [(rank, phrase) for rank, wording in enumerate(wordings) for phrase in wording.phrases]
    usual = Counter(word for _, phrase in phrases for word in split(phrase))
    found: dict[str, list[_Phrase]] = defaultdict(list)
    for rank, phrase in phrases:
        rarest = min(split(phrase), key=lambda word: (usual[word], -len(word)))
        parts = [f" {' '.join(split(part))}" for part in phrase.split(_GAP)]
        gapped = re.compile(_BETWEEN.join(map(re.escape, parts)) + " ") if len(parts) > 1 else None
        found[rarest].append(_Phrase(rank, f"{parts[0]} ", gapped))
    return {word: tuple(entries) for word, entries in found.items()}


_PHRASES = _index(WORDINGS)
_KEYWORDS = frozenset(_PHRASES)
_CONDEMNING_RANKS = frozenset(rank for rank, wording in enumerate(WORDINGS) if wording.classification in CONDEMNING)
