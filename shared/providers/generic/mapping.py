"""The mapping of a `generic` source, `settings.generic`: how its provider authenticates, and where it says what.

It is checked and compiled once, when the source is stored or opened. An error names the place and the nearest known
word. Expressions are JMESPath (jmespath.org); limits keep what they cost proportional to the size of an item.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import jmespath
from jmespath.exceptions import JMESPathError, ParseError
from jmespath.parser import ParsedResult

from shared.errors import CredentialsError, suggest
from shared.providers.webhooks import payload
from shared.providers.webhooks.base import StatusCodes
from shared.providers.webhooks.event_table import EventTable, Getter
from shared.providers.webhooks.schemes import (
    DIGESTS,
    ENCODINGS,
    PLACEHOLDER,
    TOLERANCE_SECONDS,
    Ed25519,
    Hmac,
    Password,
    Scheme,
    SharedHeader,
    Signature,
    StandardWebhooks,
)
from shared.vocabulary import EventType

NAME = "generic"

FORMATS = ("json", "form", "ndjson")
TIMES = ("unix", "unix_ms", "rfc3339")
KINDS = ("basic", "header", "hmac", "ed25519", "standard_webhooks")
FIELDS = (
    "type", "recipient", "occurred_at", "provider_message_id", "request_id", "smtp_id", "event_id", "smtp_status",
    "enhanced_code", "reason", "url", "user_agent", "ip", "tags", "metadata", "sender", "subject",
)  # fmt: skip
FUNCTIONS = frozenset(
    {
        "contains", "ends_with", "join", "keys", "length", "max", "merge", "min", "not_null", "reverse", "sort",
        "starts_with", "to_array", "to_number", "to_string", "type", "values",
    }
)  # fmt: skip
"""Functions of JMESPath that an expression may call. None of them applies an expression to each part of a value."""

_PARTS = ("authentication", "format", "items", "fields", "types", "time", "status_codes")
_SETTINGS_OF: Mapping[str, tuple[str, ...]] = {
    "basic": ("kind",),
    "header": ("kind", "header"),
    "hmac": ("kind", "header", "digest", "encoding", "prefix", "template", "timestamp_header", "tolerance_seconds"),
    "ed25519": ("kind", "header", "encoding", "prefix", "template", "timestamp_header", "tolerance_seconds"),
    "standard_webhooks": ("kind",),
}
CREDENTIALS: Mapping[str, tuple[str, ...]] = {
    "basic": ("username", "password", "previous"),
    "header": ("value",),
    "hmac": ("secrets",),
    "ed25519": ("public_key",),
    "standard_webhooks": ("secrets",),
}
"""The credentials that each kind of authentication needs."""
_STATUS_CODES = ("bad_signature", "too_large", "unavailable")
_MAX_CHARACTERS = 300
_MAX_CALLS = 4
_MAX_SELECTIONS = 1
"""Each list of selections (`[a, b]`) can multiply the size of a value, and each call can escape it once more."""
_MAX_TYPES = 500
_MAX_TOLERANCE_SECONDS = 7 * 86_400
_FIRST_MILLISECONDS = 100_000_000_000
"""Numbers below are seconds, until the year 5138; numbers above are milliseconds, since 1973."""
_HEADER_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_STATUS_RANGE = range(200, 600)
_FIRST_REFUSAL = 300
_PLAIN_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\[\*?\])?")
"""An expression that leads to a part of the body, whose items are then stored exactly as they were received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericMapping:
    """A compiled mapping.

    `route` leads to the items by names of objects; it is empty where the body itself is the list or the item. `items`
    finds them in a decoded body, if that takes more than names.
    """

    scheme: Scheme
    credentials: tuple[str, ...]
    format: str
    route: tuple[str, ...]
    items: Getter | None
    table: EventTable
    status_codes: StatusCodes


def read_mapping(raw: object) -> GenericMapping:
    """Check and compile `settings.generic`. Raises CredentialsError with the place, the value, and what is right."""
    if raw is None:
        raise CredentialsError(
            "settings.generic is missing: a generic source needs its mapping, with authentication, fields and types"
        )
    given = _object("generic", raw, _PARTS)
    for part in ("authentication", "fields", "types"):
        if part not in given:
            _fail(f"generic.{part}", None, "is required")
    fields = _object("generic.fields", given["fields"], FIELDS)
    if "type" not in fields:
        _fail("generic.fields.type", None, "is required: it says where the provider's word for the event is")
    getters = {name: _compile(f"generic.fields.{name}", text) for name, text in fields.items()}
    time = _one_of("generic.time", given.get("time"), TIMES, default=None)
    if time and "occurred_at" in getters:
        getters["occurred_at"] = _in_unit(getters["occurred_at"], time)
    items = given.get("items", "@")
    find = None if items == "@" else _compile("generic.items", items)
    route: tuple[str, ...] = ()
    if find and _PLAIN_PATH.fullmatch(items):
        find, route = None, tuple(items.partition("[")[0].split("."))
    scheme = _read_scheme(given["authentication"])
    return GenericMapping(
        scheme=scheme,
        credentials=CREDENTIALS[given["authentication"]["kind"]],
        format=_one_of("generic.format", given.get("format"), FORMATS, default=FORMATS[0]) or FORMATS[0],
        route=route,
        items=find,
        table=EventTable(provider=NAME, types=_read_types(given["types"]), fields=getters),
        status_codes=_read_status_codes(given.get("status_codes") or {}),
    )


def _read_scheme(raw: object) -> Scheme:
    place = "generic.authentication"
    if not isinstance(raw, Mapping):
        _fail(place, raw, "must be an object with a `kind`")
    kind = _one_of(f"{place}.kind", raw.get("kind"), KINDS, default=None)
    if kind is None:
        _fail(f"{place}.kind", None, f"is required, one of {', '.join(KINDS)}")
    given = _object(place, raw, _SETTINGS_OF[kind])
    if kind == "basic":
        return Password()
    if kind == "standard_webhooks":
        return StandardWebhooks()
    header = _header(f"{place}.header", given.get("header"))
    if kind == "header":
        return SharedHeader(header=header)
    signature = _read_signature(place, given, header)
    if kind == "ed25519":
        return Ed25519(signature=signature)
    digest = _one_of(f"{place}.digest", given.get("digest"), DIGESTS, default=DIGESTS[0]) or DIGESTS[0]
    return Hmac(signature=signature, digest=digest)


def _read_signature(place: str, given: Mapping[str, Any], header: str) -> Signature:
    template, timestamp_header = given.get("template", "{body}"), given.get("timestamp_header")
    if not isinstance(template, str) or template.count("{body}") != 1:
        _fail(f"{place}.template", template, "must contain `{body}` once: a signature without it proves nothing")
    if "{" in (rest := PLACEHOLDER.sub("", template)) or "}" in rest:
        _fail(f"{place}.template", template, "may contain `{body}`, `{timestamp}` and `{header:NAME}`, no other braces")
    if ("{timestamp}" in template) != (timestamp_header is not None):
        _fail(f"{place}.timestamp_header", timestamp_header, "and `{timestamp}` in the template belong together")
    tolerance = given.get("tolerance_seconds", TOLERANCE_SECONDS)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int) or not 0 < tolerance <= _MAX_TOLERANCE_SECONDS:
        _fail(f"{place}.tolerance_seconds", tolerance, f"must be a number from 1 to {_MAX_TOLERANCE_SECONDS}")
    prefix = given.get("prefix", "")
    if not isinstance(prefix, str) or any(character in prefix for character in ", \t\r\n"):
        _fail(f"{place}.prefix", prefix, "must be text without commas and spaces, which separate signatures")
    return Signature(
        header=header,
        encoding=_one_of(f"{place}.encoding", given.get("encoding"), ENCODINGS, default=ENCODINGS[0]) or ENCODINGS[0],
        prefix=prefix,
        template=template,
        timestamp_header=None if timestamp_header is None else _header(f"{place}.timestamp_header", timestamp_header),
        tolerance_seconds=tolerance,
    )


def _read_types(raw: object) -> Mapping[str, EventType]:
    place = "generic.types"
    if not isinstance(raw, Mapping) or not raw:
        _fail(place, raw, "must be an object: the provider's words, and our type for each")
    if len(raw) > _MAX_TYPES:
        _fail(place, f"{len(raw)} words", f"may have {_MAX_TYPES} words")
    words = [str(one) for one in EventType]
    found = {}
    for word, type_ in raw.items():
        ours = _one_of(f"{place}.{word}", type_, words, default=None)
        if ours is None:
            _fail(f"{place}.{word}", None, f"must be one of {', '.join(words)}")
        found[str(word)] = EventType(ours)
    return found


def _read_status_codes(raw: object) -> StatusCodes:
    given = _object("generic.status_codes", raw, _STATUS_CODES)
    for name, code in given.items():
        if isinstance(code, bool) or not isinstance(code, int) or code not in _STATUS_RANGE:
            _fail(f"generic.status_codes.{name}", code, "must be an HTTP status from 200 to 599")
    if (code := given.get("unavailable")) is not None and code < _FIRST_REFUSAL:
        _fail("generic.status_codes.unavailable", code, "must not be a success: the provider would not send it again")
    return StatusCodes(**given)


def _compile(place: str, text: object) -> Getter:
    """Return a getter for a JMESPath expression. Raises CredentialsError with the position of a mistake."""
    if not isinstance(text, str) or not text.strip():
        _fail(place, text, "must be a JMESPath expression, such as `data.recipient`")
    if len(text) > _MAX_CHARACTERS:
        _fail(place, f"{len(text)} characters", f"may have {_MAX_CHARACTERS} characters")
    try:
        compiled = jmespath.compile(text)
    except ParseError as error:
        position = error.lex_position + 1 if isinstance(error.lex_position, int) else 1
        _fail(place, text, f"is not JMESPath: a mistake at character {position}")
    except JMESPathError as error:
        _fail(place, text, f"is not JMESPath: {str(error).splitlines()[0]}")
    _limit(place, text, compiled)

    def get(value: Any) -> Any:
        try:
            return compiled.search(value)
        except (JMESPathError, TypeError, ValueError, RecursionError) as error:
            raise LookupError(f"settings.{place} cannot be applied: {str(error)[:200]}") from None

    return get


def _limit(place: str, text: str, compiled: ParsedResult) -> None:
    calls = selections = 0
    nodes = [compiled.parsed]
    while nodes:
        node = nodes.pop()
        nodes.extend(child for child in node["children"] if isinstance(child, Mapping))
        if node["type"] == "function_expression":
            calls += 1
            if node["value"] not in FUNCTIONS:
                words = ", ".join(sorted(FUNCTIONS))
                _fail(place, text, f"calls {node['value']!r}.{suggest(node['value'], FUNCTIONS)} Allowed are {words}")
        selections += node["type"] in ("multi_select_list", "multi_select_dict")
        if node["type"] == "expref":
            _fail(place, text, "must not pass an expression (`&`) to a function")
    if calls > _MAX_CALLS:
        _fail(place, text, f"may call {_MAX_CALLS} functions, and calls {calls}")
    if selections > _MAX_SELECTIONS:
        _fail(place, text, f"may have {_MAX_SELECTIONS} list or object of selections, and has {selections}")


def _in_unit(get: Getter, time: str) -> Getter:
    def read(value: Any) -> Any:
        given = get(value)
        if given is None:
            return None
        unit = None
        if isinstance(given, str | int | float) and payload.read_time(given) is not None:
            try:
                unit = "unix" if float(given) < _FIRST_MILLISECONDS else "unix_ms"
            except (ValueError, OverflowError):
                unit = "rfc3339"
        if time != unit:
            raise LookupError(f"{payload.quote(given)} is not a time in {time}")
        return given

    return read


def _header(place: str, name: object) -> str:
    if not isinstance(name, str) or not name or not set(name.lower()) <= _HEADER_CHARACTERS:
        _fail(place, name, "must name a header, such as X-Signature")
    return name.lower()


def _object(place: str, raw: object, known: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        _fail(place, raw, "must be an object")
    for name in raw:
        if name not in known:
            raise CredentialsError(
                f"settings.{place}.{name} is unknown.{suggest(str(name), known)} Known names are {', '.join(known)}"
            )
    return raw


def _one_of(place: str, value: object, words: Iterable[str], *, default: str | None) -> str | None:
    if value is None:
        return default
    if not isinstance(value, str) or value not in words:
        near = suggest(value, words) if isinstance(value, str) else ""
        _fail(place, value, f"must be one of {', '.join(words)}.{near}")
    return str(value)


def _fail(place: str, value: object, sentence: str) -> NoReturn:
    found = "" if value is None else f" (not {payload.quote(value)})"
    raise CredentialsError(f"settings.{place} {sentence}{found}")
