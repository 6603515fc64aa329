"""Events as people and the API read them: by time, by recipient, and as the timeline of a message."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Text,
    Uuid,
    and_,
    any_,
    case,
    cast,
    column,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
    true,
)

from shared.classification.classify import code_of
from shared.messages.tables import event_objects, events, messages, recipient_states
from shared.postgres.metadata import is_any
from shared.postgres.pagination import KeysetQuery, Page, Position, Span
from shared.sources.tables import sources
from shared.vocabulary import Classification, EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One normalized event. `provider_object` is the provider's own object, as JSON text.

    `reconciled`: its receipt came because we asked the provider to send it again.
    `automated`: the kind of program that opened or clicked instead of a person (`shared.events.bots`).
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


SET_ASIDE: ColumnElement[str] = literal_column(f"'{EventType.UNKNOWN}'")
"""The type of events that are set aside; in the text of a statement, so that a partial index serves it."""

# Only this column is needed here; the table belongs to `shared.reconciliation`, which imports this package.
_reconciled = table("reconciled_receipts", column("receipt_id", Uuid))

_object_id = (
    select(event_objects.c.id)
    .where(event_objects.c.id > events.c.receipt_id, event_objects.c.id <= events.c.id)
    .order_by(event_objects.c.id.desc())
    .limit(1)
    .correlate(events)
    .scalar_subquery()
)
MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Of provider objects in an answer. A page with more ends early, and its cursor continues from there."""

_EVENTS = select(
    events.c.id,
    events.c.receipt_id,
    sources.c.slug.label("source"),
    events.c.type,
    events.c.message_id,
    events.c.recipient,
    events.c.occurred_at,
    events.c.received_at,
    events.c.classification,
    case({str(word): int(code_of(word)) for word in Classification}, value=events.c.classification).label(
        "classification_code"
    ),
    events.c.smtp_status,
    events.c.enhanced_code,
    events.c.reason,
    cast(events.c.provider_object, Text).label("provider_object"),
    case((events.c.provider_object.is_(None), _object_id)).label("object_id"),
    exists().where(_reconciled.c.receipt_id == events.c.receipt_id).label("reconciled"),
    events.c.data,
).join_from(events, sources, sources.c.id == events.c.source_id)

# Taken from the JSON here rather than by PostgreSQL, which would parse it once for each field.
_DATA_FIELDS = {entry.name for entry in fields(StoredEvent)} - set(_EVENTS.selected_columns.keys())


def list_events(
    connection: Connection,
    *,
    type: str | None = None,  # noqa: A002 - the name of the API's parameter
    source: str | None = None,
    recipient: str | None = None,
    request_id: str | None = None,
    smtp_id: str | None = None,
    set_aside: bool | None = None,
    tenant: str | None = None,
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
    max_bytes: int | None = None,
) -> Page[StoredEvent]:
    """Return a page of events, those received last first.

    `recipient` is a normalized address; events that name no recipient belong to every recipient of their message.
    `tenant` None means all tenants. `set_aside`: only events that changed nothing, or only the others.
    """
    rows: Any = events
    if recipient is not None:
        state = recipient_states
        # OFFSET 0 makes PostgreSQL begin with the recipient's messages, rather than read all events in order of time.
        of_message = (
            select(events)
            .where(
                events.c.message_id == state.c.message_id,
                or_(events.c.recipient == state.c.recipient, events.c.recipient.is_(None)),
            )
            .correlate(state)
            .offset(0)
            .lateral("of_message")
        )
        found = select(of_message).select_from(state.join(of_message, true()))
        rows = found.where(state.c.recipient == recipient, state.c.recipient != "").subquery("of_recipient")
    query = KeysetQuery(rows.c.id)
    query.where(*(span or Span()).of_ids(rows.c.id))
    if type is not None:
        query.filter(rows.c.type == type)
    if set_aside:
        query.where(rows.c.type == SET_ASIDE)
    elif set_aside is False:
        query.filter(rows.c.type != SET_ASIDE)
    for name, value in (("request_id", request_id), ("smtp_id", smtp_id)):
        if value is not None:
            query.filter(rows.c.data[name].as_string() == value)
    if source is not None:
        query.filter(rows.c.source_id == select(sources.c.id).where(sources.c.slug == source).scalar_subquery())
    if tenant is not None:
        query.filter(_belongs_to(rows, tenant))
    return _read_page(connection, query.fetch(connection, after=after, limit=limit), max_bytes)


def list_timeline(
    connection: Connection,
    message_id: UUID,
    *,
    tenant: str | None = None,
    after: Position | None = None,
    limit: int = 50,
    max_bytes: int | None = None,
) -> Page[StoredEvent]:
    """Return a page of the events of a message, in the order in which they happened."""
    query = KeysetQuery(events.c.occurred_at, events.c.id, ascending=True)
    query.where(events.c.message_id == message_id)
    if tenant is not None:
        query.filter(_belongs_to(events, tenant))
    return _read_page(connection, query.fetch(connection, after=after, limit=limit), max_bytes)


def _read_page(connection: Connection, page: Page[Position], max_bytes: int | None) -> Page[StoredEvent]:
    """Return the events of a page of keys, which end with the id; up to `max_bytes` of objects, but at least one."""
    positions = {position[-1]: position for position in page.items}
    found = list_by_ids(connection, list(positions))
    size = 0
    for number, event in enumerate(found):
        size += len(event.provider_object)
        if max_bytes is not None and size > max_bytes and number:
            return Page(found[:number], positions[found[number - 1].id])
    return Page(found, page.next)


def list_by_ids(connection: Connection, ids: Sequence[UUID], *, tenant: str | None = None) -> list[StoredEvent]:
    """Return the events with these ids, in the given order; unknown ids are skipped."""
    statement = _EVENTS.where(events.c.id == any_(literal(ids, ARRAY(Uuid))))
    if tenant is not None:
        statement = statement.where(_belongs_to(events, tenant))
    found = {}
    rows = connection.execute(statement).mappings().all()
    # Each is read once, although a page may have hundreds of events of one object.
    objects: dict[UUID | None, tuple[dict[str, Any], str]] = {}
    if shared := {row["object_id"] for row in rows if row["object_id"] is not None}:
        object_text = cast(event_objects.c.provider_object, Text)
        selected = select(event_objects.c.id, event_objects.c.data, object_text)
        objects = {
            row[0]: (row[1], row[2]) for row in connection.execute(selected.where(is_any(event_objects.c.id, shared)))
        }
    for row in rows:
        values = dict(row)
        shared_data, provider_object = objects.get(values.pop("object_id"), ({}, "null"))
        data = shared_data | values.pop("data")
        values["provider_object"] = row["provider_object"] or provider_object
        found[row["id"]] = StoredEvent(**values, **{name: data.get(name) for name in _DATA_FIELDS})
    return [found[id_] for id_ in ids if id_ in found]


def filter_by_tenant(connection: Connection, pairs: Collection[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Return the pairs of an event id and a tenant in which the event belongs to the tenant."""
    ids = list({event_id for event_id, _ in pairs})
    statement = select(events.c.id, _own_tenant(events), _owner(events)).where(
        events.c.id == any_(literal(ids, ARRAY(Uuid)))
    )
    found = {row[0]: (row[1], row[2]) for row in connection.execute(statement)} if ids else {}
    return {
        (event_id, tenant)
        for event_id, tenant in pairs
        if event_id in found and found[event_id] in ((None, tenant), (tenant, tenant))
    }


def _own_tenant(rows: Any) -> ColumnElement[str | None]:
    """Return the tenant that an event itself names."""
    return rows.c.data["tenant"].as_string()  # type: ignore[no-any-return]


def _owner(rows: Any) -> ColumnElement[str | None]:
    """Return the tenant that an event belongs to: that of its message, or the one it names if it has no message."""
    of_message = select(messages.c.tenant).where(messages.c.id == rows.c.message_id).scalar_subquery()
    return case((rows.c.message_id.is_(None), _own_tenant(rows)), else_=of_message)


def _belongs_to(rows: Any, tenant: str) -> ColumnElement[bool]:
    """Return the condition that events belong to a tenant and name no other one."""
    return and_(func.coalesce(_own_tenant(rows), tenant) == tenant, _owner(rows) == tenant)
