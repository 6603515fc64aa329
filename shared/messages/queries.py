"""Messages and the state of each of their recipients, as people and the API read them.

A row of `recipient_states` whose recipient is '' holds the events that named no recipient: they apply to every
recipient of the message. The effective state of a recipient merges its own row with that one, by the rule of
`shared.messages.state`. Only `effective_states` does this.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    Uuid,
    all_,
    and_,
    any_,
    bindparam,
    case,
    column,
    exists,
    false,
    func,
    intersect,
    or_,
    select,
    text,
    true,
    tuple_,
)

from shared.addresses import normalize, strip_brackets
from shared.classification.classify import code_of
from shared.messages import search_store, signatures
from shared.messages.tables import events, messages, recipient_states, select_by_text
from shared.postgres.metadata import is_any
from shared.postgres.pagination import KeysetQuery, Page, Position
from shared.sources.tables import sources
from shared.vocabulary import Classification, EventType, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. `first_event_at` is None while it has only been announced.

    `recipients` are rows of `effective_states`; the recipient of a row is None if no event has named one. They are
    the first MAX_RECIPIENTS by address, after the one that was asked for; `next_recipients` is where
    `list_recipients` continues, None if these are all.
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
    next_recipients: Position | None = None


MAX_RECIPIENTS = 1000
"""The maximum of one message in an answer."""
MAX_ROWS_READ_BY_STATUS = 10_000
"""Rows that one page may read if it is limited to a status. Each takes some 10 µs."""
MAX_ROWS_READ_BY_TYPE = 5_000
"""Rows that one page may read if it is limited to a type of event. Each takes some 25 µs."""

MAX_PAGE_RECIPIENTS = 5000
"""The maximum of all messages of a page. A page with more ends early, and its cursor continues from there."""
MAX_OF_DOMAIN = 2000
"""The maximum of messages whose events are looked up for a domain. A domain with more is common among new events."""

_CANDIDATES = 700
"""The number of messages that one round of a search examines."""
_MAX_ROUNDS, _MAX_ROUNDS_WITHOUT_MATCH = 3, 8
"""The rounds of one page of a search: up to 3, or up to 8 until something is found."""
_GREATEST_ID = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Filters; all that are given must match. `recipient`, `domain` and `status` must match for the same recipient.

    `q` is an id of the message, exactly; or words that are all part of its subject, its sender or a recipient's
    address. `subject` has words of the subject, `domain` is that of a recipient, `type` that of an event.
    `tenant` limits everything to the messages of one tenant; None means all tenants.
    """

    q: str | None = None
    subject: str | None = None
    domain: str | None = None
    tag: str | None = None
    type: EventType | None = None

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
"""The recipient's own row. `_wide` is the row of the message's events without a recipient."""
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
_unsubscribed_at, _subscribed_at = _last["unsubscribed_at"].element, _last["subscribed_at"].element

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
        and_(_unsubscribed_at.is_not(None), or_(_subscribed_at.is_(None), _unsubscribed_at >= _subscribed_at)).label(
            "unsubscribed"
        ),
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

# Built once: building statements and their keys in SQLAlchemy's cache took two thirds of such a look-up.
_IDS = bindparam("ids", type_=ARRAY(Uuid))
_listed = func.unnest(_IDS).table_valued(column("id", Uuid)).render_derived(name="listed")
_FIRST_RECIPIENTS: Select[Any] = select(
    effective_states.where(own.c.message_id == _listed.c.id)
    .order_by(own.c.recipient)
    .limit(MAX_RECIPIENTS + 1)
    .lateral("first")
).select_from(_listed)
_MESSAGES: Select[Any] = (
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
    .where(messages.c.id == any_(_IDS))
)


def select_ids(column: Column[str | None], name: str) -> Select[Any]:
    """Return a statement that selects few messages by the index of this column; the parameter is an array."""
    found = select_by_text(column, bindparam(name, type_=ARRAY(Text))).subquery()
    return select(found.c.id if column.table is messages else found.c.message_id)


_by_provider_id = select_ids(messages.c.provider_message_id, "message_id")
_SELECT_IDS: Mapping[str, Select[Any]] = {
    "request_id": select_ids(messages.c.request_id, "request_id"),
    "smtp_id": select_ids(recipient_states.c.smtp_id, "smtp_id"),
    "recipient": select_ids(recipient_states.c.recipient, "recipient"),
    "message_id": _by_provider_id,
    # A `message_id` that is a UUID may be the message's own.
    "own_id": select(
        _by_provider_id.union(select(messages.c.id).where(messages.c.id == bindparam("own_id"))).subquery().c.id
    ),
}


def list_messages(
    connection: Connection, wanted: MessageFilter, *, after: Position | None = None, limit: int = 50
) -> Page[Message]:
    """Return a page of messages, the newest first.

    A search reads a limited number of candidates, so its page may be short although more follow.
    """
    texts = {
        "request_id": wanted.request_id,
        # A request may cover several Message-Ids, and the message's row holds only one of them.
        "smtp_id": None if wanted.smtp_id is None else strip_brackets(wanted.smtp_id),
        "message_id": wanted.message_id,
        "recipient": None if wanted.recipient is None else normalize(wanted.recipient),
    }
    values: dict[str, Any] = {name: [value] for name, value in texts.items() if value is not None}
    values |= {
        "sender": None if wanted.sender is None else normalize(wanted.sender),
        "since": wanted.since,
        "until": wanted.until,
        "tenant": wanted.tenant,
        "source": wanted.source,
        "status": wanted.status,
        "type": wanted.type,
        "tag": wanted.tag,
        "domain": None if wanted.domain is None else pattern_of_domain(wanted.domain),
        "subject": None if wanted.subject is None else _patterns(wanted.subject),
    }
    with suppress(ValueError):
        values["own_id"] = UUID(wanted.message_id) if wanted.message_id else None
    slots = set[int]()
    if wanted.q is not None and (named := find_by_id(connection, wanted.q)):
        values["listed"] = named
    elif wanted.q is not None:
        values["words"] = _patterns(wanted.q)
        slots |= signatures.of_texts(wanted.q.split())
    slots |= signatures.of_texts((wanted.subject or "").split())
    slots |= signatures.of_texts([f"@{wanted.domain}"]) if wanted.domain is not None else set()
    slots |= signatures.of_mark("tag", wanted.tag) if wanted.tag is not None else set()
    values = {name: value for name, value in values.items() if value is not None}
    if slots and "listed" not in values:
        slots |= signatures.of_mark("tenant", wanted.tenant) if wanted.tenant is not None else set()
        keys = _search(connection, slots, values, after=after, limit=limit)
    else:
        is_slow = not values.keys().isdisjoint({"status", "type", "words", "subject", "domain"})
        keys = page_query(frozenset(values)).fetch(
            connection,
            after=after,
            limit=limit,
            parameters=values,
            max_rows_read=MAX_ROWS_READ_BY_TYPE if "type" in values else MAX_ROWS_READ_BY_STATUS if is_slow else None,
        )
    page = _limit_recipients(connection, keys)
    listed = [message_id for _, message_id in page.items]
    return Page(list_by_ids(connection, listed, recipient=wanted.recipient), page.next)


def find_by_id(connection: Connection, text: str) -> list[UUID]:
    """Return the messages with this id: ours, the provider's, the request's, or the Message-Id."""
    text = text.strip()
    if not text or " " in text:
        return []
    values = {name: [text] for name in ("request_id", "message_id")} | {"smtp_id": [strip_brackets(text)]}
    found = dict[UUID, None]()
    for name, value in values.items():
        found.update(dict.fromkeys(connection.execute(_SELECT_IDS[name], {name: value}).scalars()))
    with suppress(ValueError):
        by_our_id = select(messages.c.id).where(messages.c.id == UUID(text))
        found.update(dict.fromkeys(connection.execute(by_our_id).scalars()))
    return list(found)


def find_ids(
    connection: Connection, *, request_id: str | None, smtp_id: str | None, message_id: str | None
) -> list[UUID] | None:
    """Return the messages with all of these ids that are given; None if none is.

    `message_id` is our id of a message, or the provider's. `smtp_id` has no angle brackets.
    """
    given = {"request_id": request_id, "smtp_id": smtp_id, "message_id": message_id}
    found: set[UUID] | None = None
    for name, value in given.items():
        if value is not None:
            ids = set(connection.execute(_SELECT_IDS[name], {name: [value]}).scalars())
            if name == "message_id":
                with suppress(ValueError):
                    ids.add(UUID(value))
            found = ids if found is None else found & ids
    return None if found is None else sorted(found)


def find_by_domain(connection: Connection, domain: str) -> Sequence[UUID] | None:
    """Return the messages that have a recipient at this domain; None if they may be many."""
    candidates = search_store.list_candidates(connection, signatures.of_texts([f"@{domain}"]), limit=MAX_OF_DOMAIN)
    if candidates.complete_after is not None:
        return None
    of_domain = recipient_states.c.recipient.ilike(pattern_of_domain(domain))
    found = select(recipient_states.c.message_id).where(is_any(recipient_states.c.message_id, candidates.ids))
    ids = connection.scalars(found.where(of_domain).distinct()).all()
    return ids if len(ids) <= MAX_OF_DOMAIN else None


def pattern_of_domain(domain: str) -> str:
    """Return the pattern of the addresses at a domain."""
    return f"%@{_escape(domain.lower())}"


def _search(
    connection: Connection, slots: set[int], values: Mapping[str, Any], *, after: Position | None, limit: int
) -> Page[Position]:
    """Return the keys of a page of a search, from candidates with these slots."""
    found: list[Position] = []
    for number in range(_MAX_ROUNDS_WITHOUT_MATCH):
        if found and number >= _MAX_ROUNDS:
            break
        before = [at for at in (after[0] if after else None, values.get("until")) if at is not None]
        candidates = search_store.list_candidates(
            connection, slots, since=values.get("since"), until=min(before, default=None), limit=_CANDIDATES
        )
        given = {**values, "listed": candidates.ids, "complete_after": candidates.complete_after}
        given = {name: value for name, value in given.items() if value is not None}
        page = page_query(frozenset(given)).fetch(
            connection,
            after=after,
            limit=limit - len(found),
            parameters=given,
            max_rows_read=len(candidates.ids) + 1,
        )
        found += page.items
        if page.next is not None or candidates.complete_after is None:
            return Page(found, page.next)
        after = candidates.complete_after, _GREATEST_ID
        if len(found) == limit:
            break
    return Page(found, after)


def _patterns(text: str) -> list[str]:
    """Return for each word of a text the pattern of texts that contain it."""
    return [f"%{_escape(word)}%" for word in text.split()]


def _escape(word: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", word)


@lru_cache(maxsize=256)
def page_query(names: frozenset[str]) -> KeysetQuery:
    """Return the query of a list of messages with these filters; their values are bound parameters of these names.

    SQLAlchemy takes several milliseconds to build it.
    """
    rows: Any = messages
    by_index = names & _SELECT_IDS.keys() - ({"message_id"} if "own_id" in names else set())
    chosen = [_SELECT_IDS[name] for name in sorted(by_index)]
    if "listed" in names:
        chosen.append(select(func.unnest(bindparam("listed", type_=ARRAY(Uuid)))))
    if chosen:
        ids = intersect(*chosen) if len(chosen) > 1 else chosen[0]
        # OFFSET 0 makes PostgreSQL find these few by their index, rather than read all messages in order of time.
        rows = select(messages).where(messages.c.id.in_(ids)).offset(0).subquery("chosen")
    query = KeysetQuery(rows.c.created_at, rows.c.id)
    if "sender" in names:
        # The index has the hash, which is shorter.
        query.where(func.hashtext(rows.c.sender) == func.hashtext(bindparam("sender")))
        query.where(rows.c.sender == bindparam("sender"))
    if "since" in names:
        query.where(rows.c.created_at >= bindparam("since"))
    if "until" in names:
        query.where(rows.c.created_at < bindparam("until"))
    if "complete_after" in names:
        query.where(rows.c.created_at > bindparam("complete_after"))
    if "status" in names:
        is_in_status = _from_event["status"].element == bindparam("status")
        states = effective_states.where(own.c.message_id == rows.c.id, is_in_status)
        if "recipient" in names:
            states = states.where(own.c.recipient == any_(bindparam("recipient", type_=ARRAY(Text))))
        if "domain" in names:
            states = states.where(own.c.recipient.ilike(bindparam("domain")))
        # OFFSET 0: otherwise PostgreSQL may compute the states of all messages at once.
        query.filter(states.correlate(rows).offset(0).exists())
    query.filter(*_list_conditions(rows, names))
    return query


def _list_conditions(rows: Any, names: frozenset[str]) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of filters that no index of messages serves."""
    for name in sorted(names & {"tenant", "tag"}):
        yield rows.c[name] == bindparam(name)
    if "source" in names:
        yield rows.c.source_id == select(sources.c.id).where(sources.c.slug == bindparam("source")).scalar_subquery()
    if "type" in names:
        of_type = select(events.c.id).where(events.c.message_id == rows.c.id, events.c.type == bindparam("type"))
        yield of_type.correlate_except(events).offset(0).exists()
    if "domain" in names:
        yield _has_recipient(rows, bindparam("domain"))
    if "subject" in names:
        yield func.coalesce(rows.c.subject, "").ilike(all_(bindparam("subject", type_=ARRAY(Text))))
    if "words" in names:
        words = func.unnest(bindparam("words", type_=ARRAY(Text))).table_valued("word").render_derived(name="words")
        word: ColumnElement[str] = words.c.word
        in_message = or_(rows.c.subject.ilike(word), rows.c.sender.ilike(word), _has_recipient(rows, word))
        yield ~select(words).where(~func.coalesce(in_message, false())).correlate_except(words).exists()


def _has_recipient(rows: Any, pattern: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that a message has a recipient whose address is like a pattern."""
    states = select(recipient_states.c.message_id).where(
        recipient_states.c.message_id == rows.c.id, recipient_states.c.recipient.ilike(pattern)
    )
    return states.correlate_except(recipient_states).offset(0).exists()


def _limit_recipients(connection: Connection, page: Page[Position]) -> Page[Position]:
    """Return the beginning of a page of messages with up to MAX_PAGE_RECIPIENTS in all, but at least one message."""
    if len(page.items) <= 1:
        return page
    counts = connection.exec_driver_sql(
        "SELECT (SELECT count(*) FROM"
        " (SELECT FROM recipient_states WHERE message_id = listed.id LIMIT %(limit)s) AS counted)"
        " FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS listed (id, position) ORDER BY position",
        {"ids": [message_id for _, message_id in page.items], "limit": min(MAX_PAGE_RECIPIENTS, MAX_RECIPIENTS)},
    )
    total = 0
    for number, (count,) in enumerate(counts):
        total += count
        if total > MAX_PAGE_RECIPIENTS and number:
            return Page(page.items[:number], page.items[number - 1])
    return page


def get_message(connection: Connection, message_id: UUID, *, tenant: str | None = None) -> Message | None:
    """Return one message with its first recipients, or None."""
    return next(iter(list_by_ids(connection, [message_id], tenant=tenant)), None)


def list_by_ids(
    connection: Connection, ids: Sequence[UUID], *, recipient: str | None = None, tenant: str | None = None
) -> list[Message]:
    """Return the messages with these ids and their first recipients, in the given order; unknown ids are skipped.

    A recipient that is named comes first where a message has more than are returned.
    """
    if not ids:
        return []
    recipients: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(_FIRST_RECIPIENTS, {"ids": ids}):
        recipients[row.message_id].append(row)
    found = {}
    for message in list_without_recipients(connection, ids, tenant=tenant):
        rows = recipients[message.id]
        following: Position | None = None
        if len(rows) > MAX_RECIPIENTS:
            rows = rows[:MAX_RECIPIENTS]
            following = (rows[-1].recipient,)
            named = list_recipients(connection, message.id, recipient=recipient, limit=1).items if recipient else []
            rows = [*(row for row in named if row.recipient > rows[-1].recipient), *rows]
        found[message.id] = replace(message, recipients=rows, next_recipients=following)
    return [found[id_] for id_ in ids if id_ in found]


def list_recipients(
    connection: Connection, message_id: UUID, *, recipient: str | None = None, after: Position | None = None, limit: int
) -> Page[Row[Any]]:
    """Return the states of a message's recipients by address, after a position; or only that of one address."""
    statement = effective_states.where(own.c.message_id == message_id).order_by(own.c.recipient).limit(limit + 1)
    if recipient is not None:
        statement = statement.where(own.c.recipient == normalize(recipient))
    if after is not None:
        statement = statement.where(own.c.recipient > after[0])
    rows = connection.execute(statement).all()
    return Page(rows[:limit], (rows[limit - 1].recipient,) if len(rows) > limit else None)


def list_without_recipients(connection: Connection, ids: Sequence[UUID], *, tenant: str | None = None) -> list[Message]:
    """Return the messages with these ids, in any order, without their recipients."""
    statement = _MESSAGES if tenant is None else _MESSAGES.where(messages.c.tenant == tenant)
    return [Message(**row) for row in connection.execute(statement, {"ids": ids}).mappings()]
