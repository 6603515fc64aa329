"""Builds events from the values of a provider's event, in the same way for every adapter."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shared.addresses import strip_brackets
from shared.classification.classify import classify, find_codes
from shared.errors import PayloadError
from shared.events.bots import Automation
from shared.events.event import Event
from shared.providers.webhooks import payload
from shared.providers.webhooks.payload import read_identifier, read_text
from shared.vocabulary import EventType

FAILURES = frozenset({EventType.DEFERRED, EventType.BOUNCED, EventType.REJECTED, EventType.FAILED})
"""The types whose events have a classification."""

Build = Callable[[payload.Item, Mapping[str, Any]], list[Event]]
"""Makes events of one object of a body. Raises PayloadError, which becomes the problem of an `unknown` event."""


def translate(
    item: payload.Item,
    kind: EventType,
    *,
    word: object,
    recipients: object,
    identity: object = None,
    occurred_at: object = None,
    message_key: str | None = None,
    sender: object = None,
    subject: object = None,
    request_id: object = None,
    smtp_id: object = None,
    provider_message_id: object = None,
    tenant: object = None,
    failure: object = None,
    smtp_status: object = None,
    enhanced_code: object = None,
    reason: object = None,
    remote_host: object = None,
    url: object = None,
    ip: object = None,
    user_agent: object = None,
    tags: object = None,
    campaign: object = None,
    metadata: object = None,
    is_automated: bool = False,
    details: Mapping[str, Any] | None = None,
) -> list[Event]:
    """Return one event for each recipient. The values are the provider's, of any JSON type.

    `word` is the provider's word for the event, and `failure` its word for the cause of a failure, if it differs.
    Without an `identity` the content identifies the event. Of several tags the event has the first, and `details` has
    all. Raises PayloadError if `recipients` is neither an address nor a list of them.
    """
    at = payload.read_time(occurred_at)
    text = read_text(reason)
    status, enhanced = find_codes(read_text(smtp_status), read_text(enhanced_code), text)
    classification = None
    if kind in FAILURES:
        cause = read_text(failure) or read_text(word)
        classification = classify(word=cause, enhanced_code=enhanced, smtp_status=status, text=text)
    all_tags = [tag for tag in map(read_identifier, tags if isinstance(tags, list) else [tags]) if tag]
    return [
        Event(
            type=kind,
            provider_object=item.exact,
            identity=read_identifier(identity) or payload.fingerprint(item.clean),
            identity_at=at,
            message_key=message_key,
            recipient=recipient,
            occurred_at=at,
            sender=payload.read_address(sender),
            subject=read_text(subject),
            request_id=read_identifier(request_id),
            smtp_id=read_identifier(strip_brackets(read_text(smtp_id) or "")),
            provider_message_id=read_identifier(provider_message_id),
            tenant=read_identifier(tenant),
            classification=classification,
            smtp_status=status,
            enhanced_code=enhanced,
            reason=text,
            remote_host=read_text(remote_host),
            url=read_text(url),
            ip=read_text(ip),
            user_agent=read_text(user_agent),
            tag=all_tags[0] if all_tags else None,
            campaign=read_identifier(campaign),
            metadata=payload.plain(metadata) if isinstance(metadata, dict) and metadata else None,
            details=payload.present(
                event=word,
                **details or {},
                tags=all_tags if len(all_tags) > 1 else None,
                timestamp=None if at else occurred_at,
                metadata=None if isinstance(metadata, dict) else metadata,
            ),
            automation=Automation.SCANNER if is_automated else None,
            problem=f"Unknown event kind: {payload.quote(word)}" if kind is EventType.UNKNOWN else None,
        )
        for recipient in payload.read_addresses(recipients)
    ]


def parse_object(body: bytes, build: Build) -> list[Event]:
    """Return the events that `build` makes of a body. Raises PayloadError if the body is not a JSON object."""
    item = payload.read(body)
    value = payload.decode_any(item.clean)
    if not isinstance(value, dict):
        raise PayloadError("The body is not an object")
    try:
        return build(item, value)
    except PayloadError as error:
        return [payload.refuse(item, str(error))]


def parse_objects(body: bytes, build: Build) -> list[Event]:
    """Return the events that `build` makes of the objects of a body, an array or one object.

    Raises PayloadError if the body is not JSON.
    """
    events: list[Event] = []
    for item in payload.split_any(body):
        try:
            value = payload.decode_any(item.clean)
            if not isinstance(value, dict):
                raise PayloadError("The event is not an object")
            events += build(item, value)
        except PayloadError as error:
            events.append(payload.refuse(item, str(error)))
    return events


def at(value: object, *path: str) -> Any:
    """Return the value at a path of nested objects; None if an object or a field is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def first(*values: object) -> Any:
    """Return the first value that is neither None nor empty; None if there is none."""
    return next((value for value in values if value not in (None, "", [], {})), None)


def named(word: object, words: Mapping[str, EventType]) -> EventType:
    """Return the type that a word stands for, ignoring case; `unknown` if there is none."""
    text = read_text(word) if isinstance(word, str | int | list) else None
    return words.get(text.strip().lower() if text else "", EventType.UNKNOWN)


def pairs(value: object, name: str = "name") -> Mapping[str, Any] | None:
    """Return a list of `{"<name>", "value"}` objects as one object; an object unchanged; None for anything else."""
    if isinstance(value, dict):
        return value
    entries: Iterable[Any] = value if isinstance(value, list) else ()
    found = {
        text: entry.get("value")
        for entry in entries
        if isinstance(entry, dict) and (text := read_text(entry.get(name)))
    }
    return found or None
