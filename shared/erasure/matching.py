"""Finding one address in any of its spellings, and no other address; pure."""

import json
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote

from shared.addresses import AddressError, drop_invisible, normalize, parse_target

_ESCAPE = re.compile(
    r"\\u(?P<code>[0-9a-fA-F]{4})|\\(?P<letter>.)"
    r"|(?P<octets>%[0-7][0-9a-fA-F]|%[c-dC-D][0-9a-fA-F]%[89abAB][0-9a-fA-F]|%[eE][0-9a-fA-F](?:%[89abAB][0-9a-fA-F]){2})",
    re.DOTALL,
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_MAX_LABEL = 63
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

# A letter, a digit and what joins them make it part of a longer address, which belongs to somebody else; so does an
# apostrophe inside a name, but not one that quotes.
_BEFORE = r"(?<![\w.+%-])(?<!\w')"
_AFTER = r"(?![\w-])(?!\.\w)"
_DELETED_JSON = "{}"


def parse_address(text: str) -> str:
    """Return the normalized address that a person wants erased. Raises AddressError.

    An unusual one (a quoted local part, an address literal) must be written exactly as it is stored.
    """
    try:
        address = parse_target(text).address
    except AddressError:
        # A wrong guess cannot be undone, so this form is compared with what is stored and never corrected.
        stored = text.strip().lower()
        local, _, domain = stored.rpartition("@")
        if not local or not domain or "," in stored or not stored.isprintable() or normalize(text) != stored:
            raise
        return stored
    if address is None:
        raise AddressError("Only an address can be erased; a domain is not personal data.")
    return address


class AddressMatcher:
    """Finds one normalized address, and replaces it by a pseudonym in text that is not stored as evidence.

    Matches any case, the domain in ASCII or international form (RFC 5890), and characters written as JSON
    (`\\u0040`) or URL (`%40`) escapes. Does not match an address that is encoded as a whole (base64).
    """

    def __init__(self, address: str, pseudonym: str) -> None:
        self.address = address
        self.pseudonym = pseudonym
        written = [address]
        local, at, domain = address.rpartition("@")
        with suppress(UnicodeError):
            # Not by Python's codec, which refuses the few letters that its older rules would have replaced.
            international = ".".join(
                label[4:].encode("ascii").decode("punycode")
                if label.startswith("xn--") and len(label) <= _MAX_LABEL
                else label
                for label in domain.split(".")
            )
            if international != domain:
                written.append(f"{local}{at}{international}")
        if not local.startswith('"'):
            written += [f'"{local}"@{form.rpartition("@")[2]}' for form in written]
        # Where part of the address looks like an escape, it may have been decoded as one.
        decoded = [_ESCAPE.sub(_decode, form) for form in written]
        self._forms = list(dict.fromkeys(map(_fold, (*written, *decoded))))
        self._folded = re.compile(f"{_BEFORE}(?:{'|'.join(map(re.escape, self._forms))}){_AFTER}")
        # In text as it stands. An escape right behind could continue the address, so that is not a match.
        self._plain = re.compile(rf"{_BEFORE}(?:{'|'.join(map(re.escape, written))}){_AFTER}(?![%\\])", re.IGNORECASE)
        self.sql_pattern = "|".join(
            [r"[\\%]", r"[^\x01-\x7f]", *(re.escape(form) for form in written if form.isascii())]
        )
        """For PostgreSQL's `~*`: true for every text that contains the address, and for many others."""

    def is_in(self, text: str | bytes) -> bool:
        """Return whether text, or the UTF-8 text in bytes, contains the address."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        if "\\" in text or "%" in text:
            text = _ESCAPE.sub(_decode, text)
        folded = _fold(text)
        return any(form in folded for form in self._forms) and self._folded.search(folded) is not None

    def pseudonymize(self, text: str) -> str:
        """Return the text with the pseudonym in place of the address.

        The pseudonym replaces the whole text where the address is written in escapes, or where normalizing the text
        gives the address, such as one with comments inside.
        """
        return self._pseudonymize(text, text, str)

    def pseudonymize_json(self, text: str) -> str:
        """Do the same to every string of a JSON text; everything else stays as it is written."""

        def replace(literal: re.Match[str]) -> str:
            return self._pseudonymize(literal[0], json.loads(literal[0], strict=False), json.dumps)

        return _STRING.sub(replace, text)

    def delete_json(self, text: str) -> str:
        """Return an empty JSON object in place of a JSON text that contains the address."""
        return text if self.pseudonymize_json(text) == text else _DELETED_JSON

    def _pseudonymize(self, written: str, value: str, write: Callable[[str], str]) -> str:
        # Escapes are decoded once, as they are written: decoding a JSON string first would find others' addresses.
        if self.is_in(written):
            replaced = write(self._plain.sub(self.pseudonym, value))
            return write(self.pseudonym) if self.is_in(replaced) else replaced
        return write(self.pseudonym) if "@" in value and normalize(value) == self.address else written


def _decode(escape: re.Match[str]) -> str:
    code, letter, octets = escape.groups()
    if code:
        return chr(int(code, 16))
    return _CONTROLS.get(letter, letter) if letter else unquote(octets)


def _fold(text: str) -> str:
    """Return text as addresses are compared: by the mapping of international domain names (RFC 3491)."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", drop_invisible(text)).casefold()
