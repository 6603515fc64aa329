"""Events as people and the API read them: by time, by recipient, and as the timeline of a message."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    LargeBinary,
    Text,
    Uuid,
    and_,
    any_,
    case,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    table,
    true,
    union_all,
)

from shared import json_text
from shared.classification.classify import code_of
from shared.errors import PayloadError
from shared.messages import queries
from shared.messages.tables import (
    MESSAGE_FIELDS,
    bit_of,
    event_objects,
    events,
    messages,
    recipient_states,
    select_by_text,
    shared_value,
    value_of_event,
)
from shared.postgres import stored_requests
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

# Likewise: receipts belong to a package that imports this one.
_receipts = table("receipts", column("id", Uuid), column("body", LargeBinary), column("content", LargeBinary))


def _receipt_id(rows: Any) -> ColumnElement[UUID]:
    """Return the id of the receipt that brought an event, as `shared.ids.receipt_of` does."""
    return cast(func.concat(func.left(cast(rows.c.id, Text), 31), "00000"), Uuid)


def _object_text(rows: Any) -> ColumnElement[str]:
    """Return the provider's object of a row of `events` or `event_objects`; NULL if it is in a packed body."""
    part = func.substring(_receipts.c.body, rows.c.object_at + 1, rows.c.object_length)
    of_body = select(func.convert_from(part, "UTF8")).where(_receipts.c.id == _receipt_id(rows)).scalar_subquery()
    return func.coalesce(cast(rows.c.provider_object, Text), case((rows.c.object_at.is_not(None), of_body)))


def _of_object(rows: Any, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a value of the row of `event_objects` to which events belong; NULL if they have an object of their own."""
    nearest = (
        select(value)
        .select_from(event_objects)
        .where(event_objects.c.id > _receipt_id(rows), event_objects.c.id <= rows.c.id)
        .order_by(event_objects.c.id.desc())
        .limit(1)
        .correlate(rows)
        .scalar_subquery()
    )
    return case((and_(rows.c.provider_object.is_(None), rows.c.object_at.is_(None)), nearest))


MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Of provider objects in an answer. A page with more ends early, and its cursor continues from there."""

MAX_BODY_TEXT_BYTES = 64 * 1024

_BODY_TEXTS = (
    ("body", "text"),  # MailWebhook
    ("TextBody",),  # Postmark
    ("body-plain",),  # Mailgun
    ("msg", "text"),  # Mandrill
    ("data", "text"),  # MailerSend
    ("data", "body", "text"),  # Lettermint
    ("plain",),  # CloudMailin's inbound mail, through a mapping
    ("text",),
)
"""Where providers put the text/plain part of inbound mail. Raw MIME is not read."""

_shared_values = (
    select(
        func.json_build_object(
            *(part for name in MESSAGE_FIELDS for part in (literal_column(f"'{name}'"), shared_value(name)))
        )
    )
    .where(messages.c.id == events.c.message_id)
    .scalar_subquery()
)

_EVENTS = select(
    events.c.id,
    _receipt_id(events).label("receipt_id"),
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
    _of_object(events, event_objects.c.id).label("object_id"),
    exists().where(_reconciled.c.receipt_id == _receipt_id(events)).label("reconciled"),
    events.c.message_fields,
    case((events.c.message_fields.is_not(None), _shared_values)).label("shared_values"),
    events.c.data,
).join_from(events, sources, sources.c.id == events.c.source_id)

# Taken from the JSON here rather than by PostgreSQL, which would parse it once for each field.
_DATA_FIELDS = {entry.name for entry in fields(StoredEvent)} - {"provider_object", *_EVENTS.selected_columns.keys()}


def list_events(
    connection: Connection,
    *,
    type: str | None = None,  # noqa: A002 - the name of the API's parameter
    source: str | None = None,
    recipient: str | None = None,
    domain: str | None = None,
    request_id: str | None = None,
    smtp_id: str | None = None,
    message_id: str | None = None,
    set_aside: bool | None = None,
    tenant: str | None = None,
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
    max_bytes: int | None = None,
) -> Page[StoredEvent]:
    """Return a page of events, those received last first.

    `recipient` is a normalized address, `domain` that of a recipient; events that name no recipient belong to every
    recipient of their message. `message_id` is ours or the provider's; events that do not name the `request_id` or
    `smtp_id` of their message belong to it too. `tenant` None means all tenants. `set_aside`: only events that changed
    nothing, or only the others.
    """
    ids = queries.find_ids(connection, request_id=request_id, smtp_id=smtp_id, message_id=message_id)
    rows = _select_rows(
        connection,
        recipient=recipient,
        domain=domain,
        ids=None if set_aside else ids,
        has_message=message_id is not None,
    )
    query = KeysetQuery(rows.c.id)
    query.where(*(span or Span()).of_ids(rows.c.id))
    if set_aside:
        query.where(rows.c.type == SET_ASIDE)
    elif set_aside is False:
        query.filter(rows.c.type != SET_ASIDE)
    query.filter(*_conditions(rows, kind=type, source=source, domain=domain, tenant=tenant))
    if ids is not None:
        query.filter(
            or_(is_any(rows.c.message_id, ids), rows.c.message_id.is_(None) if message_id is None else false())
        )
    for name, value in (("request_id", request_id), ("smtp_id", smtp_id)):
        if value is not None:
            own = func.coalesce(value_of_event(rows, name), _of_object(rows, event_objects.c.data[name].as_string()))
            query.filter(func.coalesce(own, case((rows.c.message_id.is_not(None), value))) == value)
    return _read_page(connection, query.fetch(connection, after=after, limit=limit), max_bytes)


def _select_rows(
    connection: Connection, *, recipient: str | None, domain: str | None, ids: Sequence[UUID] | None, has_message: bool
) -> Any:
    """Return rows of events to read: of a recipient, of messages with these ids, of a domain, or all.

    `has_message`: events without a message do not match.
    """
    # OFFSET 0 makes PostgreSQL begin with the messages, rather than read all events in order of time.
    if recipient is not None:
        state = select_by_text(recipient_states.c.recipient, [recipient]).subquery("state")
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
        return select(of_message).select_from(state.join(of_message, true())).subquery("of_recipient")
    if ids is not None:
        of_messages = select(events).where(is_any(events.c.message_id, ids)).offset(0)
        # Events without a message have ids too. There is an index of them, by time.
        without = select(events).where(events.c.message_id.is_(None))
        return (of_messages if has_message else union_all(of_messages, without)).subquery("of_ids")
    if domain is not None and (found := queries.find_by_domain(connection, domain)) is not None:
        return select(events).where(is_any(events.c.message_id, found)).offset(0).subquery("of_domain")
    return events


def _conditions(
    rows: Any, *, kind: str | None, source: str | None, domain: str | None, tenant: str | None
) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of filters that no index of events serves."""
    if kind is not None:
        yield rows.c.type == kind
    if domain is not None:
        pattern = queries.pattern_of_domain(domain)
        of_message = (
            select(recipient_states.c.message_id)
            .where(recipient_states.c.message_id == rows.c.message_id, recipient_states.c.recipient.ilike(pattern))
            .correlate(rows)
            .offset(0)
            .exists()
        )
        yield case((rows.c.recipient.is_(None), of_message), else_=rows.c.recipient.ilike(pattern))
    if source is not None:
        yield rows.c.source_id == select(sources.c.id).where(sources.c.slug == source).scalar_subquery()
    if tenant is not None:
        yield _belongs_to(rows, tenant)


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


def list_by_ids(
    connection: Connection, ids: Sequence[UUID], *, tenant: str | None = None, with_objects: bool = True
) -> list[StoredEvent]:
    """Return the events with these ids, in the given order; unknown ids are skipped.

    Without `with_objects`, every `provider_object` is "null", and no body is read.
    """

    def place_of(rows: Any) -> list[ColumnElement[Any]]:
        text = (_object_text(rows) if with_objects else null()).label("provider_object")
        return [text, rows.c.object_at, rows.c.object_length]

    statement = _EVENTS.add_columns(*place_of(events)).where(events.c.id == any_(literal(ids, ARRAY(Uuid))))
    if tenant is not None:
        statement = statement.where(_belongs_to(events, tenant))
    found = {}
    rows = connection.execute(statement).mappings().all()
    # Each is read once, although a page may have hundreds of events of one object.
    objects: dict[UUID | None, Any] = {}
    if shared := {row["object_id"] for row in rows if row["object_id"] is not None}:
        selected = select(event_objects.c.id, _receipt_id(event_objects).label("receipt_id"), event_objects.c.data)
        selected = selected.add_columns(*place_of(event_objects)).where(is_any(event_objects.c.id, shared))
        objects = {row["id"]: row for row in connection.execute(selected).mappings()}
    texts = _read_packed(connection, [*rows, *objects.values()]) if with_objects else {}
    for row in rows:
        values = dict(row)
        data = values.pop("data")
        named, of_message = values.pop("message_fields"), values.pop("shared_values")
        if of_message is not None:
            data |= {name: of_message[name] for name in MESSAGE_FIELDS if named & bit_of(name)}
        text = row["provider_object"] or texts.get(row["id"])
        if (of_object := objects.get(values.pop("object_id"))) is not None:
            data = of_object["data"] | data
            text = text or of_object["provider_object"] or texts.get(of_object["id"])
        del values["object_at"], values["object_length"]
        values["provider_object"] = text or "null"
        found[row["id"]] = StoredEvent(**values, **{name: data.get(name) for name in _DATA_FIELDS})
    return [found[id_] for id_ in ids if id_ in found]


def _read_packed(connection: Connection, rows: Sequence[Any]) -> dict[UUID, str]:
    """Return the providers' objects of those rows that have them in a packed body, by id. Each body is read once."""
    places = [row for row in rows if row["object_at"] is not None and row["provider_object"] is None]
    packed = select(_receipts.c.id, _receipts.c.content).where(
        is_any(_receipts.c.id, {row["receipt_id"] for row in places}), _receipts.c.content.is_not(None)
    )
    contents = connection.execute(packed).all() if places else []
    bodies = {receipt_id: stored_requests.unpack(content)[1] for receipt_id, content in contents}
    return {
        row["id"]: bodies[row["receipt_id"]][row["object_at"] : row["object_at"] + row["object_length"]].decode()
        for row in places
        if row["receipt_id"] in bodies
    }


def list_body_texts(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any] | None]:
    """Return the text of inbound mails by the ids of their events: `text`, `truncated` and `original_bytes`.

    The text is cut after MAX_BODY_TEXT_BYTES of UTF-8. None: the provider's object has none, is no longer stored, or is
    damaged.
    """
    found: dict[UUID, dict[str, Any] | None] = {}
    for id_ in ids:  # one by one, because an object has the size of a mail with its attachments
        try:
            for event in list_by_ids(connection, [id_]):
                found[id_] = _read_body_text(event.provider_object)
        except PayloadError:  # it must not stop the deliveries of others
            found[id_] = None
    return found


def _read_body_text(provider_object: str) -> dict[str, Any] | None:
    try:
        whole = json_text.read(provider_object)
    except ValueError:
        return None
    for names in _BODY_TEXTS:
        value = whole
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and value:
            encoded = value.encode()
            text = encoded[:MAX_BODY_TEXT_BYTES].decode("utf-8", "ignore")
            return {
                "text": text,
                "truncated": len(encoded) > MAX_BODY_TEXT_BYTES,
                "original_bytes": len(encoded),
            }
    return None


def filter_by_tenant(connection: Connection, pairs: Collection[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Return the pairs of an event id and a tenant in which the event belongs to the tenant."""
    ids = list({event_id for event_id, _ in pairs})
    statement = select(events.c.id, value_of_event(events, "tenant"), _owner(events)).where(
        events.c.id == any_(literal(ids, ARRAY(Uuid)))
    )
    found = {row[0]: (row[1], row[2]) for row in connection.execute(statement)} if ids else {}
    return {
        (event_id, tenant)
        for event_id, tenant in pairs
        if event_id in found and found[event_id] in ((None, tenant), (tenant, tenant))
    }


def _owner(rows: Any) -> ColumnElement[str | None]:
    """Return the tenant that an event belongs to: that of its message, or the one it names if it has no message."""
    of_message = select(messages.c.tenant).where(messages.c.id == rows.c.message_id).scalar_subquery()
    return case((rows.c.message_id.is_(None), value_of_event(rows, "tenant")), else_=of_message)


def _belongs_to(rows: Any, tenant: str) -> ColumnElement[bool]:
    """Return the condition that events belong to a tenant and name no other one."""
    return and_(func.coalesce(value_of_event(rows, "tenant"), tenant) == tenant, _owner(rows) == tenant)
