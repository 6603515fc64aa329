"""Entries that follow from single events: hard bounces, complaints, unsubscriptions, and subscribing again.

The SQL implements the rule of `shared.suppression.policy.fold`; a test proves that the two agree. Only stored events
are evidence, so that repetitions change nothing. The caller holds the locks of `shared.suppression.store`. The
statements that write are SQL text: each is part of every batch with such events, and writes entries, history and
changes at once.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, select

from shared import ids
from shared.messages.tables import events, messages, recipient_states, select_by_text, value_of_event
from shared.postgres.metadata import is_any
from shared.suppression import recipient_hashes
from shared.suppression.sql import ENTRY_ID, ENTRY_JSON, arrays, record_changes, unnest
from shared.suppression.tables import suppression_lifts, suppressions
from shared.vocabulary import SuppressionAction, SuppressionOrigin, SuppressionReason

Changes = Sequence[Row[Any]]
"""Entries that were added or removed: `action`, and `entry` as subscribers get it."""


class Evidence(NamedTuple):
    """An event that suppresses its recipient; a tuple, because a batch is turned from rows into columns.

    `key` (of the recipient) and `event_key` are 32 hex digits; `types` are separated by commas; `until` None is for
    good.
    """

    key: str
    tenant: str
    reason: str
    address: str
    types: str
    classification: str | None
    source_id: int
    since: datetime
    until: datetime | None
    event_id: UUID
    event_key: str


class Resubscription(NamedTuple):
    """A recipient who subscribed again, which cancels the unsubscriptions before it."""

    key: str
    tenant: str
    at: datetime
    event_id: UUID
    event_key: str


class Support(NamedTuple):
    """An entry and the event that is its evidence."""

    key: str
    tenant: str
    reason: str
    event_key: str


def _tie_breaker(row: str) -> str:
    """Return SQL that orders entries of the same end. The least holds: the first event, or last unsubscription."""
    seconds = f"extract(epoch FROM {row}.since)"
    return f"CASE {row}.reason WHEN '{SuppressionReason.UNSUBSCRIBE}' THEN -{seconds} ELSE {seconds} END"


def _end(row: str) -> str:
    return f"coalesce({row}.until, 'infinity')"


_REPARSED = """s.evidence_key = excluded.evidence_key AND (s.types, s.since, s.until, s.classification,
    s.evidence_event_id) IS DISTINCT FROM (excluded.types, excluded.since, excluded.until, excluded.classification,
    excluded.evidence_event_id)"""

_REPLACES = f"""({_end("excluded")} > {_end("s")} OR {_end("excluded")} = {_end("s")}
    AND ({_tie_breaker("excluded")}, excluded.evidence_key) < ({_tie_breaker("s")}, s.evidence_key) OR {_REPARSED})"""
"""SQL condition: the new entry (`excluded`) replaces the stored one (`s`)."""

_REPLACED = ("address", "types", "classification", "source_id", "since", "until", "evidence_event_id", "evidence_key")

_ADD = f"""
WITH input AS MATERIALIZED (SELECT {unnest(("id", *Evidence._fields))}),
best AS MATERIALIZED (
    SELECT DISTINCT ON (input.key, input.tenant, input.reason) input.* FROM input
    JOIN events AS e ON e.id = input.event_id AND e.key = input.event_key
    WHERE {_end("input")} > %(now)s AND NOT EXISTS (
        SELECT FROM suppression_lifts AS l WHERE l.key = input.key AND (l.tenant IS NULL OR l.tenant = input.tenant)
            AND (l.reason IS NULL OR l.reason = input.reason)
            AND (input.since < l.lifted_at OR input.since = l.lifted_at AND NOT l.by_event)
    )
    ORDER BY input.key, input.tenant, input.reason, {_end("input")} DESC, {_tie_breaker("input")}, event_key
),
written AS (
    INSERT INTO suppressions AS s (key, tenant, reason, origin, id, address, types, classification, source_id, since,
        until, evidence_event_id, evidence_key, created_at)
    SELECT key, tenant, reason, '{SuppressionOrigin.EVENT}', id, address, string_to_array(types, ','),
        classification, source_id,
        since, until, event_id, event_key, %(now)s
    FROM best ORDER BY key, tenant, reason
    ON CONFLICT (key, tenant, reason, origin) DO UPDATE SET
        id = {ENTRY_ID},
        created_at = CASE WHEN s.until <= %(now)s THEN excluded.created_at ELSE s.created_at END,
        expired_at = NULL, {", ".join(f"{name} = excluded.{name}" for name in _REPLACED)}
    WHERE {_REPLACES}
    RETURNING s.*
),
changed AS (SELECT *, {ENTRY_JSON} FROM written WHERE id = ANY(%(id)b::uuid[])),
{record_changes(SuppressionAction.ADDED)}
SELECT '{SuppressionAction.ADDED}' AS action, entry FROM changed
"""

_RESUBSCRIBE = f"""
WITH input AS MATERIALIZED (SELECT {unnest(Resubscription._fields)}),
latest AS MATERIALIZED (
    SELECT DISTINCT ON (input.key, input.tenant) input.* FROM input
    JOIN events AS e ON e.id = input.event_id AND e.key = input.event_key
    ORDER BY input.key, input.tenant, at DESC, event_key
),
remembered AS (
    INSERT INTO suppression_lifts AS l (key, tenant, reason, by_event, lifted_at)
    SELECT key, tenant, '{SuppressionReason.UNSUBSCRIBE}', true, at FROM latest ORDER BY key, tenant
    ON CONFLICT (key, tenant, reason, by_event) DO UPDATE SET lifted_at = greatest(l.lifted_at, excluded.lifted_at)
),
removed AS (
    DELETE FROM suppressions AS s USING latest
    WHERE s.key = latest.key AND s.tenant = latest.tenant AND s.reason = '{SuppressionReason.UNSUBSCRIBE}'
        AND s.since < latest.at
    RETURNING s.*, latest.event_id AS lifted_by
),
changed AS (SELECT *, {ENTRY_JSON} FROM removed WHERE expired_at IS NULL),
{record_changes(SuppressionAction.LIFTED, actor="NULL", note="NULL", event="changed.lifted_by")}
SELECT '{SuppressionAction.LIFTED}' AS action, entry FROM changed
"""

_WITHDRAW = f"""
WITH input AS (SELECT {unnest(Support._fields)}),
removed AS (
    DELETE FROM suppressions AS s USING input
    WHERE s.key = input.key AND s.tenant = input.tenant AND s.reason = input.reason
        AND s.origin = '{SuppressionOrigin.EVENT}'
        AND s.evidence_key = input.event_key
    RETURNING s.*
),
changed AS (SELECT *, {ENTRY_JSON} FROM removed WHERE expired_at IS NULL),
{record_changes(SuppressionAction.WITHDRAWN)}
SELECT '{SuppressionAction.WITHDRAWN}' AS action, entry FROM changed
"""


def add(connection: Connection, found: Sequence[Evidence], now: datetime) -> Changes:
    """Suppress the recipients of these events; return the entries that are new or changed."""
    if not found:
        return []
    values = {**arrays(found), "id": [ids.receipt_id(now) for _ in found], "now": now}
    # The pseudonym of an erased recipient is nobody's address: the entry keeps the key alone.
    values["address"] = [None if recipient_hashes.key_of(new.address) else new.address for new in found]
    return connection.exec_driver_sql(_ADD, values).all()


def resubscribe(connection: Connection, found: Sequence[Resubscription], now: datetime) -> Changes:
    """End the unsubscriptions that came before these; return the entries that ended."""
    return connection.exec_driver_sql(_RESUBSCRIBE, {**arrays(found), "now": now}).all() if found else []


def withdraw(connection: Connection, supports: Collection[Support], now: datetime) -> Changes:
    """Remove entries that have lost their evidence; return those that had not expired."""
    return connection.exec_driver_sql(_WITHDRAW, {**arrays(sorted(supports)), "now": now}).all() if supports else []


def delete_resubscriptions(connection: Connection, keys: Collection[str]) -> None:
    """Forget that these recipients subscribed again; the caller stores those that remain."""
    lifts = suppression_lifts.c
    of_keys = is_any(lifts.key, [UUID(key) for key in keys])
    connection.execute(delete(suppression_lifts).where(lifts.by_event, of_keys))


def list_supported(connection: Connection, first: UUID, last: UUID) -> Mapping[Support, str | None]:
    """Return the entries whose evidence is an event with an id after `first` up to `last`, and their addresses.

    Entries of the soft-bounce rule are not among them.
    """
    entries = suppressions.c
    statement = select(entries.key, entries.tenant, entries.reason, entries.evidence_key, entries.address).where(
        entries.evidence_event_id > first,
        entries.evidence_event_id <= last,
        entries.origin == SuppressionOrigin.EVENT,
        entries.reason != SuppressionReason.SOFT_BOUNCE,
    )
    rows = connection.execute(statement)
    return {Support(row.key.hex, row.tenant, row.reason, row.evidence_key.hex): row.address for row in rows}


# The columns of a new event that suppression needs, under the same names and in the same form.
_EVENT_COLUMNS: list[ColumnElement[Any]] = [
    events.c.id,
    func.encode(func.uuid_send(events.c.key), "hex").label("key"),
    events.c.type,
    events.c.source_id,
    select(func.encode(func.uuid_send(func.coalesce(messages.c.key, messages.c.id)), "hex"))
    .where(messages.c.id == events.c.message_id)
    .scalar_subquery()
    .label("message_key"),
    events.c.recipient,
    value_of_event(events, "tenant").label("tenant"),
    events.c.occurred_at,
    events.c.received_at,
    events.c.classification,
]
_EVENTS = select(*_EVENT_COLUMNS).order_by(events.c.id)


def list_events_of_recipients(
    connection: Connection, recipients: Collection[str], types: Collection[str]
) -> Sequence[Row[Any]]:
    """Return the stored events of these types and recipients. Reads all messages that the recipients ever got."""
    states = select_by_text(recipient_states.c.recipient, sorted(recipients)).subquery()
    of_recipient = and_(states.c.message_id == events.c.message_id, states.c.recipient == events.c.recipient)
    statement = _EVENTS.join(states, of_recipient).where(events.c.type.in_(sorted(types)))
    return connection.execute(statement).all()


def list_events_of_messages(
    connection: Connection, message_ids: Collection[UUID], types: Collection[str]
) -> Sequence[Row[Any]]:
    """Return the stored events of these types and messages that name a recipient."""
    statement = _EVENTS.where(
        is_any(events.c.message_id, message_ids),
        events.c.recipient.is_not(None),
        events.c.type.in_(sorted(types)),
    )
    return connection.execute(statement).all()


def list_events_between(connection: Connection, first: UUID, last: UUID, types: Collection[str]) -> Sequence[Row[Any]]:
    """Return the stored events of these types with ids after `first` up to `last` that belong to a message."""
    statement = _EVENTS.where(
        events.c.id > first, events.c.id <= last, events.c.message_id.is_not(None), events.c.type.in_(sorted(types))
    )
    return connection.execute(statement).all()
