"""Finds the known patterns in the text of a failure.

Texts are compared word by word and without case, accents, punctuation, numbers, addresses, articles and auxiliary
verbs. So "The mailbox has been disabled" is "mailbox disabled", and "mailbox full" is not found in a name. The time is
linear in the length of the text, hostile texts included.
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, product
from typing import Any

from shared.classification.patterns import (
    ADDRESS_INVALID,
    BARE_REFUSAL,
    NAMELESS,
    PATTERNS,
    RECIPIENT_DENIED,
    RECIPIENT_DENIED_CODE,
    SENDER_AT_FAULT,
    UNNAMED_RECIPIENT,
    WORD_SETS,
    Pattern,
)
from shared.vocabulary import Classification

_MAX_CHARS = 1000
"""Replies are short; what follows the first thousand characters is the returned message."""

_GAP = "…"
_MAX_BETWEEN = 6
"""The number of words that a gap may stand for; bounded, so that the search stays linear."""

_ALONE = "="
_END = ""
_Node = dict[str, Any]
"""What may follow the words of a phrase: words and `_GAP`, each with a node, and `_END` with the pattern's position."""

# Dots, hyphens and signs of addresses stay: what they join is split later. Bytes are translated faster than text.
_SEPARATORS = b'!"#$%&()*,/:;<=>?[\\]^`{|}~'
_BLANKS = bytes.maketrans(_SEPARATORS, b" " * len(_SEPARATORS))
_UTF8 = ("utf-8", "surrogatepass")
# Some servers begin the reason after an address, or a sentence after a full stop, without a space.
_DOMAIN = re.compile(r"\w*(?:[.-]\w+)*")
# French articles and pronouns before a vowel.
_ELISION = re.compile(r"(?<![^\W_])(?:[cdjlmnst]|qu)'")
_SENTENCE = re.compile(r"\.(?=[A-Z][a-z])(?<=[a-z]\.)")
# Chinese and Japanese are written without spaces: each character counts as a word.
_IDEOGRAPH = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])")
_LETTERS = str.maketrans(
    {
        "ł": "l",
        "ß": "ss",
        "ø": "o",
        "đ": "d",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        **dict.fromkeys("“”„«»、。", " "),
    }
)

_DROPPED = "the a an this that these is are was were be been being has had does do did can could will would e"
_NOT = "doesnt dosnt doesent isnt arent wasnt werent dont didnt cannot cant couldnt wont wouldnt hasnt"
_SAME: Mapping[str, str] = {
    **dict.fromkeys(_DROPPED.split(), ""),
    **dict.fromkeys(_NOT.split(), "not"),
    "email": "mail",
    "emails": "mails",
}
"""Words that are compared as another word, or not at all."""

_ENVELOPES = (
    "diagnostic-code:",
    "smtp;",
    "unknown address error",
    "but sender was rejected",
    "does not like recipient",
    "remote protocol error",
    "giving up on",
    "relay=",
    "rejected your message to the following email addresses",
)
"""What bounce messages, Cisco's gateways, qmail and others write before any reply, as if it were a reason."""

_WRAPPERS = re.compile(
    r" (?:in reply to|smtp error from remote mail server after) (?:rcpt to|end of data|data)(?= )(?: command(?= ))?"
    r"|(?: remote)? host(?= )(?: said(?= ))?| said(?= )| remote server returned(?= )|(?: see| visit)? https? .*"
)
"""What relaying servers write around the reply that they pass on, as words without names and numbers."""
_WRAPPING = frozenset({"said", "host", "reply", "after", "returned", "http", "https"})
"""One of these words is in each."""

# The name or the number of a server has a dot or colons inside. Codes, addresses, links, and what belongs to a wrapper
# are none.
_NAME = re.compile(
    r"(?!(?:[^\W\d_]+:)?[(\[<'\"#]*[245]\d\d(?:[-#]*[245]\.\d\.\d{1,3})?[^\w]*$)"
    r"(?![(\[<'\"#]*[245]\.\d\.\d{1,3}[^\w.]*\.?$)(?!relay=|https?:)(?!\[[^\]]*$)[^@]*(?:\w\.\w|:\w*:)[^@]*|host:?",
    re.IGNORECASE,
)
_PAUSES = str.maketrans(";,", "  ")

# A text that passed through a mail or a page may still be written as there.
_SOFT_BREAK = re.compile(r"=[ \t\r]*\n")
_QUOTED_PRINTABLE = re.compile(r"=20|=3[dD]|(?:=[89A-Fa-f][0-9A-Fa-f]){2,}")
_ESCAPED_BREAK = re.compile(r"\\[nrt]")


# Cached because a few texts recur all the time, and matching one takes longer than everything else.
@lru_cache(maxsize=1024)
def find(text: str, code: str) -> Sequence[Pattern]:
    """Return the patterns that a text contains, in order.

    `code` is the enhanced code beside it, or the reply code, or empty. A temporary failure (4) never means an invalid
    address. In a permanent one (5), "try later" says less than any word that blames the sender.
    """
    temporary = code.startswith("4")
    words = split(text)
    matches = _list_nearest(words)
    ranks = _list_ranks(matches, words, code)
    if condemning := ranks & _ADDRESS_INVALID_RANKS:
        if temporary or _UNNAMED_RANK in ranks:
            ranks -= condemning
        elif len(ranks) > len(condemning):
            ranks -= condemning - _not_covered(matches)
    found = [PATTERNS[rank] for rank in sorted(ranks)]
    if temporary or (found and not found[0].general):
        return found
    said = [word for word in words if word.isalpha()]  # neither names of servers nor identifiers
    if len(said) <= _MAX_ALONE + _MAX_WRAPPING:
        sentence = " ".join(said)
        if not _WRAPPING.isdisjoint(said):
            sentence = _WRAPPERS.sub("", f" {sentence} ").strip()
        alone = _SENTENCES.get(sentence)
        if alone is not None and not (alone in _ADDRESS_INVALID_RANKS and _is_said_of_name(text, sentence)):
            return [PATTERNS[alone]]
    if code.startswith("5") and found and found[0].classification is Classification.TRANSIENT_FAILURE:
        found.sort(key=lambda pattern: pattern.classification not in SENDER_AT_FAULT or pattern is BARE_REFUSAL)
    return found


def _list_ranks(matches: Sequence[tuple[int, int, int]], words: Sequence[str], code: str) -> set[int]:
    """Return the positions of the patterns of these phrases, without those that count only in another context."""
    ranks = {rank for rank, _, _ in matches}
    if code != RECIPIENT_DENIED_CODE:
        ranks.discard(_DENIED_RANK)
    if _NAMELESS_RANK in ranks and not _SERVER_WORDS.isdisjoint(words):
        ranks.discard(_NAMELESS_RANK)
    return ranks


def _is_said_of_name(text: str, phrase: str) -> bool:
    """Return whether the name or the number of a server stands beside a phrase that names no recipient itself."""
    if not _RECIPIENT_WORDS.isdisjoint(phrase.split()):
        return False
    name = ["0"]
    tokens = decode(text[:_MAX_CHARS]).translate(_PAUSES).split()
    marked = " ".join(chain.from_iterable(name if _NAME.fullmatch(token) else split(token) for token in tokens))
    return f"0 {phrase}" in marked or f"{phrase} 0" in marked


def list_matches(words: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return the phrases in the words of a text: position of the pattern, first and last word."""
    matches: list[tuple[int, int, int]] = []
    for position, word in enumerate(words):
        if node := _PHRASES.get(word):
            _collect(node, words, position, position, matches)
    return matches


def quote(text: str, meaning: str) -> str:
    """Return the words of a text, as compared, that the pattern of a meaning matched; all if they count alone."""
    words = split(text)
    spans = [(first, last) for rank, first, last in list_matches(words) if PATTERNS[rank].meaning == meaning]
    first, last = max(spans, key=lambda span: span[1] - span[0], default=(0, len(words)))
    return " ".join(words[first : last + 1])


def _collect(node: _Node, words: Sequence[str], first: int, place: int, matches: list[tuple[int, int, int]]) -> None:
    """Add the phrases that begin at the word `first` and go on after the word `place`: rank, first word, last word."""
    while True:
        if (rank := node.get(_END)) is not None:
            matches.append((rank, first, place))
        if gap := node.get(_GAP):
            near = words[place + 1 : place + 1 + _MAX_BETWEEN]
            if not gap.keys().isdisjoint(near):  # most gaps lead nowhere, and this says so fastest
                for later, word in enumerate(near, place + 1):
                    if after := gap.get(word):
                        _collect(after, words, first, later, matches)
        place += 1
        if place == len(words) or (following := node.get(words[place])) is None:
            return
        node = following


def _list_nearest(words: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return the phrases as `list_matches`, without those that say of a host what the text says of a recipient.

    "Host mx.example.com said: user does not exist" says nothing of the host.
    """
    matches = list_matches(words)
    if len(matches) < 2 or _HOST_WORDS.isdisjoint(words):
        return matches
    said = {last: first for rank, first, last in matches if rank in _RECIPIENT_RANKS}
    return [match for match in matches if words[match[1]] not in _HOST_WORDS or match[1] >= said.get(match[2], 0)]


def _not_covered(matches: Sequence[tuple[int, int, int]]) -> set[int]:
    """Return the ranks of the phrases that are not a part of a longer phrase of another meaning.

    "Too many invalid recipients" says nothing of an invalid recipient.
    """
    others = [(first, last) for rank, first, last in matches if rank not in _ADDRESS_INVALID_RANKS]
    return {
        rank
        for rank, first, last in matches
        if not any(begin <= first and last <= end and end - begin > last - first for begin, end in others)
    }


def says_something(text: str) -> bool:
    """Return whether a text has words besides codes and addresses."""
    return bool(split(text))


def split(text: str) -> list[str]:
    """Return the words of a text for comparison.

    The parts of a dotted name keep a dot in front, so that a host name does not match a phrase by chance.
    """
    text = text[:_MAX_CHARS]
    if "&" in text or "=" in text or "\\" in text:
        text = decode(text)
    text = _SENTENCE.sub(" ", text).lower()
    text = text if text.isascii() else fold(text)
    text = _ELISION.sub("", text).replace("'", "") if "'" in text else text
    if "  " in text or "\n" in text or "\t" in text:
        text = " ".join(text.split())
    for envelope in _ENVELOPES:
        text = text.replace(envelope, " ")
    words: list[str] = []
    for token in text.encode(*_UTF8).translate(_BLANKS).decode(*_UTF8).split():
        if token.isalpha():
            words.append(_SAME.get(token, token))
            continue
        if token.replace(".", "").isdecimal():  # codes and the addresses of servers
            continue
        if "@" in token:
            after = token.rpartition("@")[2]
            token = after[_DOMAIN.match(after).end() :]  # type: ignore[union-attr]  # noqa: PLW2901
        token = token.strip(".")  # noqa: PLW2901
        if token[3:4] == "-" and token[:3].isdecimal():  # a line of a longer reply, such as "550-5.1.1"
            token = token[4:]  # noqa: PLW2901
        if "." in token:
            words += [f".{label}" for label in token.split(".") if not label.isdecimal()]
        else:
            words += [_SAME.get(part, part) for part in token.replace("_", "-").replace("+", "-").split("-")]
    return list(filter(None, words))


def decode(text: str) -> str:
    """Return a text without the entities of HTML, quoted-printable signs and escaped line breaks that it has."""
    if "&" in text:
        text = html.unescape(text)
    if "=" in text:
        text = _SOFT_BREAK.sub("", text) if "\n" in text else text
        text = _QUOTED_PRINTABLE.sub(
            lambda match: bytes.fromhex(match[0].replace("=", "")).decode(errors="replace"), text
        )
    return _ESCAPED_BREAK.sub(" ", text) if "\\" in text else text


def fold(text: str) -> str:
    """Return a text with plain letters for accented ones, and with spaces around Chinese and Japanese characters."""
    text = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    text = "".join(character for character in text if not unicodedata.combining(character))
    return _IDEOGRAPH.sub(r" \1 ", text.translate(_LETTERS))


def expand(phrase: str) -> Iterator[list[str]]:
    """Return the words of each phrase that a phrase with alternatives stands for; "…" stays."""
    slots = [
        [[_GAP] if part == _GAP else split(part) for part in WORD_SETS.get(word, word.replace("/", ";")).split(";")]
        for word in phrase.split()
    ]
    return (list(chain.from_iterable(chosen)) for chosen in product(*slots))


def _build() -> tuple[_Node, Mapping[str, int]]:
    """Return the tree of the phrases, word by word, and the phrases that count only alone."""
    phrases: _Node = {}
    alone: dict[str, int] = {}
    for rank, pattern in enumerate(PATTERNS):
        for phrase in pattern.phrases:
            for words in expand(phrase.removeprefix(_ALONE)):
                if phrase.startswith(_ALONE):
                    alone.setdefault(" ".join(words), rank)
                    continue
                node = phrases
                for word in words:
                    node = node.setdefault(word, {})
                node.setdefault(_END, rank)
    return _share({}, phrases), alone


def _share(known: dict[frozenset[tuple[str, int]], _Node], node: _Node) -> _Node:
    """Return the tree with one node for all that lead to the same words and patterns: an eighth of the memory."""
    for word, after in node.items():
        if word != _END:
            node[word] = _share(known, after)
    key = frozenset((word, after if word == _END else id(after)) for word, after in node.items())
    return known.setdefault(key, node)


_PHRASES, _SENTENCES = _build()
_MAX_ALONE = max(sentence.count(" ") + 1 for sentence in _SENTENCES)
_MAX_WRAPPING = 16
"""The number of words that servers write around the reply that they pass on, twice at most."""
_ADDRESS_INVALID_RANKS = frozenset(
    rank for rank, pattern in enumerate(PATTERNS) if pattern.classification in ADDRESS_INVALID
)
_RECIPIENT_RANKS = frozenset(
    rank
    for rank, pattern in enumerate(PATTERNS)
    if pattern.classification is Classification.INVALID_RECIPIENT and not pattern.general
)
_RECIPIENT_WORDS = frozenset(chain.from_iterable(expand("RECIPIENT")))
_HOST_WORDS = frozenset({"host", "server", "ip"})
_UNNAMED_RANK = PATTERNS.index(UNNAMED_RECIPIENT)
_DENIED_RANK = PATTERNS.index(RECIPIENT_DENIED)
_NAMELESS_RANK = PATTERNS.index(NAMELESS)
_SERVER_WORDS = frozenset(chain.from_iterable(expand("SERVER")))
