"""Structured fields for HTTP (RFC 8941): the dictionaries that signatures and digests are written in.

Only dictionaries are read, and strictly: what the RFC's algorithm fails on fails here, and so does base64
without its padding, which section 4.2.7 lets a strict parser refuse.
"""

import binascii
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

_KEY = re.compile(r"([a-z*][a-z0-9_\-.*]*)(=)?")
_PARAMETER = re.compile(r"; *([a-z*][a-z0-9_\-.*]*)(=)?")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BYTES = re.compile(r":([A-Za-z0-9+/=]*):")
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")
_BOOLEAN = re.compile(r"\?([01])")
_COMMA = re.compile(r"[ \t]*(,[ \t]*)?")
_UNESCAPE = re.compile(r"\\(.)")

# RFC 8941 3.3.1 and 3.3.2.
_INTEGER_DIGITS = 15
_DECIMAL_DIGITS = 12
_FRACTION_DIGITS = 3


class StructuredFieldError(ValueError):
    """A header that is no structured field of the expected kind."""


class Token(str):
    """A word without quotes: `a` and `"a"` are different values."""

    __slots__ = ()


BareItem = int | Decimal | str | Token | bytes | bool
Parameters = Mapping[str, BareItem]


class Item(NamedTuple):
    """A value and its parameters."""

    value: BareItem
    parameters: Parameters


class Member(NamedTuple):
    """What a key of a dictionary stands for. A tuple of items is an inner list.

    `raw` is the value with its parameters exactly as received.
    """

    value: BareItem | tuple[Item, ...]
    parameters: Parameters
    raw: str


def parse_dictionary(text: str) -> dict[str, Member]:
    """The members of a dictionary in order; of a repeated key the last (RFC 8941 4.2.2).

    Raises StructuredFieldError.
    """
    text = text.strip(" ")
    members: dict[str, Member] = {}
    position = 0
    while position < len(text):
        key = _KEY.match(text, position)
        if key is None:
            raise StructuredFieldError(f"a key should be at position {position}")
        members[key[1]], position = _read_member(text, key.end(), has_value=key[2] is not None)
        comma = _COMMA.match(text, position)
        if comma is None or (comma[1] is None) != (comma.end() == len(text)):
            raise StructuredFieldError(f"a comma and another member should be at position {position}")
        position = comma.end()
    return members


def _read_member(text: str, start: int, *, has_value: bool) -> tuple[Member, int]:
    value: BareItem | tuple[Item, ...] = True  # a key alone is true
    position = start
    if has_value:
        read = _read_inner_list if text.startswith("(", start) else _read_bare_item
        value, position = read(text, start)
    parameters, position = _read_parameters(text, position)
    return Member(value, parameters, text[start:position]), position


def _read_inner_list(text: str, position: int) -> tuple[tuple[Item, ...], int]:
    items: list[Item] = []
    position += 1
    while not text.startswith(")", position := _skip_spaces(text, position)):
        value, position = _read_bare_item(text, position)
        parameters, position = _read_parameters(text, position)
        items.append(Item(value, parameters))
        if not text.startswith((" ", ")"), position):
            raise StructuredFieldError(f"a space or the list's end should be at position {position}")
    return tuple(items), position + 1


def _read_parameters(text: str, position: int) -> tuple[Parameters, int]:
    parameters: dict[str, BareItem] = {}
    while text.startswith(";", position):
        key = _PARAMETER.match(text, position)
        if key is None:
            raise StructuredFieldError(f"a parameter should be at position {position}")
        parameters[key[1]], position = True, key.end()
        if key[2]:
            parameters[key[1]], position = _read_bare_item(text, position)
    return parameters, position


def _skip_spaces(text: str, position: int) -> int:
    while text.startswith(" ", position):
        position += 1
    return position


def _read_bare_item(text: str, position: int) -> tuple[BareItem, int]:
    pattern, convert = _KINDS.get(text[position : position + 1], _OTHERS)
    match = pattern.match(text, position)
    if match is None:
        raise StructuredFieldError(f"a value should be at position {position}")
    return convert(match[match.lastindex or 0]), match.end()


def _to_number(text: str) -> int | Decimal:
    whole, dot, fraction = text.removeprefix("-").partition(".")
    if len(whole) > (_DECIMAL_DIGITS if dot else _INTEGER_DIGITS) or len(fraction) > _FRACTION_DIGITS:
        raise StructuredFieldError("a number has too many digits")
    return Decimal(text) if dot else int(text)


def _to_string(text: str) -> str:
    return _UNESCAPE.sub(r"\1", text) if "\\" in text else text


def _to_bytes(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise StructuredFieldError(f"a byte sequence is not base64: {error}") from None


def _to_boolean(text: str) -> bool:
    return text == "1"


_OTHERS = (_TOKEN, Token)
# What a value is, is told by its first character; all others are tokens, or nothing.
_KINDS: Mapping[str, tuple[re.Pattern[str], Callable[[str], BareItem]]] = {
    '"': (_STRING, _to_string),
    ":": (_BYTES, _to_bytes),
    "?": (_BOOLEAN, _to_boolean),
    "-": (_NUMBER, _to_number),
    **dict.fromkeys("0123456789", (_NUMBER, _to_number)),
}
