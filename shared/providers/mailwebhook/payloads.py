"""Translation of the bodies of MailWebhook's pipelines into events.

Source: docs.mailwebhook.com, `mailwebhook.generic@1` and the other mappers (`map.custom_json` produces any JSON
value, `map.slack_simple` and `map.telegram_simple` produce a text for a channel).
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from shared.addresses import strip_brackets
from shared.errors import PayloadError
from shared.events.event import Event
from shared.events.identity import scope_to_tenant
from shared.providers.webhooks import payload
from shared.providers.webhooks.payload import read_identifier, read_text
from shared.providers.webhooks.translation import at
from shared.vocabulary import EventType

GENERIC = "mailwebhook.generic"
_LONGEST_TEXT = 1000
"""The limit of characters per text in `details`; the provider's object keeps the whole text."""
_MAX_BYTES = 32 * 1024
"""The limit of JSON in `details`, which every subscriber receives."""


def parse(body: bytes) -> list[Event]:
    """Return the events of a body, in the order of its recipients. Raises PayloadError."""
    item = payload.read(body)
    value = payload.decode_any(item.clean)
    if not isinstance(value, dict):
        return [Event(type=EventType.INBOUND, provider_object=item.exact, details=_repeated({"value": value}))]
    if at(value, "schema", "name") != GENERIC:
        return [_read_custom(item, value)]
    if not isinstance(value.get("message"), dict):
        return [payload.refuse(item, "The generic body has no `message` object")]
    return _read_generic(item, value, value["message"])


def _read_generic(item: payload.Item, body: Mapping[str, Any], message: Mapping[str, Any]) -> list[Event]:
    smtp_id = read_identifier(strip_brackets(read_text(message.get("message_id")) or ""))
    senders, mail_from = _addresses(message.get("from")), at(body, "envelope", "mail_from")
    received = (at(body, "meta", "received_at"), at(body, "event", "created_at"), message.get("date"))
    occurred_at = next(filter(None, map(payload.read_time, received)), None)
    recipients: Sequence[str | None] = (
        _addresses(at(body, "envelope", "rcpt_to")) or _addresses(message.get("to")) or [None]
    )
    tenant = read_identifier(at(body, "event", "project_id"))
    # What is worth showing beside the event's own fields; the texts stay in the provider's object.
    worth = payload.present(
        schema_version=at(body, "schema", "version"),
        event_id=at(body, "event", "id"),
        project_id=at(body, "event", "project_id"),
        route_id=at(body, "event", "route_id"),
        created_at=at(body, "event", "created_at"),
        message_id_type=message.get("message_id_type"),
        date=message.get("date"),
        **{name: message.get(name) or None for name in ("from", "to", "reply_to", "cc", "bcc", "headers")},
        mail_from=at(body, "envelope", "mail_from"),
        rcpt_to=at(body, "envelope", "rcpt_to"),
        attachments=at(body, "body", "attachments"),
        has_text=bool(at(body, "body", "text")),
        has_html=bool(at(body, "body", "html")),
        source=at(body, "meta", "source"),
        raw_size_bytes=at(body, "meta", "raw_size_bytes"),
        received_at=at(body, "meta", "received_at"),
        spam=at(body, "meta", "spam"),
    )
    details = _repeated(worth)
    return [
        Event(
            type=EventType.INBOUND,
            provider_object=item.exact,
            identity=read_identifier(at(body, "event", "id")),
            message_key=scope_to_tenant(tenant, f"smtp:{smtp_id}") if smtp_id else None,
            recipient=recipient,
            occurred_at=occurred_at,
            sender=senders[0] if senders else payload.read_address(mail_from),
            subject=read_text(message.get("subject")),
            smtp_id=smtp_id,
            tenant=tenant,
            details=details,
        )
        for recipient in recipients
    ]


def _read_custom(item: payload.Item, body: Mapping[str, Any]) -> Event:
    """Return the event of another mapper's object: the fields of mail by their usual names, and the rest in short."""
    smtp_id = read_identifier(strip_brackets(read_text(body.get("message_id")) or ""))
    senders, recipients = _addresses(body.get("from")), _addresses(body.get("to"))
    event_id = at(body, "event", "id") or body.get("event_id")
    return Event(
        type=EventType.INBOUND,
        provider_object=item.exact,
        identity=read_identifier(event_id),
        message_key=f"smtp:{smtp_id}" if smtp_id else None,
        recipient=recipients[0] if len(recipients) == 1 else None,
        occurred_at=payload.read_time(body.get("received_at")) or payload.read_time(body.get("date")),
        sender=senders[0] if senders else None,
        subject=read_text(body.get("subject")),
        smtp_id=smtp_id,
        details=_repeated(body),
    )


def _addresses(value: object) -> Sequence[str]:
    """Return the addresses in a list of strings or `{email, name?}` objects, or in a single one of these."""
    found: dict[str | None, None] = {}
    for entry in value if isinstance(value, list) else [value]:
        with suppress(PayloadError):
            found.update(dict.fromkeys(payload.read_addresses(entry)))
    return [address for address in found if address]


def _repeated(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a shortened copy of a body for `details`: long texts are cut, oversized values omitted."""
    kept, room = {}, _MAX_BYTES
    for name, value in body.items():
        cut = _cut(payload.plain(value))
        size = len(msgspec.json.encode(cut))
        if size <= room:
            kept[name] = cut
            room -= size
    return payload.present(**kept)


def _cut(value: Any) -> Any:
    match value:
        case str():
            return value[:_LONGEST_TEXT]
        case list():
            return [_cut(entry) for entry in value]
        case dict():
            return {name: _cut(entry) for name, entry in value.items()}
    return value
