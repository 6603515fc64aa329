"""Events, as they are read: by time, by recipient, and as the timeline of a message."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping

from shared.classification import classify as classification
from shared.postgres.pagination import Page, Position, Span, Walk
from shared.vocabulary import Classification


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """One normalized event, flat. `provider_object` is the provider's own object, as JSON text.

    `reconciled`: its receipt came because the provider was asked to send again.
    `automated`: the program that opened or clicked instead of a person (`shared.events.bots`).
    """

    id: UUID
    receipt_id: UUID
    source: str
    type: str
    message_id: UUID | None
    recipient: str | None
    occurred_at: datetime
    received_at: datetime
    classification: str | None
    classification_code: int | None
    smtp_status: str | None
    enhanced_code: str | None
    reason: str | None
    sender: str | None
    subject: str | None
    request_id: str | None
    smtp_id: str | None
    provider_message_id: str | None
    tenant: str | None
    tag: str | None
    campaign: str | None
    remote_host: str | None
    url: str | None
    ip: str | None
    user_agent: str | None
    automated: str | None
    metadata: Any
    details: Any
    problem: str | None
    provider_object: str
    reconciled: bool


_ROWS = """
SELECT e.id, e.receipt_id, s.slug AS source, e.type, e.message_id, e.recipient, e.occurred_at, e.received_at,
    e.classification, e.smtp_status, e.enhanced_code, e.reason, e.data, e.provider_object::text AS provider_object,
    EXISTS (SELECT FROM reconciled_receipts AS x WHERE x.receipt_id = e.receipt_id) AS reconciled
FROM events AS e JOIN sources AS s ON s.id = e.source_id WHERE e.id = ANY(%(ids)s)
"""

_OF_TENANT = """coalesce(e.data ->> 'tenant', %(tenant)s) = %(tenant)s AND CASE WHEN e.message_id IS NULL
    THEN e.data ->> 'tenant' ELSE (SELECT m.tenant FROM messages AS m WHERE m.id = e.message_id) END = %(tenant)s"""
"""Whether an event is a tenant's: by what it says itself, and by the message that it is about."""

_PAIRS = f"""
SELECT e.id, asked.tenant FROM unnest(%(ids)s::uuid[], %(tenants)s::text[]) AS asked (id, tenant)
JOIN events AS e ON e.id = asked.id WHERE e.id = ANY(%(ids)s) AND {_OF_TENANT.replace("%(tenant)s", "asked.tenant")}
"""

_IN_ROW = frozenset(
    [
        "id",
        "receipt_id",
        "source",
        "type",
        "message_id",
        "recipient",
        "occurred_at",
        "received_at",
        "classification",
        "smtp_status",
        "enhanced_code",
        "reason",
        "provider_object",
        "reconciled",
    ]
)
_IN_DATA = tuple(entry.name for entry in fields(EventFacts) if entry.name not in _IN_ROW | {"classification_code"})

# Those that name no recipient apply to all of the message. OFFSET 0 keeps the planner from walking through all
# events in the hope of meeting the recipient's soon.
_OF_RECIPIENT = """
recipient_states AS r CROSS JOIN LATERAL (
    SELECT id, source_id, type, message_id, data FROM events
    WHERE message_id = r.message_id AND (recipient = r.recipient OR recipient IS NULL) OFFSET 0
) AS e
"""


def listed(
    connection: Connection,
    *,
    type: str | None = None,  # noqa: A002 - the word of the contract
    source: str | None = None,
    recipient: str | None = None,
    tenant: str | None = None,
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[EventFacts]:
    """Events, those received last first. `recipient` is a normalized address; `tenant` None is everybody's."""
    walk = Walk(table="events AS e", keys=("e.id",))
    if recipient is not None:
        walk.table = _OF_RECIPIENT
        walk.bound("r.recipient = %(recipient)s AND r.recipient <> ''", recipient=recipient)
    (span or Span()).cut(walk, "e.id")
    if type is not None:
        walk.pick("e.type = %(type)s", type=type)
    if source is not None:
        walk.pick("e.source_id = (SELECT id FROM sources WHERE slug = %(source)s)", source=source)
    if tenant is not None:
        walk.pick(_OF_TENANT, tenant=tenant)
    walk.after(after)
    found = walk.page(connection, limit)
    return Page(by_ids(connection, [position[0] for position in found.items]), found.next)


def timeline(
    connection: Connection,
    message_id: UUID,
    *,
    tenant: str | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[EventFacts]:
    """The events of a message, in the order in which they happened."""
    walk = Walk(table="events AS e", keys=("e.occurred_at", "e.id"), ascending=True)
    walk.bound("e.message_id = %(message_id)s", message_id=message_id)
    if tenant is not None:
        walk.pick(_OF_TENANT, tenant=tenant)
    walk.after(after)
    found = walk.page(connection, limit)
    return Page(by_ids(connection, [position[1] for position in found.items]), found.next)


def by_ids(connection: Connection, ids: Sequence[UUID], *, tenant: str | None = None) -> list[EventFacts]:
    """Those of these events that there are, in this order."""
    of_tenant = "" if tenant is None else f" AND {_OF_TENANT}"
    rows = connection.exec_driver_sql(_ROWS + of_tenant, {"ids": list(ids), "tenant": tenant}).mappings()
    found = {row["id"]: _facts(row) for row in rows}
    return [found[id_] for id_ in ids if id_ in found]


def of_tenants(connection: Connection, asked: Collection[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Those of these pairs of an event and a tenant of which the event is the tenant's."""
    values = {"ids": [pair[0] for pair in asked], "tenants": [pair[1] for pair in asked]}
    return {(row[0], row[1]) for row in connection.exec_driver_sql(_PAIRS, values)} if asked else set()


def _facts(row: RowMapping) -> EventFacts:
    word = row["classification"]
    return EventFacts(
        **{name: row[name] for name in _IN_ROW},
        **{name: row["data"].get(name) for name in _IN_DATA},
        classification_code=None if word is None else classification.code(Classification(word)),
    )
