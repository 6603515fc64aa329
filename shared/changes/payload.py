"""Changes as subscribers get them: the same object in the feed, in the stream and in webhooks."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from shared.changes.log import Change, Cursor
from shared.messages import event_queries
from shared.messages import queries as messages

_OF_MESSAGE = ("id", "source", "provider_message_id", "request_id", "smtp_id", "sender", "subject", "tag", "campaign",
               "tenant")  # fmt: skip


def identifier(cursor: Cursor) -> str:
    """What a change is called: its place in the log, so that whoever knows it can go on from there."""
    return f"{cursor[0]}-{cursor[1]}"


def payloads_for(
    connection: Connection, asked: Collection[tuple[Change, str | None]]
) -> dict[tuple[Cursor, str | None], dict[str, Any]]:
    """For many tenants at once what `payloads` gives for each of them: by the change and by who is told of it.

    None is told everything; a change that is not a tenant's is left out.
    """
    told = {(change.cursor, tenant): change for change, tenant in asked if tenant in (None, change.tenant)}
    distinct = list({change.cursor: change for change in told.values()}.values())
    whole = {change.cursor: found for change, found in zip(distinct, payloads(connection, distinct), strict=True)}
    theirs = event_queries.of_tenants(
        connection, {(c.event_id, tenant) for (_, tenant), c in told.items() if c.event_id and tenant is not None}
    )
    found = {}
    for (cursor, tenant), change in told.items():
        payload = whole[cursor]
        message, hidden = payload["data"]["message"], dict[str, None]()
        if tenant is not None and message and message["tenant"] != tenant:
            hidden["message"] = None
        if tenant is not None and change.event_id and (change.event_id, tenant) not in theirs:
            hidden["event"] = None
        found[cursor, tenant] = payload | {"data": payload["data"] | hidden} if hidden else payload
    return found


def payloads(connection: Connection, changes: Sequence[Change], *, tenant: str | None = None) -> list[dict[str, Any]]:
    """`{id, type, timestamp, data: {message, recipient, status, previous_status, version, event}}` of each.

    What is about no message is in `data` under the first word of its type: `suppression`, `alert`.
    """
    message_ids = {change.message_id for change in changes if change.message_id}
    event_ids = {change.event_id for change in changes if change.event_id}
    known = {message.id: message for message in messages.summaries(connection, list(message_ids), tenant=tenant)}
    told = {event.id: asdict(event) for event in event_queries.by_ids(connection, list(event_ids), tenant=tenant)}
    for event in told.values():
        event.pop("provider_object")  # as large as its provider likes; GET /v1/events/{id} has it
    found = []
    for change in changes:
        message = known.get(change.message_id) if change.message_id else None
        data: dict[str, Any] = {
            "source": change.source,
            "message": {name: getattr(message, name) for name in _OF_MESSAGE} if message else None,
            "recipient": change.recipient,
            "status": change.status,
            "previous_status": change.previous_status,
            "version": change.version,
            "event": told.get(change.event_id) if change.event_id else None,
            "suppression": None,
            "alert": None,
        }
        if change.data is not None:
            data[change.type.partition(".")[0]] = change.data
        found.append(
            {"id": identifier(change.cursor), "type": change.type, "timestamp": change.changed_at, "data": data}
        )
    return found
