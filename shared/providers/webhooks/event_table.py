"""Translation of a provider's items into events by a table: where each field is, and what each word means.

Providers whose items are JSON objects describe them by an `EventTable` instead of writing their own translation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.addresses import strip_brackets
from shared.classification.provider_codes import PROVIDER_WORDS
from shared.errors import PayloadError
from shared.events.event import Event
from shared.events.identity import build_message_key
from shared.providers.webhooks import forms, payload, translation
from shared.providers.webhooks.payload import Item, read_identifier, read_text
from shared.vocabulary import EventType

Getter = Callable[[Any], Any]
"""Returns a field of a decoded item, or None. Raises LookupError with a sentence if it cannot be read."""

_IDS = ("provider_message_id", "request_id", "smtp_id")
_IDENTIFYING = frozenset({"type", "recipient", "event_id", *_IDS})
_DESCRIPTIVE = (
    "smtp_status", "enhanced_code", "reason", "url", "user_agent", "ip", "tags", "sender", "subject", "campaign",
    "remote_host",
)  # fmt: skip
_WITHOUT_MESSAGE = frozenset({EventType.TEST, EventType.DOMAIN_DNS_ERROR})

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entries = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTable:
    """One provider's items: the meaning of its words, and where the fields of an event are.

    `fields` are arguments of `translation.translate`, with `type` for its word, `recipient`, and `event_id` where every
    event has an id that its repetitions share. `details` are fields of the provider's own, which subscribers receive. A
    word that `types` does not have becomes `unknown`.
    """

    provider: str
    types: Mapping[str, EventType]
    fields: Mapping[str, Getter]
    details: Mapping[str, Getter] = field(default_factory=dict)
    automated: Callable[[dict[str, Any]], bool] | None = None
    """Returns whether the provider says that a program opened or clicked, and not a person."""


def path(*alternatives: str) -> Getter:
    """Return a getter of the first of these dotted paths that leads to something; a number is a position in a list."""
    routes = [tuple(alternative.split(".")) for alternative in alternatives]

    def get(value: Any) -> Any:
        for route in routes:
            found = value
            for name in route:
                if isinstance(found, dict):
                    found = found.get(name)
                elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
                    found = found[int(name)]
                else:
                    found = None
            if found is not None and found != "":
                return found
        return None

    return get


def paths(**fields: str | tuple[str, ...] | Getter) -> dict[str, Getter]:
    """Return getters by field: each value is a path, alternatives, or a function of the item."""
    return {
        name: given if callable(given) else path(*([given] if isinstance(given, str) else given))
        for name, given in fields.items()
    }


def read_items(whole: Item, *names: str) -> list[Item]:
    """Return the items of a body: the object or the entries of the array below these names; a number is a position.

    Raises PayloadError if there is neither.
    """
    part = whole
    for name in names:
        if name.isdigit():
            entries = _split(part)
            if int(name) >= len(entries):
                raise PayloadError(f"The body has no entry {name} in a list below {'.'.join(names)}")
            part = entries[int(name)]
            continue
        raw = payload.decode(part.clean, _members).get(name)
        if raw is None:
            raise PayloadError(f"The body has no {name!r}")
        (part,) = payload.align(part, [raw])
    if part.clean.lstrip()[:1] == b"[":
        return _split(part)
    payload.decode(part.clean, _members)
    return [part]


def read_lines(whole: Item) -> list[Item]:
    """Return the items of newline-delimited JSON. A line that is not JSON becomes a text, so that it can be stored.

    Raises PayloadError if no line is JSON.
    """
    # Cleaning keeps every byte's place, so that the lines of both are the same.
    lines = zip(whole.exact.split(b"\n"), whole.clean.split(b"\n"), strict=True)
    items: list[Item] = []
    problem: PayloadError | None = None
    unread = 0
    for item in (Item(*line) for line in lines if line[0].strip()):
        try:
            payload.decode_any(item.clean)
        except PayloadError as error:
            problem, unread = problem or error, unread + 1
            text = _encode(item.clean.decode("utf-8", "replace"))
            item = Item(text, text)  # noqa: PLW2901
        items.append(item)
    if len(items) > payload.MAX_EVENTS:
        raise payload.too_many(len(items))
    if unread == len(items):
        raise problem or PayloadError("The body has no line of JSON")
    return items


def encode_items(values: Sequence[Any]) -> list[Item]:
    """Return decoded values as items, where the body has no JSON of each. Raises PayloadError."""
    if len(values) > payload.MAX_EVENTS:
        raise payload.too_many(len(values))
    texts = [_encode(value) for value in values]
    return [Item(text, text) for text in texts]


def _split(part: Item) -> list[Item]:
    try:
        raws: list[msgspec.Raw] = _entries.decode(part.clean)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError) as error:
        raise PayloadError(f"The JSON does not have the expected form: {error}") from None
    return payload.align(part, raws)


def parse(items: Sequence[Item], table: EventTable) -> list[Event]:
    """Return the events of the items, one for each recipient. An item that cannot be read becomes `unknown`."""
    events: list[Event] = []
    for item in items:
        try:
            events.extend(translate(item, table))
        except PayloadError as error:
            events.append(payload.refuse(item, str(error)))
    return events


def translate(item: Item, table: EventTable) -> list[Event]:
    """Return the events of one item, one for each recipient. Raises PayloadError if it identifies nothing."""
    value = payload.decode_any(item.clean)
    if not isinstance(value, dict):
        raise PayloadError(f"An item must be an object, not {payload.quote(value)}")
    found, unread = _read_fields(value, table)
    word = _read_id(found, "type")
    if word is None:
        raise PayloadError("The item names no kind of event")
    kind = table.types.get(word, EventType.UNKNOWN)
    # The first of the provider's words that the table of classifications has, as it is written there.
    words = [f"{table.provider}:{text.lower()}" for text in (read_text(found.get("failure")), word) if text]
    failure = next((text for text in words if text in PROVIDER_WORDS), table.provider)
    ids = {name: _read_id(found, name) for name in _IDS}
    ids["smtp_id"] = read_identifier(strip_brackets(ids["smtp_id"] or ""))
    return translation.translate(
        item,
        kind,
        word=word,
        recipients=found.get("recipient"),
        identity=_read_id(found, "event_id"),
        occurred_at=found.get("occurred_at"),
        message_key=None if kind in _WITHOUT_MESSAGE else build_message_key(table.provider, **ids),
        **ids,
        failure=failure,
        metadata=_read_metadata(found.get("metadata")),
        is_automated=table.automated is not None and table.automated(value),
        details={**{name: get(value) for name, get in table.details.items()}, "unread": unread or None},
        **{name: found.get(name) for name in _DESCRIPTIVE},
    )


def _read_fields(value: Mapping[str, Any], table: EventTable) -> tuple[dict[str, Any], list[str]]:
    found, unread = {}, []
    for name, get in table.fields.items():
        try:
            found[name] = get(value)
        except LookupError as error:
            if name in _IDENTIFYING:
                raise PayloadError(str(error)) from None
            unread.append(name)
    return found, unread


def _read_id(found: Mapping[str, Any], name: str) -> str | None:
    """Return an identifying text. Raises PayloadError for an object or a list: it must not be taken for absent."""
    value = found.get(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PayloadError(f"{name} must be text, not {payload.quote(value)}")
    return read_identifier(value)


def _read_metadata(value: Any) -> Any:
    """Return a value; an object where it is the JSON text of one, as some providers pass it on."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            return payload.decode_any(value.encode("utf-8", "replace"))
        except PayloadError:
            return value
    return value


def parser(table: EventTable, *names: str) -> Callable[[bytes, Any], list[Event]]:
    """Return the `parse` of a provider whose items are below these names of the body."""

    def parse_body(body: bytes, _credentials: Any, /) -> list[Event]:
        return parse(read_items(payload.read(body), *names), table)

    return parse_body


def json_or_form_parser(table: EventTable) -> Callable[[bytes, Any], list[Event]]:
    """Return the `parse` of a provider whose bodies are an item, or a list of them, as JSON, or an item as a form."""

    def parse_body(body: bytes, _credentials: Any, /) -> list[Event]:
        is_json = body.lstrip()[:1] in (b"{", b"[")
        return parse(read_items(payload.read(body)) if is_json else encode_items([forms.read(body)]), table)

    return parse_body
