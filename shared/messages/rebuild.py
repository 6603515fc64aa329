"""Folding states anew from the events that are kept: what reprocessing needs, and only it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.messages import store as state
from shared.messages.state import RANKS, STANDINGS, Weight
from shared.messages.store import NewEvent
from shared.vocabulary import CHANGE_TYPES, Status

Place = tuple[str, str]
"""A message (32 hex digits) and a recipient of it, '' for the whole message."""

_LAST = (1 << ids.EVENTS_PER_RECEIPT_BITS) - 1

_EFFECTS = ", ".join(
    f"('{kind}', {weight:d}, {RANKS[status]}, '{status}')" if status else f"('{kind}', {weight:d}, -1, NULL)"
    for kind, (weight, status) in STANDINGS.items()
)

_NAMES = ", ".join(f"('{kind}', '{name}')" for kind, name in CHANGE_TYPES.items())

_FOLD = f"""
WITH effects (type, weight, rank, status) AS (VALUES {_EFFECTS}),
places AS (SELECT unnest(%(messages)s::uuid[]) AS message_id, unnest(%(recipients)s::text[]) AS recipient),
old AS (
    DELETE FROM recipient_states AS s USING places
    WHERE s.message_id = places.message_id AND s.recipient = places.recipient
    RETURNING s.message_id, s.recipient, s.version, s.status, s.previous_status
),
facts AS (
    SELECT e.message_id, coalesce(e.recipient, '') AS recipient, e.id, e.key, e.type, e.source_id, e.occurred_at,
        effects.weight::smallint, effects.rank::smallint, effects.status, e.classification, e.smtp_status,
        e.enhanced_code, e.reason, e.data->>'smtp_id' AS smtp_id
    FROM events AS e JOIN effects USING (type)
    JOIN places ON places.message_id = e.message_id AND places.recipient = coalesce(e.recipient, '')
    WHERE e.message_id = ANY(%(messages)s::uuid[])
    UNION ALL  -- an announced send was submitted, whatever its events say
    SELECT old.message_id, old.recipient, NULL, '00000000-0000-0000-0000-000000000000', 'submitted', m.source_id,
        m.submitted_at, {Weight.IMPLIED:d}, {RANKS[Status.SUBMITTED]}, '{Status.SUBMITTED}', NULL, NULL, NULL, NULL,
        m.smtp_id
    FROM old JOIN messages AS m ON m.id = old.message_id AND m.submitted_at IS NOT NULL WHERE old.recipient <> ''
),
{state.FOLDED.format(facts="facts")}
INSERT INTO recipient_states (message_id, recipient, source_id, {", ".join(state.OF_STANDING)}, previous_status,
    {", ".join(state.COUNTED)}, version, updated_at)
SELECT best.message_id, best.recipient, source_id, {", ".join(f"best.{name}" for name in state.OF_STANDING)},
    CASE WHEN old.status IS DISTINCT FROM best.status THEN old.status ELSE old.previous_status END,
    {", ".join(f"counted.{name}" for name in state.COUNTED)}, coalesce(old.version, 0) + 1, now()
FROM best JOIN counted USING (message_id, recipient) LEFT JOIN old USING (message_id, recipient)
"""


class Standing(NamedTuple):
    """What is shown of a state before and after."""

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


def touched_by(connection: Connection, receipt_id: UUID) -> set[Place]:
    """The states that the events of a receipt have their part in."""
    rows = connection.exec_driver_sql(
        "SELECT DISTINCT message_id, coalesce(recipient, '') FROM events"
        " WHERE id > %(first)s AND id <= %(last)s AND message_id IS NOT NULL",
        _span(receipt_id),
    )
    return {(row[0].hex, row[1]) for row in rows}


def lock(connection: Connection, places: Iterable[Place]) -> None:
    """Keep other workers from these states until the transaction ends."""
    connection.exec_driver_sql(
        "SELECT 1 FROM recipient_states WHERE (message_id, recipient) IN (SELECT unnest(%(messages)s::uuid[]),"
        " unnest(%(recipients)s::text[])) ORDER BY message_id, recipient FOR UPDATE",
        _columns(places),
    )


def standings(connection: Connection, places: Iterable[Place]) -> dict[Place, Standing]:
    """These states, as they are now."""
    rows = connection.exec_driver_sql(
        "SELECT message_id, recipient, status, classification, enhanced_code, opens, clicks, complained_at IS NOT NULL,"
        " unsubscribed_at IS NOT NULL AND unsubscribed_at >= coalesce(subscribed_at, unsubscribed_at),"
        " status_event_id::text, version FROM recipient_states WHERE (message_id, recipient) IN"
        " (SELECT unnest(%(messages)s::uuid[]), unnest(%(recipients)s::text[]))",
        _columns(places),
    )
    found = (
        Standing(row[0].hex, row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10])
        for row in rows
    )
    return {(standing.message_id, standing.recipient): standing for standing in found}


def forget(connection: Connection, receipt_id: UUID) -> set[str]:
    """Take away the events of a receipt, and their keys (32 hex digits); return these."""
    rows = connection.exec_driver_sql(
        "WITH gone AS (DELETE FROM events WHERE id > %(first)s AND id <= %(last)s RETURNING id, key)"
        " , keys AS (DELETE FROM event_keys USING gone WHERE event_keys.key = gone.key AND event_id = gone.id)"
        " SELECT key FROM gone",
        _span(receipt_id),
    )
    return {row[0].hex for row in rows}


def insert(connection: Connection, rows: Sequence[NewEvent]) -> int:
    """Keep the events that are new, without folding them; return how many."""
    return state.keep(connection, rows)


def fold(connection: Connection, places: Iterable[Place]) -> None:
    """Make these states what all kept events give."""
    connection.exec_driver_sql(_FOLD, _columns(places))


def log_changes(connection: Connection, event_ids: Iterable[str]) -> None:
    """Log what these events have made of their states; those that are not kept are passed over."""
    connection.exec_driver_sql(
        "INSERT INTO state_changes (type, source_id, message_id, recipient, event_id, status, previous_status, version)"
        " SELECT told.name, e.source_id, e.message_id, e.recipient, e.id, s.status,"
        " CASE WHEN e.id = s.status_event_id THEN s.previous_status ELSE s.status END, s.version"
        f" FROM events AS e JOIN (VALUES {_NAMES}) AS told (type, name) USING (type)"
        " LEFT JOIN recipient_states AS s ON s.message_id = e.message_id AND s.recipient = coalesce(e.recipient, '')"
        " WHERE e.id = ANY(%(ids)s::uuid[]) ORDER BY e.occurred_at, e.id",
        {"ids": list(event_ids)},
    )


def _columns(places: Iterable[Place]) -> dict[str, list[str]]:
    ordered = sorted(places)
    return {"messages": [place[0] for place in ordered], "recipients": [place[1] for place in ordered]}


def _span(receipt_id: UUID) -> dict[str, UUID]:
    return {"first": receipt_id, "last": UUID(int=receipt_id.int + _LAST)}
