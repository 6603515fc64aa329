"""Stores a batch of events and folds them into the states of messages, in one statement.

The statement inserts the events that are new, folds them for each (message, recipient), merges the result into the
stored state and logs the changes. Its rule is that of `shared.messages.state`; a test proves that both agree.

It is SQL text because every event passes through it: one round trip for a batch, with data-modifying CTEs whose order
decides how locks are taken.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Connection, Row, func, select

from shared.counters import store as counts
from shared.counters.store import Tally
from shared.messages import tables
from shared.messages.state import Weight
from shared.messages.tables import MESSAGE_FIELDS, bit_of
from shared.postgres import arrays
from shared.postgres.arrays import Array
from shared.postgres.metadata import is_any

MAX_EVENTS: Final = 4000
"""Events of one statement, which bounds its memory and its time: 0.1 s of CPU in PostgreSQL."""


class SharedObject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A provider's object with several events, one for each recipient, and the fields that they share.

    `id` is the id of the first of them. `data` is JSON text. The object is at a place in the receipt's body, in bytes,
    or it is `provider_object`, JSON text.
    """

    id: UUID
    data: str
    provider_object: str | None
    object_at: int | None = None
    object_length: int | None = None


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event to be stored. A struct, because making a tuple with names takes twice as long.

    `key` and `message_key` are 32 hex digits; `data` and `provider_object` are JSON text. `key_minute` is the minute
    under which the key is stored (`shared.events.event.key_minute`). `weight`, `rank` and `status` are the event's
    claim about the delivery (`shared.messages.state.STATUS_EFFECTS`). `change_type` is the type of the change that it
    causes. The provider's object is at a place in the receipt's body, in bytes, or it is `provider_object`. With
    `shared` it is there, and `data` has what differs from that. `message_fields` are those of MESSAGE_FIELDS that have
    a value which is not in `data` (`shared.messages.tables.bit_of`).
    """

    id: UUID
    receipt_id: UUID
    source_id: int
    key: str
    key_minute: int
    type: str
    message_key: str | None
    recipient: str | None
    occurred_at: datetime
    received_at: datetime
    sender: str | None
    subject: str | None
    provider_message_id: str | None
    request_id: str | None
    smtp_id: str | None
    tenant: str | None
    tag: str | None
    campaign: str | None
    classification: str | None
    smtp_status: str | None
    enhanced_code: str | None
    reason: str | None
    data: str
    provider_object: str | None
    object_at: int | None
    object_length: int | None
    weight: int
    rank: int
    status: str | None
    change_type: str
    shared: SharedObject | None = None
    message_fields: int | None = None


class Applied(NamedTuple):
    """The number of events of a batch that were new, and of the changes that they caused."""

    new_events: int
    changes: int


_COLUMNS = tuple(name for name in NewEvent.__struct_fields__ if name not in {"receipt_id", "shared"})
_COLUMN_TYPES = {
    **dict.fromkeys(_COLUMNS, "text"),
    **dict.fromkeys(("id", "key", "message_key"), "uuid"),
    **dict.fromkeys(("occurred_at", "received_at"), "timestamptz"),
    **dict.fromkeys(("weight", "rank", "message_fields"), "smallint"),
    **dict.fromkeys(("key_minute", "object_at", "object_length"), "integer"),
    "source_id": "bigint",
}
_INPUT = arrays.unnest(_COLUMN_TYPES)

AMBIGUOUS_TENANT = ""
"""Stored as the tenant if events name different tenants for one message. It stays: neither of them sees the message."""


def _least(stored: str, new: str) -> dict[str, str]:
    """Return for each field of a message the SQL of its value after a batch, of a stored and of a new row.

    If events disagree on a field, the lesser value stays, whatever their order.
    """
    return {name: f"least({stored}.{name}, {new}.{name})" for name in ("first_event_at", *MESSAGE_FIELDS)} | {
        "tenant": f"CASE WHEN {stored}.tenant <> {new}.tenant THEN '{AMBIGUOUS_TENANT}'"
        f" ELSE least({stored}.tenant, {new}.tenant) END"
    }


def _is_changed(stored: str, new: str) -> str:
    """Return the SQL condition that a batch changes a field of a message."""
    least = _least(stored, new)
    return f"({', '.join(f'{stored}.{name}' for name in least)}) IS DISTINCT FROM ({', '.join(least.values())})"


# An event that has a value from its message keeps it, whatever the message has later.
_FIRST_VALUES = ", ".join(
    f"'{name}', coalesce(m.first_values ->> '{name}', CASE WHEN m.{name} <> {least} THEN m.{name} END)"
    for name, least in _least("m", "excluded").items()
    if name in MESSAGE_FIELDS
)

MERGE_MESSAGE = ", ".join(f"{name} = {least}" for name, least in _least("m", "excluded").items()) + (
    f", first_values = nullif(json_strip_nulls(json_build_object({_FIRST_VALUES}))::text,"
    " json_build_object()::text)::json"
)
"""SQL: what a stored message (`m`) takes from another row with its key (`excluded`)."""

_LEAST_OF_BATCH = {name: f"min({name})" for name in MESSAGE_FIELDS} | {
    "tenant": f"CASE WHEN min(tenant) <> max(tenant) THEN '{AMBIGUOUS_TENANT}' ELSE min(tenant) END"
}

SUPERSEDES = (
    "(excluded.weight, excluded.timed, excluded.status_at, excluded.rank, excluded.status_key)"
    " > (s.weight, coalesce(s.timed, excluded.timed), s.status_at, s.rank, s.status_key)"
)
"""SQL condition: the claim that arrives (`excluded`) supersedes the stored one (`s`).

An earlier version did not store whether a claim is timed: such a claim is compared by its time, as it was then.
"""

STATUS_COLUMNS = (
    "weight",
    "timed",
    "status_at",
    "rank",
    "status_key",
    "status",
    "status_event_id",
    "classification",
    "smtp_status",
    "enhanced_code",
    "reason",
)
"""Columns that a state takes from the event whose claim holds."""

AGGREGATE_COLUMNS = (
    "smtp_id",
    "remarks",
    "opens",
    "clicks",
    "reads",
    "opened_at",
    "clicked_at",
    "read_at",
    "complained_at",
    "unsubscribed_at",
    "subscribed_at",
)
"""Columns that aggregate all events of a state."""

_STATE_COLUMNS = ", ".join([*STATUS_COLUMNS, *AGGREGATE_COLUMNS])

SET_STATUS = ", ".join(
    f"{name} = CASE WHEN {SUPERSEDES} THEN excluded.{name} ELSE s.{name} END" for name in STATUS_COLUMNS
)

_MAX_REMARK_WEIGHT = int(Weight.IMPLIED)
"""Every event of this weight or less causes a separate change; heavier ones only if their claim holds."""

# An event without a usable time has that of its arrival; it is not `timed`.
# Folds the rows of {facts} for each (message, recipient): the greatest claim, and the aggregates.
FOLD_CTES = f"""
best AS (
    SELECT DISTINCT ON (message_id, coalesce(recipient, '')) message_id, coalesce(recipient, '') AS recipient,
        source_id, weight, occurred_at IS DISTINCT FROM received_at AS timed, occurred_at AS status_at, rank,
        key AS status_key, status, id AS status_event_id,
        classification, smtp_status, enhanced_code, reason
    FROM {{facts}} WHERE message_id IS NOT NULL
    ORDER BY message_id, coalesce(recipient, ''), weight DESC, timed DESC, occurred_at DESC, rank DESC, key DESC
),
counted AS (
    SELECT message_id, coalesce(recipient, '') AS recipient, min(smtp_id) AS smtp_id,
        count(*) FILTER (WHERE weight <= {_MAX_REMARK_WEIGHT}) AS remarks,
        count(*) FILTER (WHERE type = 'opened') AS opens,
        count(*) FILTER (WHERE type = 'clicked') AS clicks,
        count(*) FILTER (WHERE type = 'read') AS reads,
        min(occurred_at) FILTER (WHERE type = 'opened') AS opened_at,
        min(occurred_at) FILTER (WHERE type = 'clicked') AS clicked_at,
        min(occurred_at) FILTER (WHERE type = 'read') AS read_at,
        min(occurred_at) FILTER (WHERE type = 'complained') AS complained_at,
        max(occurred_at) FILTER (WHERE type = 'unsubscribed') AS unsubscribed_at,
        max(occurred_at) FILTER (WHERE type = 'subscribed') AS subscribed_at,
        (coalesce(min(received_at), now()) AT TIME ZONE 'UTC')::date AS created_on
    FROM {{facts}} WHERE message_id IS NOT NULL GROUP BY 1, 2
)"""

MESSAGE_KEY = "coalesce(key, id)"
"""SQL: the key of a message; an earlier version stored it as the id."""

MESSAGE_ID = "(left({event}::text, 20) || right({key}::text, 16))::uuid"
"""SQL: the id of a new message, by its first event's id and its key. It begins with the event's time."""

_SHARED_VALUES = ", ".join(
    f"coalesce((message).first_values ->> '{name}', (message).{name}) AS shared_{name}" for name in MESSAGE_FIELDS
)
_AGREED = " | ".join(f"CASE WHEN {name} = shared_{name} THEN {bit_of(name)} ELSE 0 END" for name in MESSAGE_FIELDS)
_OTHERS = ", ".join(
    f"'{name}', CASE WHEN message_fields & ~agreed & {bit_of(name)} <> 0 THEN {name} END" for name in MESSAGE_FIELDS
)
# Built as text: `data` may contain \u0000, which jsonb refuses.
_WITH_OTHERS = (
    f"left(json_strip_nulls(json_build_object({_OTHERS}))::text, -1)"
    " || CASE WHEN length(data) > 2 THEN ',' ELSE '' END || right(data, -1)"
)
"""SQL: the data of an event with the fields in which it differs from its message."""

# Stored keys and messages are looked up one by one, because a join might read an index from end to end. Keys that an
# earlier version stored have the minute 0, which is looked up only where there are any; `coalesce` and not `IS NULL`,
# of which PostgreSQL expects few rows, and would compare each row with each other. PostgreSQL runs CTEs that nothing
# reads from in reverse order: the counters, where workers contend, come last.
_INSERT = f"""
WITH input AS MATERIALIZED (SELECT {_INPUT}),
fresh AS (
    INSERT INTO event_keys (minute, key, event_id)
    SELECT DISTINCT ON (key_minute, key) key_minute, key, id FROM input
    WHERE NOT EXISTS (SELECT 1 FROM event_keys WHERE minute = 0)
        OR NOT coalesce((SELECT true FROM event_keys AS k WHERE k.minute = 0 AND k.key = input.key), false)
    ORDER BY key_minute, key, id
    ON CONFLICT DO NOTHING RETURNING event_id
),
added AS MATERIALIZED (SELECT input.* FROM input JOIN fresh ON event_id = id),
named AS MATERIALIZED (
    SELECT message_key, (SELECT m FROM messages AS m WHERE {MESSAGE_KEY} = message_key) AS stored,
        min(id::text COLLATE "C") AS first_event, min(source_id) AS source_id, min(received_at) AS created_at,
        min(occurred_at) AS first_event_at,
        {", ".join(f"{value} AS {name}" for name, value in _LEAST_OF_BATCH.items())}
    FROM added WHERE message_key IS NOT NULL GROUP BY message_key
),
inserted AS (
    INSERT INTO messages AS m (id, key, source_id, created_at, first_event_at, {", ".join(MESSAGE_FIELDS)})
    SELECT coalesce((stored).id, {MESSAGE_ID.format(event="first_event", key="message_key")}), message_key, source_id,
        created_at, first_event_at, {", ".join(MESSAGE_FIELDS)}
    FROM named
    -- Most events change nothing in a stored message. A conflict would lock its row, which is written to the WAL.
    WHERE (stored).id IS NULL OR {_is_changed("(stored)", "named")}
    ORDER BY message_key
    ON CONFLICT ({MESSAGE_KEY}) DO UPDATE
    SET {MERGE_MESSAGE}
    -- Another worker may have inserted the message since this statement began: then its id is read here.
    WHERE m.id <> excluded.id OR {_is_changed("m", "excluded")}
    RETURNING m AS message, {MESSAGE_KEY} AS message_key
),
known AS MATERIALIZED (
    SELECT message_key, (message).id AS message_id, {_SHARED_VALUES}
    FROM (SELECT message_key, coalesce(message, stored) AS message FROM named LEFT JOIN inserted USING (message_key))
        AS merged
),
new AS MATERIALIZED (
    SELECT added.*, message_id, message_fields & ({_AGREED}) AS agreed FROM added LEFT JOIN known USING (message_key)
),
{{tallied}}
kept AS (
    INSERT INTO events (id, source_id, key, key_minute, type, message_id, recipient, occurred_at, received_at,
        classification, smtp_status, enhanced_code, reason, data, provider_object, object_at, object_length,
        message_fields)
    SELECT id, source_id, key, key_minute, type, message_id, recipient, occurred_at, received_at,
        classification, smtp_status, enhanced_code, reason,
        CASE WHEN message_fields <> agreed THEN {_WITH_OTHERS} ELSE data END::json, provider_object::json, object_at,
        object_length, agreed
    FROM new ORDER BY id RETURNING 1
)"""

_FOLD = f""",
{FOLD_CTES.format(facts="new")},
changed AS (
    INSERT INTO recipient_states AS s (message_id, recipient, source_id, {_STATE_COLUMNS}, updated_at, created_on)
    SELECT message_id, recipient, source_id, {_STATE_COLUMNS}, now(), created_on
    FROM best JOIN counted USING (message_id, recipient) ORDER BY message_id, recipient
    ON CONFLICT (message_id, recipient) DO UPDATE SET
        previous_status = CASE WHEN {SUPERSEDES} THEN s.status ELSE s.previous_status END,
        {SET_STATUS},
        smtp_id = least(s.smtp_id, excluded.smtp_id),
        remarks = s.remarks + excluded.remarks,
        opens = s.opens + excluded.opens, clicks = s.clicks + excluded.clicks, reads = s.reads + excluded.reads,
        opened_at = least(s.opened_at, excluded.opened_at), clicked_at = least(s.clicked_at, excluded.clicked_at),
        read_at = least(s.read_at, excluded.read_at), complained_at = least(s.complained_at, excluded.complained_at),
        unsubscribed_at = greatest(s.unsubscribed_at, excluded.unsubscribed_at),
        subscribed_at = greatest(s.subscribed_at, excluded.subscribed_at),
        version = s.version + 1, updated_at = now()
    WHERE {SUPERSEDES} OR excluded.remarks > 0 OR s.smtp_id IS DISTINCT FROM least(s.smtp_id, excluded.smtp_id)
    RETURNING message_id, recipient, status, previous_status, status_event_id, version
),
logged AS (
    INSERT INTO state_changes (type, source_id, message_id, recipient, event_id, status, previous_status, version)
    SELECT change_type, source_id, new.message_id, new.recipient, id, changed.status,
        CASE WHEN id = status_event_id THEN previous_status ELSE changed.status END, version
    FROM new LEFT JOIN changed
        ON changed.message_id = new.message_id AND changed.recipient = coalesce(new.recipient, '')
    WHERE id = status_event_id OR weight <= {_MAX_REMARK_WEIGHT}
    ORDER BY occurred_at, id
    RETURNING 1
)
-- In this order: events are stored before states are locked, for which other workers wait.
SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM logged)
"""

_APPLY = f"{_INSERT.format(tallied='')}{_FOLD}"
_APPLY_AND_COUNT = f"{_INSERT.format(tallied=f'{counts.TALLIED},')}{_FOLD}"
_INSERT_ONLY = f"{_INSERT.format(tallied='')} SELECT count(*) FROM new"

_INSERT_OBJECTS = """
INSERT INTO event_objects (id, data, provider_object, object_at, object_length)
SELECT id, data::json, provider_object::json, object_at, object_length
FROM unnest(%(id)b::uuid[], %(data)b::text[], %(provider_object)b::text[], %(object_at)b::integer[],
    %(object_length)b::integer[]) AS shared (id, data, provider_object, object_at, object_length)
ORDER BY id ON CONFLICT DO NOTHING
"""


def parts(events: Sequence[NewEvent]) -> Iterator[Sequence[NewEvent]]:
    """Split events into parts of up to MAX_EVENTS; one empty part if there are none."""
    for first in range(0, len(events) or 1, MAX_EVENTS):
        yield events[first : first + MAX_EVENTS]


def apply(connection: Connection, events: Sequence[NewEvent], tallies: Sequence[Tally] = ()) -> Applied:
    """Store the events that are new and apply them to the states. Repetitions change nothing.

    The new events are counted as `tallies` say (`shared.counters.store`). Rows are written in the order of their
    keys, table by table, so that concurrent workers wait for one another instead of deadlocking.
    """
    if not events:
        return Applied(0, 0)
    total = Applied(0, 0)
    for part in parts(events):
        values = _columns(part) | (counts.parameters(tallies) if tallies else {})
        applied = Applied(*connection.exec_driver_sql(_APPLY_AND_COUNT if tallies else _APPLY, values).one())
        if applied.new_events:
            _insert_objects(connection, part)
        total = Applied(total.new_events + applied.new_events, total.changes + applied.changes)
    return total


def stored(connection: Connection, events: Sequence[NewEvent]) -> Sequence[Row[Any, Any, Any, Any]]:
    """Return `id`, `source_id`, `type` and `message_id` of the events that are not repetitions."""
    columns = tables.events.c
    found = select(columns.id, columns.source_id, columns.type, columns.message_id)
    return connection.execute(found.where(is_any(columns.id, [event.id for event in events]))).all()


def insert_without_states(connection: Connection, events: Sequence[NewEvent]) -> int:
    """Store the events that are new and their messages without touching the states. Return how many were new."""
    total = 0
    for part in parts(events) if events else ():
        if new := int(connection.exec_driver_sql(_INSERT_ONLY, _columns(part)).scalar_one()):
            _insert_objects(connection, part)
        total += new
    return total


def find_ids(connection: Connection, keys: Iterable[str]) -> dict[str, UUID]:
    """Return the ids of the stored messages with these keys (32 hex digits), by key."""
    stored = tables.messages.c
    key = func.coalesce(stored.key, stored.id)
    rows = connection.execute(select(key, stored.id).where(is_any(key, [UUID(hex=one) for one in keys])))
    return {row[0].hex: row[1] for row in rows}


def _insert_objects(connection: Connection, events: Sequence[NewEvent]) -> None:
    if shared := {event.shared.id: event.shared for event in events if event.shared is not None}:
        connection.exec_driver_sql(_INSERT_OBJECTS, _columns(list(shared.values())))


def _columns(rows: Sequence[NewEvent | SharedObject]) -> dict[str, Array]:
    columns = zip(rows[0].__struct_fields__, zip(*map(astuple, rows), strict=True), strict=True)
    return {name: arrays.pack(_COLUMN_TYPES[name], values) for name, values in columns if name in _COLUMN_TYPES}
