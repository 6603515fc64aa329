"""Changes as subscribers receive them: the same object in the feed, the stream and webhooks."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.changes.log import Change, Cursor
from shared.messages import event_queries
from shared.messages import queries as messages
from shared.vocabulary import EventType

_MESSAGE_FIELDS = (
    "id",
    "source",
    "provider_message_id",
    "request_id",
    "smtp_id",
    "sender",
    "subject",
    "tag",
    "campaign",
    "tenant",
)


def format_cursor(cursor: Cursor) -> str:
    """Return the id of the change at a position; it is also the cursor to continue after it."""
    return f"{cursor[0]}-{cursor[1]}"


def build_payloads_by_tenant(
    connection: Connection, asked: Collection[tuple[Change, str | None]], *, include_body_text: bool = False
) -> dict[tuple[Cursor, str | None], dict[str, Any]]:
    """Return for pairs of a change and a tenant what `build_payloads` returns for that tenant.

    Tenant None may see everything; changes of other tenants are left out.
    """
    visible = {(change.cursor, tenant): change for change, tenant in asked if tenant in (None, change.tenant)}
    distinct = list({change.cursor: change for change in visible.values()}.values())
    built = build_payloads(connection, distinct, include_body_text=include_body_text)
    whole = {change.cursor: payload for change, payload in zip(distinct, built, strict=True)}
    tenants_events = event_queries.filter_by_tenant(
        connection, {(c.event_id, tenant) for (_, tenant), c in visible.items() if c.event_id and tenant is not None}
    )
    found = {}
    for (cursor, tenant), change in visible.items():
        payload = whole[cursor]
        message, hidden = payload["data"]["message"], dict[str, None]()
        if tenant is not None and message and message["tenant"] != tenant:
            hidden["message"] = None
        if tenant is not None and change.event_id and (change.event_id, tenant) not in tenants_events:
            hidden |= dict.fromkeys(payload["data"].keys() & {"event", "body_text"})
        found[cursor, tenant] = payload | {"data": payload["data"] | hidden} if hidden else payload
    return found


def build_payloads(
    connection: Connection, changes: Sequence[Change], *, tenant: str | None = None, include_body_text: bool = False
) -> list[dict[str, Any]]:
    """Return `{id, type, timestamp, data: {message, recipient, status, previous_status, version, event}}` for each.

    If a change is about a suppression or an alert, `data` has it under that name. With `include_body_text`, `data` of
    inbound mail ends with `body_text`: `{text, truncated, original_bytes}`, or None if the provider posted no text.
    """
    message_ids = {change.message_id for change in changes if change.message_id}
    event_ids = {change.event_id for change in changes if change.event_id}
    known = {
        message.id: message
        for message in messages.list_without_recipients(connection, list(message_ids), tenant=tenant)
    }
    events = {
        event.id: asdict(event)
        for event in event_queries.list_by_ids(connection, list(event_ids), tenant=tenant, with_objects=False)
    }
    for event in events.values():
        event.pop("provider_object")  # of any size; GET /v1/events/{id} has it
    texts: dict[UUID, dict[str, Any] | None] = {}
    if include_body_text:
        inbound = [id_ for id_, event in events.items() if event["type"] == EventType.INBOUND]
        texts = event_queries.list_body_texts(connection, inbound)
    found = []
    for change in changes:
        message = known.get(change.message_id) if change.message_id else None
        data: dict[str, Any] = {
            "source": change.source,
            "message": {name: getattr(message, name) for name in _MESSAGE_FIELDS} if message else None,
            "recipient": change.recipient,
            "status": change.status,
            "previous_status": change.previous_status,
            "version": change.version,
            "event": events.get(change.event_id) if change.event_id else None,
            "suppression": None,
            "alert": None,
        }
        if change.data is not None:
            data[change.type.partition(".")[0]] = change.data
        if change.event_id in texts:
            data["body_text"] = texts[change.event_id]  # last, so that a shortened capture has the addresses
        found.append(
            {"id": format_cursor(change.cursor), "type": change.type, "timestamp": change.changed_at, "data": data}
        )
    return found
