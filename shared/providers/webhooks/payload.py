"""Parsing of webhook payloads: JSON decoding, and conversion of values to usable ones."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec

from shared import json_text
from shared.addresses import MAX_LENGTH, normalize, strip_brackets
from shared.errors import PayloadError
from shared.events.event import Event
from shared.vocabulary import EventType, SetAsideReason

T = TypeVar("T")

MAX_EVENTS = 200_000
"""Events of one webhook. Providers send a thousand; a body of other items could have millions."""
LONGEST_IDENTIFIER = 512
"""Characters. Identifiers are indexed, and PostgreSQL limits an index entry to 2,704 bytes."""
MAX_DEPTH = 500
"""Levels of nesting. The JSON decoder takes fewer the deeper the stack of its caller is, and never so few."""
_DEEPEST = 20
_LONGEST_LIST = 4096
_MAX_PARTS = 20
"""The number of texts in a list or an object that are read as one text."""
_YEAR_2000, _YEAR_2100 = 946_684_800, 4_102_444_800
"""The Unix seconds between which a number or a date is meant as a time."""
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
"""Seconds, milliseconds, microseconds and nanoseconds; the ranges do not overlap."""
_ZONE_NAME = re.compile(r"\s*(?:UTC|GMT|Z)$", re.IGNORECASE)
_RFC_5322_DATE = re.compile(
    r"(?:[a-z]{3},?\s+)?\d{1,2}\s+[a-z]{3}\s+\d{4}\s+\d{1,2}:\d\d(?::\d\d)?(?:\s*(?:[+-]\d{4}|UTC?|GMT|Z|[ECMP][SD]T))?",
    re.IGNORECASE,
)
_MONTH_FIRST_DATE = re.compile(
    r"(?:[a-z]{3}\s+)?(?P<month>[a-z]{3})\s+(?P<day>\d{1,2})\s+(?:(?P<year>\d{4})\s+)?(?P<time>\d{1,2}:\d\d:\d\d)"
    r"(?:\s+(?:GMT|UTC)?(?P<offset>[+-]\d{4})|\s+(?:GMT|UTC))?(?:\s+(?P<year_at_end>\d{4}))?(?:\s+\([^()]*\))?",
    re.IGNORECASE,
)
"""As JavaScript's `Date.toString` and C's `asctime` write it."""
_NAME_AFTER_OFFSET = re.compile(r"(?<=[+-]\d{4})\s+[A-Z]{3,5}$")
"""Go's `Time.String` repeats the zone by its name."""
_BEFORE_OFFSET = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)")
_ADDRESS_NAMES = ("email", "address", "recipient", "email_address", "mail", "to", "rcpt_to")
# An escaped quotation mark begins no string. So only one string can have no end, and the time stays linear.
_ADDRESS_OF_LIST = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|<[^<>]*>|\([^()]*\)|\\"|[^,;])+""")
_BOM = b"\xef\xbb\xbf"
_UNDECODABLE = (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError)

_anything = msgspec.json.Decoder()
_items = msgspec.json.Decoder(list[msgspec.Raw])
_sorted = msgspec.json.Encoder(order="sorted")
_DIGEST = blake2b(digest_size=16)  # copied, because that takes less time than to read the parameter again

_LONGEST_TIME = 80


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level deeper, and one level back, as signed bytes."""


class Item(NamedTuple):
    """One JSON value: `exact` as it was received, `clean` as it can be decoded and stored."""

    exact: bytes
    clean: bytes


def read(body: bytes) -> Item:
    """Return the body as one JSON text.

    Raises PayloadError if it is not UTF-8, which RFC 8259 requires, or is nested more than MAX_DEPTH levels deep.
    """
    if not body.isascii():
        body = body.removeprefix(_BOM)  # RFC 8259 8.1 allows a parser to ignore it
        try:
            body.decode()
        except UnicodeError as error:
            raise PayloadError(f"The body is not UTF-8: {error.args[-1]}") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        brackets = _STRING.sub(b"", body).translate(_STEPS, _NO_BRACKETS)
        if max(accumulate(memoryview(brackets).cast("b")), default=0) > MAX_DEPTH:
            raise PayloadError(f"The body is nested more than {MAX_DEPTH} levels deep")
    return Item(body, json_text.clean(body))


def decode(text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON text. Raises PayloadError."""
    try:
        return decoder.decode(text)
    except _UNDECODABLE as error:
        raise PayloadError(f"The JSON does not have the expected form: {error}") from None


def decode_any(text: bytes) -> Any:
    """Decode a JSON text of any type. A number that is out of range is returned as text. Raises PayloadError."""
    try:
        return _anything.decode(text)
    except _UNDECODABLE as error:
        try:  # for msgspec one number out of range makes the whole text invalid
            # Decoded before, because the parser would also read UTF-16 and UTF-32, which have bytes that are NUL.
            return json.loads(
                text.decode(), parse_int=_parse_number, parse_float=_parse_number, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError):
            raise PayloadError(f"The JSON does not have the expected form: {error}") from None


def decode_fields(
    text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T], identifying: AbstractSet[str]
) -> tuple[T, list[str]]:
    """Decode an object whose fields may have other types than documented; the decoder's type is a Struct.

    A number, a list or an object where a text is expected is read as a text, and a text as a number. Returns the
    object, and the names of the fields that still could not be read. Of a field that is `identifying` for the event,
    only a number, or the only one of a list, is read as a text. Raises PayloadError for any other type there, or if
    the text is not a JSON object.
    """
    try:
        return decoder.decode(text), []
    except _UNDECODABLE:
        value = decode_any(bytes(text))
    unread: list[str] = []
    try:
        return _fit(value, decoder.type, identifying, unread, ""), unread
    except msgspec.ValidationError as error:
        raise PayloadError(f"The JSON does not have the expected form: {error}") from None


def _fit(value: Any, type_: Any, identifying: AbstractSet[str], unread: list[str], path: str) -> Any:
    """Return the value as this type. Raises ValidationError."""
    structs = [one for one in (type_, *get_args(type_)) if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    if not structs or value is None:
        return msgspec.convert(value, type_)
    if not isinstance(value, dict):
        raise msgspec.ValidationError(f"Expected `object` - at `$.{path}`")
    found = {}
    for field in msgspec.structs.fields(structs[0]):
        name = field.encode_name
        if name not in value:
            if field.required:
                raise msgspec.ValidationError(f"Object missing required field `{path}{name}`")
            continue
        is_identifying = name in identifying
        for reading in _readings(value[name], is_identifying=is_identifying):
            try:
                found[field.name] = _fit(reading, field.type, identifying, unread, f"{path}{name}.")
                break
            except msgspec.ValidationError as error:
                reason = error
        else:
            if is_identifying or field.required:
                raise msgspec.ValidationError(f"{str(reason).partition(' - at ')[0]} - at `$.{path}{name}`")
            unread.append(f"{path}{name}")
    return structs[0](**found)


def _readings(value: Any, *, is_identifying: bool) -> list[Any]:
    """Return the value, and what else it may be meant as."""
    if is_identifying and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if is_identifying and not isinstance(value, int | float):
        return [value]
    readings = [value]
    if (text := read_text(value)) is not None:
        readings.append(text)
        if len(text) < _LONGEST_TIME and not isinstance(number := _parse_number(text.strip()), str):
            readings.append(number)
    return readings


def _parse_number(text: str) -> int | float | str:
    """Return a number of JSON; its text if it is out of range."""
    try:
        number = int(text) if len(text) < _LONGEST_TIME and text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text
    return number if -(2**63) <= number < 2**64 else text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def split(body: bytes) -> list[Item]:
    """Return the items of a body that is a JSON array. Raises PayloadError."""
    whole = read(body)
    raws = decode(whole.clean, _items)
    return align(whole, raws)


def split_any(body: bytes) -> list[Item]:
    """Return the items of a JSON array, the lines of newline-delimited JSON, or one JSON object as one item.

    Raises PayloadError.
    """
    whole = read(body)
    text = whole.clean.lstrip()
    if text.startswith(b"["):
        raws = decode(whole.clean, _items)
        return align(whole, raws)
    try:
        decode(whole.clean, _anything)
    except PayloadError:
        lines = [line for line in whole.exact.splitlines() if line.strip()]
        if len(lines) < 2 or not all(line.lstrip().startswith(b"{") for line in lines):
            decode_any(whole.clean)  # raises, unless only a number is out of range
            return [whole]
        if len(lines) > MAX_EVENTS:
            raise too_many(len(lines)) from None
        return [read(line) for line in lines]
    return [whole]


def too_many(events: int) -> PayloadError:
    """Return the error for a body with more events than one webhook may have."""
    return PayloadError(f"The body has {events} events; the limit is {MAX_EVENTS} for one webhook")


def align(whole: Item, raws: Sequence[msgspec.Raw]) -> list[Item]:
    """Return parts of `whole.clean`, in order, with the exact text of each. Raises PayloadError above MAX_EVENTS."""
    if len(raws) > MAX_EVENTS:
        raise too_many(len(raws))
    if whole.clean is whole.exact:
        return [Item(text, text) for text in map(bytes, raws)]
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
    digest = _DIGEST.copy()
    digest.update(text)
    return digest.hexdigest()


def read_time(value: object) -> datetime | None:
    """Return the time that is meant; None if that is not clear.

    A number, also as text, is in Unix seconds, milliseconds, microseconds or nanoseconds. A date is written as in ISO
    8601, RFC 5322, or nearly so, or as programming languages print it; without a zone it is UTC. Times before 2000 and
    after 2100 are none.
    """
    if type(value) is int and _YEAR_2000 <= value < _YEAR_2100:  # nearly always
        return _read_seconds(value)
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _LONGEST_TIME:
            return None
        number = _parse_number(text)
        if isinstance(number, str):
            return _read_date(text)
        value = number
    elif isinstance(value, list) and len(value) == 1:
        return None if isinstance(value[0], list) else read_time(value[0])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for unit in _UNITS:
        if _YEAR_2000 * unit <= value < _YEAR_2100 * unit:
            return datetime.fromtimestamp(value / unit, UTC)
    return None


# Cached because the events of a body happened in a few different seconds.
@lru_cache(maxsize=1024)
def _read_seconds(value: int) -> datetime:
    return datetime.fromtimestamp(value, UTC)


def _read_date(text: str) -> datetime | None:
    if (named := _MONTH_FIRST_DATE.fullmatch(text)) and (year := named["year"] or named["year_at_end"]):
        text = f"{named['day']} {named['month']} {year} {named['time']} {named['offset'] or '+0000'}"
    text = _NAME_AFTER_OFFSET.sub("", text)
    written = _BEFORE_OFFSET.sub("", _ZONE_NAME.sub("+00:00", text)).replace("/", "-")
    try:
        instant = datetime.fromisoformat(written)
    except ValueError:
        if not _RFC_5322_DATE.fullmatch(text):  # the parser ignores what it does not understand, such as PM
            return None
        try:
            instant = parsedate_to_datetime(text)
        except (ValueError, IndexError, TypeError, OverflowError):
            return None
    try:
        instant = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant if _YEAR_2000 <= instant.timestamp() < _YEAR_2100 else None


def read_text(value: object) -> str | None:
    """Return a non-blank string; a number as a string; the texts and numbers in a list or an object, joined.

    None for anything else.
    """
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, list | dict):
        parts = [text for text in map(read_text, _find_parts(value)) if text]
        return " ".join(parts[:_MAX_PARTS]) or None
    return None


def _find_parts(value: object, depth: int = 0) -> Iterator[object]:
    if isinstance(value, list | dict) and depth < _DEEPEST:
        for entry in value if isinstance(value, list) else value.values():
            yield from _find_parts(entry, depth + 1)
    elif not isinstance(value, list | dict):
        yield value


def read_identifier(value: object) -> str | None:
    """Return a value as an identifier: trimmed, and cut to the length that an index accepts."""
    if value is None:
        return None
    text = value if isinstance(value, str) else read_text(value) or ""
    return text.strip()[:LONGEST_IDENTIFIER] or None


def read_address(value: object) -> str | None:
    """Return the normalized address of a text or an object, the first of several; None if there is none."""
    if isinstance(value, str) and len(value) <= MAX_LENGTH:
        return _read_short_address(value)
    try:
        return read_addresses(value)[0]
    except PayloadError:
        return None


# Cached because most events of a source have one of a few senders.
@lru_cache(maxsize=1024)
def _read_short_address(text: str) -> str | None:
    return read_addresses(text)[0]


def read_addresses(value: object) -> list[str | None]:
    """Return the normalized addresses in a value, each once, in order; [None] if there is none.

    The value is a text, which may list several addresses, an object such as `{"email", "name"}`, or a list of these.
    Raises PayloadError if it is anything else: the event must not be taken for one that concerns all recipients.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and "," not in value and ";" not in value:
        return [normalize(value)[:LONGEST_IDENTIFIER] or None]
    found = dict.fromkeys(normalize(text)[:LONGEST_IDENTIFIER] for text in _find_addresses(value))
    found.pop("", None)
    return list(found) or [None]


def _find_addresses(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield from _split_addresses(value)
    elif depth >= _DEEPEST:
        raise PayloadError("The recipients are nested too deeply")
    elif isinstance(value, list):
        found: list[str] = []
        problems: list[PayloadError] = []
        for entry in value:
            try:
                found += _find_addresses(entry, depth + 1)
            except PayloadError as error:
                problems.append(error)
        if problems and not any(found):  # otherwise one bad entry would hide all others
            raise problems[0]
        yield from found
    elif isinstance(value, dict):
        named = {str(name).lower(): entry for name, entry in value.items()}
        entry = next((named[name] for name in _ADDRESS_NAMES if named.get(name)), None)
        if entry is None:
            raise PayloadError(f"An object without an address stands for a recipient: {quote(value)}")
        yield from _find_addresses(entry, depth + 1)
    elif value is not None:
        raise PayloadError(f"{value!r} stands for a recipient")


def _split_addresses(text: str) -> list[str]:
    if "," not in text and ";" not in text:
        return [text]
    # A display name may contain a comma without quotes: `Muster, Maria <maria@customer.example>`.
    parts = _ADDRESS_OF_LIST.findall(text) if len(text) <= _LONGEST_LIST else text.replace(";", ",").split(",")
    return [part.strip() for part in parts if "@" in part] or [text]


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


def set_aside(event: Event, problem: str, reason: SetAsideReason) -> Event:
    """Return an authentic event as one that changes nothing. It keeps its ids, so that it is found."""
    details = {**event.details, "set_aside": reason}
    return msgspec.structs.replace(
        event, type=EventType.UNKNOWN, message_key=None, recipient=None, problem=problem, details=details
    )


def refuse(item: Item, problem: str, *, tenant: str | None = None) -> Event:
    """Return an `unknown` event for a bad item: it names the problem and affects no message or recipient.

    It keeps the ids that the item has under the usual names, so that it is found.
    """
    try:
        value = decode_any(item.clean)
    except PayloadError:
        value = None
    named = value if isinstance(value, dict) else {}
    return Event(
        type=EventType.UNKNOWN,
        provider_object=item.exact,
        identity=fingerprint(item.clean),
        tenant=read_identifier(tenant),
        request_id=read_identifier(read_text(named.get("request_id"))),
        smtp_id=read_identifier(strip_brackets(read_text(named.get("smtp_id")) or "")),
        provider_message_id=read_identifier(read_text(named.get("message_id"))),
        problem=problem,
        details={"set_aside": SetAsideReason.UNREADABLE},
    )


def quote(value: object) -> str:
    """Return a short quotation of a received value, for an error message."""
    text = str(plain(value))
    return repr(text if len(text) <= 60 else text[:60] + "…")
