"""Rebuilds states from the stored events, for reprocessing and erasure.

The statements are SQL text: they work on sets of (message, recipient) pairs and share the fold of `store`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.messages import store
from shared.messages.state import RANKS, STATUS_EFFECTS, Weight
from shared.messages.store import NewEvent
from shared.messages.tables import bit_of
from shared.vocabulary import CHANGE_TYPES, Status

StateKey = tuple[str, str]
"""A message (32 hex digits) and one of its recipients; '' for the events that name no recipient."""

_LAST_EVENT = (1 << ids.EVENTS_PER_RECEIPT_BITS) - 1

_EFFECTS = ", ".join(
    f"('{kind}', {weight:d}, {RANKS[status]}, '{status}')" if status else f"('{kind}', {weight:d}, -1, NULL)"
    for kind, (weight, status) in STATUS_EFFECTS.items()
)

_NAMES = ", ".join(f"('{kind}', '{name}')" for kind, name in CHANGE_TYPES.items())

_REBUILD = f"""
WITH effects (type, weight, rank, status) AS (VALUES {_EFFECTS}),
keys AS (SELECT unnest(%(messages)s::uuid[]) AS message_id, unnest(%(recipients)s::text[]) AS recipient),
old AS (
    DELETE FROM recipient_states AS s USING keys
    WHERE s.message_id = keys.message_id AND s.recipient = keys.recipient
    RETURNING s.message_id, s.recipient, s.version, s.status, s.previous_status
),
facts AS (
    SELECT e.message_id, coalesce(e.recipient, '') AS recipient, e.id, e.key, e.type, e.source_id, e.occurred_at,
        e.received_at, effects.weight::smallint, effects.rank::smallint, effects.status, e.classification,
        e.smtp_status, e.enhanced_code, e.reason, CASE WHEN e.message_fields & {bit_of("smtp_id")} <> 0 THEN
            (SELECT coalesce(m.first_values ->> 'smtp_id', m.smtp_id) FROM messages AS m WHERE m.id = e.message_id)
            ELSE e.data ->> 'smtp_id' END AS smtp_id
    FROM events AS e JOIN effects USING (type)
    JOIN keys ON keys.message_id = e.message_id AND keys.recipient = coalesce(e.recipient, '')
    WHERE e.message_id = ANY(%(messages)s::uuid[])
    UNION ALL  -- an announced message was submitted, whatever its events say
    SELECT old.message_id, old.recipient, NULL, '00000000-0000-0000-0000-000000000000', 'submitted', m.source_id,
        m.submitted_at, NULL, {Weight.IMPLIED:d}, {RANKS[Status.SUBMITTED]}, '{Status.SUBMITTED}', NULL, NULL,
        NULL, NULL, m.smtp_id
    FROM old JOIN messages AS m ON m.id = old.message_id AND m.submitted_at IS NOT NULL WHERE old.recipient <> ''
),
{store.FOLD_CTES.format(facts="facts")}
INSERT INTO recipient_states (message_id, recipient, source_id, {", ".join(store.STATUS_COLUMNS)}, previous_status,
    {", ".join(store.AGGREGATE_COLUMNS)}, version, updated_at, created_on)
SELECT best.message_id, best.recipient, source_id, {", ".join(f"best.{name}" for name in store.STATUS_COLUMNS)},
    CASE WHEN old.status IS DISTINCT FROM best.status THEN old.status ELSE old.previous_status END,
    {", ".join(f"counted.{name}" for name in store.AGGREGATE_COLUMNS)}, coalesce(old.version, 0) + 1, now(),
    counted.created_on
FROM best JOIN counted USING (message_id, recipient) LEFT JOIN old USING (message_id, recipient)
"""


class StateSummary(NamedTuple):
    """The part of a state that a preview of reprocessing compares. `event_id` is the event whose claim holds."""

    message_id: str
    recipient: str
    status: str | None
    classification: str | None
    enhanced_code: str | None
    opens: int
    clicks: int
    complained: bool
    unsubscribed: bool
    event_id: str | None
    version: int


def list_states_of_receipt(connection: Connection, receipt_id: UUID) -> set[StateKey]:
    """Return the keys of the states that the events of a receipt contribute to."""
    rows = connection.exec_driver_sql(
        "SELECT DISTINCT message_id, coalesce(recipient, '') FROM events"
        " WHERE id > %(first)s AND id <= %(last)s AND message_id IS NOT NULL",
        _event_ids(receipt_id),
    )
    return {(row[0].hex, row[1]) for row in rows}


def lock_states(connection: Connection, keys: Iterable[StateKey]) -> None:
    """Lock these states against other workers until the transaction ends."""
    connection.exec_driver_sql(
        "SELECT 1 FROM recipient_states WHERE (message_id, recipient) IN (SELECT unnest(%(messages)s::uuid[]),"
        " unnest(%(recipients)s::text[])) ORDER BY message_id, recipient FOR UPDATE",
        _columns(keys),
    )


def get_states(connection: Connection, keys: Iterable[StateKey]) -> dict[StateKey, StateSummary]:
    """Return the current states."""
    rows = connection.exec_driver_sql(
        "SELECT message_id, recipient, status, classification, enhanced_code, opens, clicks, complained_at IS NOT NULL,"
        " unsubscribed_at IS NOT NULL AND unsubscribed_at >= coalesce(subscribed_at, unsubscribed_at),"
        " status_event_id::text, version FROM recipient_states WHERE (message_id, recipient) IN"
        " (SELECT unnest(%(messages)s::uuid[]), unnest(%(recipients)s::text[]))",
        _columns(keys),
    )
    return {(row[0].hex, row[1]): StateSummary(row[0].hex, *row[1:]) for row in rows}


def delete_events(connection: Connection, receipt_id: UUID) -> set[str]:
    """Delete the events of a receipt and their keys; return the keys (32 hex digits)."""
    rows = connection.exec_driver_sql(
        "WITH deleted AS (DELETE FROM events WHERE id > %(first)s AND id <= %(last)s RETURNING id, key, key_minute)"
        " , keys AS (DELETE FROM event_keys AS k USING deleted"
        " WHERE minute = key_minute AND k.key = deleted.key AND event_id = deleted.id)"
        " , objects AS (DELETE FROM event_objects WHERE id > %(first)s AND id <= %(last)s)"
        " SELECT key FROM deleted",
        _event_ids(receipt_id),
    )
    return {row[0].hex for row in rows}


def insert_events(connection: Connection, rows: Sequence[NewEvent]) -> int:
    """Store the events that are new without folding them; return their number."""
    return store.insert_without_states(connection, rows)


def rebuild_states(connection: Connection, keys: Iterable[StateKey]) -> None:
    """Replace these states by the fold of all stored events."""
    connection.exec_driver_sql(_REBUILD, _columns(keys))


def log_changes(connection: Connection, event_ids: Iterable[str]) -> None:
    """Log the changes that these events caused; events that are no longer stored are skipped."""
    connection.exec_driver_sql(
        "INSERT INTO state_changes (type, source_id, message_id, recipient, event_id, status, previous_status, version)"
        " SELECT types.name, e.source_id, e.message_id, e.recipient, e.id, s.status,"
        " CASE WHEN e.id = s.status_event_id THEN s.previous_status ELSE s.status END, s.version"
        f" FROM events AS e JOIN (VALUES {_NAMES}) AS types (type, name) USING (type)"
        " LEFT JOIN recipient_states AS s ON s.message_id = e.message_id AND s.recipient = coalesce(e.recipient, '')"
        " WHERE e.id = ANY(%(ids)s::uuid[]) ORDER BY e.occurred_at, e.id",
        {"ids": list(event_ids)},
    )


def _columns(keys: Iterable[StateKey]) -> dict[str, list[str]]:
    ordered = sorted(keys)
    return {"messages": [message for message, _ in ordered], "recipients": [recipient for _, recipient in ordered]}


def _event_ids(receipt_id: UUID) -> dict[str, UUID]:
    return {"first": receipt_id, "last": UUID(int=receipt_id.int + _LAST_EVENT)}
