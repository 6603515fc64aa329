"""Taking one address out of texts, in whatever form it is written, and nobody else's.

A pseudonym stands in its place: the keyed hash of the address, in a domain that can never exist (RFC 2606). So
what was said of one recipient still belongs together, and whoever knows the address, and the key of the hash, can
ask whether it is suppressed; nobody can read it.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate
from urllib.parse import unquote

from shared import targets
from shared.addresses import normalize
from shared.targets import TargetError

PSEUDONYM_DOMAIN = "erased.invalid"

_PSEUDONYM = re.compile(rf"([0-9a-f]{{32}})@{re.escape(PSEUDONYM_DOMAIN)}")
_ESCAPES = (
    r"\\u(?P<code>[0-9a-fA-F]{4})|\\(?P<letter>.)"
    r"|(?P<octets>%[0-7][0-9a-fA-F]|%[c-dC-D][0-9a-fA-F]%[89abAB][0-9a-fA-F]|%[eE][0-9a-fA-F](?:%[89abAB][0-9a-fA-F]){2})"
)
_ESCAPE = re.compile(_ESCAPES, re.DOTALL)
_UNIT = re.compile(rf"{_ESCAPES}|.", re.DOTALL)
_PIECE = re.compile(r'[^"\s]+')
"""Hardly any address goes on beyond these, so that a long text is looked at a piece at a time."""
_WHOLE = re.compile(".+", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LONGEST_LABEL = 63
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

# A letter, a digit and what joins them make it part of a longer address, which is somebody else's; so does an
# apostrophe inside a name, but not one that quotes.
_BEFORE = r"(?<![\w.+%-])(?<!\w')"
_AFTER = r"(?![\w-])(?!\.\w)"


def pseudonym(key: str) -> str:
    """What stands in place of the address with this key (32 hex digits)."""
    return f"{key}@{PSEUDONYM_DOMAIN}"


def key_of(address: str) -> str | None:
    """The key that a pseudonym is made of; None if this is none."""
    match = _PSEUDONYM.fullmatch(address)
    return match[1] if match else None


def subject(text: str) -> str:
    """The address that a person wants erased: one in any form, or exactly what is kept as one, however odd.

    Raises TargetError.
    """
    try:
        address = targets.read(text).address
    except TargetError:
        # What is no proper address must be written as it is kept: what is erased by a wrong guess is gone.
        kept = text.strip().lower()
        local, _, domain = kept.rpartition("@")
        if not local or not domain or not kept.isprintable() or normalize(text) != kept:
            raise
        return kept
    if address is None:
        raise TargetError("Only an address can be erased; a domain is nobody's data.")
    return address


class Eraser:
    """Replaces one normalized address.

    Found in any case, with its domain in ASCII or international form (RFC 5890), and where its characters are
    written as JSON (`\\u0040`) or URL (`%40`) escapes; not where it is encoded as a whole (base64).
    """

    def __init__(self, address: str, replacement: str) -> None:
        self.address = address
        self.replacement = replacement
        self._written = list(_forms(address))
        # Where what looks like an escape is part of the address, it may be read as one.
        read = [_ESCAPE.sub(_meant, form) for form in self._written]
        self._forms = list(dict.fromkeys(map(_folded, (*self._written, *read))))
        self._piece = _PIECE if all(map(_PIECE.fullmatch, self._forms)) else _WHOLE
        self._pattern = re.compile(f"{_BEFORE}(?:{'|'.join(map(re.escape, self._forms))}){_AFTER}")

    @property
    def patterns(self) -> list[str]:
        """For SQL's ILIKE: texts that hold it, unless it is written in escapes other than that of the sign."""
        written = dict.fromkeys(text for form in self._written for text in (form, json.dumps(form)[1:-1]))
        literal = [re.sub(r"([%_\\])", r"\\\1", form) for form in written]
        return [f"%{form.replace('@', sign)}%" for form in literal for sign in ("@", r"\%40", r"\\u0040")]

    def erase(self, text: str) -> str:
        """The text without the address; the same object where it is not in it."""
        if not self._may_hold(text):
            return text
        erased = self._piece.sub(lambda match: self._erased(match[0]), text)
        return text if erased == text else erased

    def erase_bytes(self, body: bytes) -> bytes:
        """The same of bytes, which are UTF-8 for the most part; what is not stays as it is."""
        text = body.decode("utf-8", "surrogateescape")
        erased = self.erase(text)
        return body if erased is text else erased.encode("utf-8", "surrogateescape")

    def _erased(self, piece: str) -> str:
        if not self._may_hold(piece):
            return piece
        units = _units(piece)
        ends = list(accumulate(len(unit) for unit, _ in units))
        starts = dict(zip([0, *ends[:-1]], (place for _, place in units), strict=True))
        after = dict(zip(ends, [*(place for _, place in units[1:]), len(piece)], strict=True))
        kept, position = [], 0
        for match in self._pattern.finditer("".join(unit for unit, _ in units)):
            if match.start() in starts and match.end() in after:  # and not in the middle of what one escape means
                kept += [piece[position : starts[match.start()]], self.replacement]
                position = after[match.end()]
        return "".join([*kept, piece[position:]])

    def _may_hold(self, text: str) -> bool:
        """Tells most texts that do not hold it at little cost."""
        if "\\" in text or "%" in text:
            text = _ESCAPE.sub(_meant, text)
        folded = text.lower() if text.isascii() else _folded(text)
        return any(form in folded for form in self._forms)


class Understood(Eraser):
    """Also replaces JSON strings that are no more than the address, in whatever way it is written: with a display
    name, comments, white space. Takes much longer.
    """

    def erase(self, text: str) -> str:
        """The text without the address; the same object where it is not in it."""
        plain = super().erase(text)
        erased = _STRING.sub(self._understood, plain)
        return plain if erased == plain else erased

    def _understood(self, literal: re.Match[str]) -> str:
        try:
            means = normalize(json.loads(literal[0], strict=False)) == self.address
        except ValueError:
            return literal[0]
        return f'"{self.replacement}"' if means else literal[0]


def _forms(address: str) -> Iterator[str]:
    yield address
    local, at, domain = address.rpartition("@")
    try:
        international = ".".join(map(_international, domain.split(".")))
    except UnicodeError:
        return
    if international != domain:
        yield f"{local}{at}{international}"


def _international(label: str) -> str:
    # Not by the codec of Python: it refuses the few letters that its older rules would have replaced.
    is_encoded = label.startswith("xn--") and len(label) <= _LONGEST_LABEL
    return label[4:].encode("ascii").decode("punycode") if is_encoded else label


def _units(text: str) -> list[tuple[str, int]]:
    """What each character or escape means, folded, and where it stands; with the marks that combine with it."""
    units: list[tuple[str, int]] = []
    for match in _UNIT.finditer(text):
        meant, place = _meant(match), match.start()
        if units and unicodedata.combining(meant[0]):
            before, place = units.pop()
            meant = before + meant
        units.append((_folded(meant), place))
    return units


def _meant(match: re.Match[str]) -> str:
    code, letter, octets = match.groups()
    if code:
        return chr(int(code, 16))
    if letter:
        return _CONTROLS.get(letter, letter)
    return unquote(octets) if octets else match[0]


def _folded(text: str) -> str:
    """As addresses are compared: by the foldings that an international domain is prepared with (RFC 3491)."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
