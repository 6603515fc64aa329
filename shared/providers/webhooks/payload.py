"""Parsing of webhook payloads: JSON decoding, and conversion of values to usable ones."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import msgspec

from shared.addresses import normalize
from shared.errors import PayloadError
from shared.events.event import Event
from shared.vocabulary import EventType

T = TypeVar("T")

LONGEST_IDENTIFIER = 512
"""Characters. Identifiers are indexed, and PostgreSQL limits an index entry to 2,704 bytes."""
_DEEPEST = 20
_YEAR_10000 = 253_402_300_800
_BOM = b"\xef\xbb\xbf"
_UNDECODABLE = (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError)

_anything = msgspec.json.Decoder()
_items = msgspec.json.Decoder(list[msgspec.Raw])
_sorted = msgspec.json.Encoder(order="sorted")

# The first branch matches pairs of surrogates, so the others find lone halves only. The last branch skips any other
# escape, such as an escaped backslash.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u0000|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
_UNSTORABLE_ESCAPE_LENGTH = 6
_LONGEST_TIME = 40


class Item(NamedTuple):
    """One JSON value: `exact` as it was received, `clean` as it can be decoded and stored."""

    exact: bytes
    clean: bytes


def read(body: bytes) -> Item:
    """Return the body as one JSON text. Raises PayloadError if it is not UTF-8, which RFC 8259 requires."""
    if not body.isascii():
        body = body.removeprefix(_BOM)  # RFC 8259 8.1 allows a parser to ignore it
        try:
            body.decode()
        except UnicodeError as error:
            raise PayloadError(f"The body is not UTF-8: {error.args[-1]}") from None
    clean = body
    if any(escape in body for escape in (b"\\u0000", b"\\ud", b"\\uD")):
        # Neither msgspec nor PostgreSQL takes NUL and halves of surrogate pairs: U+FFFD replaces them.
        clean = _ESCAPE.sub(lambda found: b"\\ufffd" if len(found[0]) == _UNSTORABLE_ESCAPE_LENGTH else found[0], body)
    return Item(body, clean)


def decode(text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON text. Raises PayloadError."""
    try:
        return decoder.decode(text)
    except _UNDECODABLE as error:
        raise PayloadError(f"The JSON does not have the expected form: {error}") from None


def decode_any(text: bytes) -> Any:
    """Decode a JSON text of any type. Raises PayloadError."""
    return decode(text, _anything)


def split(body: bytes) -> list[Item]:
    """Return the items of a body that is a JSON array. Raises PayloadError."""
    whole = read(body)
    raws = decode(whole.clean, _items)
    if whole.clean is whole.exact:
        return [Item(text, text) for text in map(bytes, raws)]
    return align(whole, raws)


def align(whole: Item, raws: Iterable[msgspec.Raw]) -> list[Item]:
    """Parts of `whole.clean`, in order, with the exact text of each."""
    parts = []
    position = 0
    for raw in raws:
        clean = bytes(raw)
        position = whole.clean.index(clean, position)
        # Cleaning keeps every byte's place, so that one offset serves both.
        parts.append(Item(whole.exact[position : position + len(clean)], clean))
        position += len(clean)
    return parts


def fingerprint(text: bytes) -> str:
    """Return a hash of a JSON value that ignores white space and the order of keys."""
    try:
        text = _sorted.encode(_anything.decode(text))
    except (*_UNDECODABLE, ValueError, OverflowError):
        pass  # a number is out of range: hash the bytes unchanged
    return blake2b(text, digest_size=16).hexdigest()


def read_time(value: object) -> datetime | None:
    """Parse Unix seconds (number or text) or an ISO 8601 time (UTC if it has no zone); None if it is neither."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _LONGEST_TIME:
            return None
        try:
            value = float(text)
        except ValueError:
            try:
                instant = datetime.fromisoformat(text)
                return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
            except (ValueError, OverflowError):
                return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _YEAR_10000:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def read_text(value: object) -> str | None:
    """Return a non-blank string, or a number as a string; None for anything else."""
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def read_identifier(value: object) -> str | None:
    """Return a value as an identifier: trimmed, and cut to the length that an index accepts."""
    if value is None:
        return None
    text = value if isinstance(value, str) else read_text(value) or ""
    return text.strip()[:LONGEST_IDENTIFIER] or None


def read_address(value: object) -> str | None:
    """Return a normalized address; None if there is none."""
    if value is None:
        return None
    text = value if isinstance(value, str) else read_text(value) or ""
    return normalize(text)[:LONGEST_IDENTIFIER] or None


def read_addresses(value: object) -> list[str | None]:
    """Return the normalized addresses of a string or a list, each once, in order; [None] if there is none."""
    if not isinstance(value, list):
        return [read_address(value)]
    if len(value) == 1:
        return [read_address(value[0])]
    found = dict.fromkeys(read_address(entry) for entry in value)
    found.pop(None, None)
    return list(found) or [None]


def plain(value: Any, depth: int = 0) -> Any:
    """Return a JSON value without parts nested too deeply, so that every encoder accepts it."""
    if isinstance(value, dict):
        return {key: plain(entry, depth + 1) for key, entry in value.items()} if depth < _DEEPEST else None
    if isinstance(value, list):
        return [plain(entry, depth + 1) for entry in value] if depth < _DEEPEST else None
    return value


def present(**values: Any) -> Mapping[str, Any]:
    """Return the values that are neither None nor empty, with `plain` applied."""
    return {name: plain(value) for name, value in values.items() if value is not None and value != ""}


def refuse(item: Item, problem: str, *, tenant: str | None = None) -> Event:
    """Return an `unknown` event for a bad item: it names the problem and affects no message or recipient."""
    return Event(
        type=EventType.UNKNOWN,
        provider_object=item.exact,
        identity=fingerprint(item.clean),
        tenant=read_identifier(tenant),
        problem=problem,
    )


def quote(value: object) -> str:
    """Return a short quotation of a received value, for an error message."""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:60] + "…")
