"""Messages and the state of each of their recipients, as people and the API read them.

A row of `recipient_states` whose recipient is '' holds the events that named no recipient: they apply to every
recipient of the message. The effective state of a recipient merges its own row with that one, by the rule of
`shared.messages.state`. Only `effective_states` does this.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Connection,
    Row,
    Select,
    Uuid,
    and_,
    any_,
    case,
    exists,
    false,
    func,
    intersect,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
)

from shared.addresses import normalize, strip_brackets
from shared.classification.classify import code_of
from shared.messages.tables import messages, recipient_states
from shared.postgres.pagination import KeysetQuery, Page, Position
from shared.sources.tables import sources
from shared.vocabulary import Classification, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. `first_event_at` is None while it has only been announced.

    `recipients` are rows of `effective_states`; the recipient of a row is None if no event has named one.
    """

    id: UUID
    source: str
    provider_message_id: str | None
    request_id: str | None
    smtp_id: str | None
    sender: str | None
    subject: str | None
    tag: str | None
    campaign: str | None
    tenant: str | None
    created_at: datetime
    first_event_at: datetime | None
    submitted_at: datetime | None
    recipients: Sequence[Row[Any]] = ()


MAX_PAGE_RECIPIENTS = 5000
"""Of all messages in an answer. A page with more ends early, and its cursor continues from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Filters; all that are given must match. `recipient` and `status` must match for the same recipient.

    `tenant` limits everything to the messages of one tenant; None means all tenants.
    """

    source: str | None = None
    request_id: str | None = None
    smtp_id: str | None = None
    message_id: str | None = None
    recipient: str | None = None
    sender: str | None = None
    status: Status | None = None
    since: datetime | None = None
    until: datetime | None = None
    tenant: str | None = None


own = recipient_states.alias("own")
_wide = recipient_states.alias("wide")
_named = recipient_states.alias("named")
_ORDER = ("status_at", "rank", "status_key")
_wide_wins = func.coalesce(
    tuple_(_wide.c.weight, func.coalesce(_wide.c.timed, own.c.timed, true()), *(_wide.c[n] for n in _ORDER))
    > tuple_(own.c.weight, func.coalesce(own.c.timed, _wide.c.timed, true()), *(own.c[n] for n in _ORDER)),
    false(),
)
_from_event = {
    name: case((_wide_wins, _wide.c[name]), else_=own.c[name]).label(name)
    for name in (
        "status",
        "status_at",
        "status_event_id",
        "classification",
        "smtp_status",
        "enhanced_code",
        "reason",
    )
}
_counted = {
    name: (own.c[name] + func.coalesce(_wide.c[name], 0)).label(name)
    for name in ("opens", "clicks", "reads", "version")
}
_first = {
    name: func.least(own.c[name], _wide.c[name]).label(name)
    for name in ("opened_at", "clicked_at", "read_at", "complained_at")
}
_last = {
    name: func.greatest(own.c[name], _wide.c[name]).label(name)
    for name in ("unsubscribed_at", "subscribed_at", "updated_at")
}
_ended, _began = _last["unsubscribed_at"].element, _last["subscribed_at"].element

effective_states: Select[Any] = (
    select(
        own.c.message_id,
        func.nullif(own.c.recipient, "").label("recipient"),
        *_from_event.values(),
        case(
            {str(word): int(code_of(word)) for word in Classification}, value=_from_event["classification"].element
        ).label("classification_code"),
        case(
            (_wide_wins, func.coalesce(own.c.status, _wide.c.previous_status)),
            else_=func.coalesce(own.c.previous_status, _wide.c.status),
        ).label("previous_status"),
        func.coalesce(own.c.smtp_id, _wide.c.smtp_id).label("smtp_id"),
        *_counted.values(),
        *_first.values(),
        *_last.values(),
        (_counted["opens"].element > 0).label("opened"),
        (_counted["clicks"].element > 0).label("clicked"),
        (_counted["reads"].element > 0).label("read"),
        _first["complained_at"].element.is_not(None).label("complained"),
        and_(_ended.is_not(None), or_(_began.is_(None), _ended >= _began)).label("unsubscribed"),
    )
    .outerjoin_from(
        own, _wide, and_(_wide.c.message_id == own.c.message_id, _wide.c.recipient == "", own.c.recipient != "")
    )
    .where(
        or_(
            own.c.recipient != "",
            ~exists().where(_named.c.message_id == own.c.message_id, _named.c.recipient != "").correlate(own),
        )
    )
)
"""The state of every recipient; times are the provider's. Add a condition on a column of `own`."""


def list_messages(
    connection: Connection, wanted: MessageFilter, *, after: Position | None = None, limit: int = 50
) -> Page[Message]:
    """Return a page of messages, those first that became known last."""
    rows: Any = messages
    if chosen := _select_ids(wanted):
        ids = intersect(*chosen) if len(chosen) > 1 else chosen[0]
        # OFFSET 0 makes PostgreSQL find these few by their index, rather than read all messages in order of time.
        rows = select(messages).where(messages.c.id.in_(ids)).offset(0).subquery("chosen")
    query = KeysetQuery(rows.c.created_at, rows.c.id)
    if wanted.sender is not None:
        query.where(rows.c.sender == normalize(wanted.sender))
    if wanted.since is not None:
        query.where(rows.c.created_at >= wanted.since)
    if wanted.until is not None:
        query.where(rows.c.created_at < wanted.until)
    if wanted.tenant is not None:
        query.filter(rows.c.tenant == wanted.tenant)
    if wanted.source is not None:
        query.filter(rows.c.source_id == select(sources.c.id).where(sources.c.slug == wanted.source).scalar_subquery())
    if wanted.status is not None:
        states = effective_states.where(own.c.message_id == rows.c.id, _from_event["status"].element == wanted.status)
        if wanted.recipient is not None:
            states = states.where(own.c.recipient == normalize(wanted.recipient))
        query.filter(states.correlate(rows).exists())
    page = _cut(connection, query.fetch(connection, after=after, limit=limit))
    return Page(list_by_ids(connection, [message_id for _, message_id in page.items]), page.next)


def _cut(connection: Connection, page: Page[Position]) -> Page[Position]:
    """Return the beginning of a page of messages with up to MAX_PAGE_RECIPIENTS in all, but at least one message."""
    counts = connection.exec_driver_sql(
        "SELECT (SELECT count(*) FROM"
        " (SELECT FROM recipient_states WHERE message_id = listed.id LIMIT %(most)s) AS counted)"
        " FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS listed (id, position) ORDER BY position",
        {"ids": [message_id for _, message_id in page.items], "most": MAX_PAGE_RECIPIENTS},
    )
    total = 0
    for number, (count,) in enumerate(counts):
        total += count
        if total > MAX_PAGE_RECIPIENTS and number:
            return Page(page.items[:number], page.items[number - 1])
    return page


def get_message(connection: Connection, message_id: UUID, *, tenant: str | None = None) -> Message | None:
    """Return one message with its recipients, or None."""
    return next(iter(list_by_ids(connection, [message_id], tenant=tenant)), None)


def list_by_ids(connection: Connection, ids: Sequence[UUID], *, tenant: str | None = None) -> list[Message]:
    """Return the messages with these ids and their recipients, in the given order; unknown ids are skipped."""
    recipients: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(
        effective_states.where(own.c.message_id == any_(literal(ids, ARRAY(Uuid)))).order_by(own.c.recipient)
    ):
        recipients[row.message_id].append(row)
    found = {
        message.id: replace(message, recipients=recipients[message.id])
        for message in list_without_recipients(connection, ids, tenant=tenant)
    }
    return [found[id_] for id_ in ids if id_ in found]


def list_without_recipients(connection: Connection, ids: Sequence[UUID], *, tenant: str | None = None) -> list[Message]:
    """Return the messages with these ids, in any order, without their recipients."""
    statement = (
        select(
            messages.c.id,
            sources.c.slug.label("source"),
            messages.c.provider_message_id,
            messages.c.request_id,
            messages.c.smtp_id,
            messages.c.sender,
            messages.c.subject,
            messages.c.tag,
            messages.c.campaign,
            func.nullif(messages.c.tenant, "").label("tenant"),
            messages.c.created_at,
            func.nullif(messages.c.first_event_at, text("'infinity'::timestamptz")).label("first_event_at"),
            messages.c.submitted_at,
        )
        .join_from(messages, sources, sources.c.id == messages.c.source_id)
        .where(messages.c.id == any_(literal(ids, ARRAY(Uuid))))
    )
    if tenant is not None:
        statement = statement.where(messages.c.tenant == tenant)
    return [Message(**row) for row in connection.execute(statement).mappings()]


def _select_ids(wanted: MessageFilter) -> list[Select[tuple[UUID]]]:
    """Return a statement for each filter that selects few messages by an index of its own."""
    found: list[Select[tuple[UUID]]] = []
    if wanted.request_id is not None:
        found.append(select(messages.c.id).where(messages.c.request_id == wanted.request_id))
    if wanted.smtp_id is not None:
        # A request may cover several Message-Ids, and the message's row holds only one of them.
        smtp_id = strip_brackets(wanted.smtp_id)
        found.append(select(recipient_states.c.message_id).where(recipient_states.c.smtp_id == smtp_id))
    if wanted.message_id is not None:
        named = [messages.c.provider_message_id == wanted.message_id]
        with suppress(ValueError):
            named.append(messages.c.id == UUID(wanted.message_id))
        found.append(select(messages.c.id).where(or_(*named)))
    if wanted.recipient is not None:
        recipient = normalize(wanted.recipient)
        found.append(
            select(recipient_states.c.message_id).where(
                recipient_states.c.recipient == recipient, recipient_states.c.recipient != ""
            )
        )
    return found
