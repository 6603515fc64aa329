"""Events and the states they give: one statement for a whole batch, whatever its size.

It keeps the events that are new, folds them for each (message, recipient), merges that into the stored state
where it rises, and logs what rose. The rule is that of `shared.messages.state`, in SQL; a test proves that the
two agree.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.counters import store as counts
from shared.counters.model import Tally
from shared.messages.state import Weight


class NewEvent(NamedTuple):
    """One event as it is stored; a tuple, because a batch is turned from rows into columns.

    `key`, `message_id` and `provider_object` are text: 32 hex digits each, and JSON, as `data` is. `weight`,
    `rank` and `status` are what the event says of the delivery (`shared.messages.state.STANDINGS`), and
    `change_type` is how the change that it makes is announced.
    """

    id: UUID
    receipt_id: UUID
    source_id: int
    key: str
    type: str
    message_id: str | None
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
    provider_object: str
    weight: int
    rank: int
    status: str | None
    change_type: str


class Applied(NamedTuple):
    """What a batch did: how many of its events were new, and how many changes they made."""

    new_events: int
    changes: int


_COLUMN_TYPES = {
    **dict.fromkeys(NewEvent._fields, "text"),
    **dict.fromkeys(("id", "receipt_id", "key", "message_id"), "uuid"),
    **dict.fromkeys(("occurred_at", "received_at"), "timestamptz"),
    **dict.fromkeys(("weight", "rank"), "smallint"),
    "source_id": "bigint",
}
_INPUT = ", ".join(f"unnest(%({name})b::{type_}[]) AS {name}" for name, type_ in _COLUMN_TYPES.items())

_FILLED = ("provider_message_id", "request_id", "smtp_id", "sender", "subject", "tenant", "tag", "campaign")
"""What an event may know of its message. Where two disagree the lesser stays, so that their order does not matter."""

NOBODY = ""
"""The tenant of a message that two have been named for. It stays so: whichever came first, neither is shown it."""

_LEAST = {name: f"least(m.{name}, excluded.{name})" for name in ("first_event_at", *_FILLED)} | {
    "tenant": f"CASE WHEN m.tenant <> excluded.tenant THEN '{NOBODY}' ELSE least(m.tenant, excluded.tenant) END"
}
_LEAST_OF_BATCH = {name: f"min({name})" for name in _FILLED} | {
    "tenant": f"CASE WHEN min(tenant) <> max(tenant) THEN '{NOBODY}' ELSE min(tenant) END"
}

RISES = (
    "(excluded.weight, excluded.status_at, excluded.rank, excluded.status_key)"
    " > (s.weight, s.status_at, s.rank, s.status_key)"
)
"""Whether what arrives (`excluded`) holds instead of what is stored (`s`)."""

OF_STANDING = (
    "weight",
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
"""What a state takes from the event whose word holds."""

COUNTED = (
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
"""What a state gathers from all its events."""

TAKE_IF_RISES = ", ".join(f"{name} = CASE WHEN {RISES} THEN excluded.{name} ELSE s.{name} END" for name in OF_STANDING)

_REMARK = int(Weight.IMPLIED)
"""Events of this weight and less are announced each; of those that tell the delivery's course only what holds."""

# Folds the rows of {facts} for each (message, recipient): the greatest standing, and what is counted.
FOLDED = f"""
best AS (
    SELECT DISTINCT ON (message_id, coalesce(recipient, '')) message_id, coalesce(recipient, '') AS recipient,
        source_id, weight, occurred_at AS status_at, rank, key AS status_key, status, id AS status_event_id,
        classification, smtp_status, enhanced_code, reason
    FROM {{facts}} WHERE message_id IS NOT NULL
    ORDER BY message_id, coalesce(recipient, ''), weight DESC, occurred_at DESC, rank DESC, key DESC
),
counted AS (
    SELECT message_id, coalesce(recipient, '') AS recipient, min(smtp_id) AS smtp_id,
        count(*) FILTER (WHERE weight <= {_REMARK}) AS remarks,
        count(*) FILTER (WHERE type = 'opened') AS opens,
        count(*) FILTER (WHERE type = 'clicked') AS clicks,
        count(*) FILTER (WHERE type = 'read') AS reads,
        min(occurred_at) FILTER (WHERE type = 'opened') AS opened_at,
        min(occurred_at) FILTER (WHERE type = 'clicked') AS clicked_at,
        min(occurred_at) FILTER (WHERE type = 'read') AS read_at,
        min(occurred_at) FILTER (WHERE type = 'complained') AS complained_at,
        max(occurred_at) FILTER (WHERE type = 'unsubscribed') AS unsubscribed_at,
        max(occurred_at) FILTER (WHERE type = 'subscribed') AS subscribed_at
    FROM {{facts}} WHERE message_id IS NOT NULL GROUP BY 1, 2
)"""

# PostgreSQL runs what nothing reads from in the opposite order: the counts, over which workers may meet, come last.
_KEEP = f"""
WITH input AS MATERIALIZED (SELECT {_INPUT}),
fresh AS (
    INSERT INTO event_keys (key, event_id)
    SELECT DISTINCT ON (key) key, id FROM input ORDER BY key, id
    ON CONFLICT DO NOTHING RETURNING event_id
),
new AS MATERIALIZED (SELECT input.* FROM input JOIN fresh ON event_id = id),
{{tallied}}
kept AS (
    INSERT INTO events (id, receipt_id, source_id, key, type, message_id, recipient, occurred_at, received_at,
        classification, smtp_status, enhanced_code, reason, data, provider_object)
    SELECT id, receipt_id, source_id, key, type, message_id, recipient, occurred_at, received_at,
        classification, smtp_status, enhanced_code, reason, data::json, provider_object::json
    FROM new ORDER BY id
),
known AS (
    INSERT INTO messages AS m (id, source_id, created_at, first_event_at, {", ".join(_FILLED)})
    SELECT message_id, min(source_id), min(received_at), min(occurred_at), {", ".join(_LEAST_OF_BATCH.values())}
    FROM new WHERE message_id IS NOT NULL GROUP BY message_id ORDER BY message_id
    ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = {least}" for name, least in _LEAST.items())}
    WHERE ({", ".join(f"m.{name}" for name in _LEAST)}) IS DISTINCT FROM ({", ".join(_LEAST.values())})
)"""

_FOLD = f""",
{FOLDED.format(facts="new")},
risen AS (
    INSERT INTO recipient_states AS s (message_id, recipient, source_id, {", ".join(OF_STANDING)}, {", ".join(COUNTED)},
        updated_at)
    SELECT message_id, recipient, source_id, {", ".join(OF_STANDING)}, {", ".join(COUNTED)}, now()
    FROM best JOIN counted USING (message_id, recipient) ORDER BY message_id, recipient
    ON CONFLICT (message_id, recipient) DO UPDATE SET
        previous_status = CASE WHEN {RISES} THEN s.status ELSE s.previous_status END,
        {TAKE_IF_RISES},
        smtp_id = least(s.smtp_id, excluded.smtp_id),
        remarks = s.remarks + excluded.remarks,
        opens = s.opens + excluded.opens, clicks = s.clicks + excluded.clicks, reads = s.reads + excluded.reads,
        opened_at = least(s.opened_at, excluded.opened_at), clicked_at = least(s.clicked_at, excluded.clicked_at),
        read_at = least(s.read_at, excluded.read_at), complained_at = least(s.complained_at, excluded.complained_at),
        unsubscribed_at = greatest(s.unsubscribed_at, excluded.unsubscribed_at),
        subscribed_at = greatest(s.subscribed_at, excluded.subscribed_at),
        version = s.version + 1, updated_at = now()
    WHERE {RISES} OR excluded.remarks > 0 OR s.smtp_id IS DISTINCT FROM least(s.smtp_id, excluded.smtp_id)
    RETURNING message_id, recipient, status, previous_status, status_event_id, version
),
logged AS (
    INSERT INTO state_changes (type, source_id, message_id, recipient, event_id, status, previous_status, version)
    SELECT change_type, source_id, new.message_id, new.recipient, id, risen.status,
        CASE WHEN id = status_event_id THEN previous_status ELSE risen.status END, version
    FROM new LEFT JOIN risen ON risen.message_id = new.message_id AND risen.recipient = coalesce(new.recipient, '')
    WHERE id = status_event_id OR weight <= {_REMARK}
    ORDER BY occurred_at, id
    RETURNING 1
)
SELECT (SELECT count(*) FROM new), (SELECT count(*) FROM logged)
"""

_APPLY = f"{_KEEP.format(tallied='')}{_FOLD}"
_APPLY_AND_COUNT = f"{_KEEP.format(tallied=f'{counts.TALLIED},')}{_FOLD}"
_KEEP_ONLY = f"{_KEEP.format(tallied='')} SELECT count(*) FROM new"


def apply(connection: Connection, events: Sequence[NewEvent], tallies: Sequence[Tally] = ()) -> Applied:
    """Keep the events that are new and let them change what they change. Repetitions change nothing.

    Those that are new are counted as `tallies` say (`shared.counters.store`). The rows are written in the order of
    their keys, table by table, so that two workers that meet wait for one another rather than deadlock.
    """
    if not events:
        return Applied(0, 0)
    if not tallies:
        return Applied(*connection.exec_driver_sql(_APPLY, _columns(events)).one())
    values = _columns(events) | counts.parameters(tallies)
    return Applied(*connection.exec_driver_sql(_APPLY_AND_COUNT, values).one())


def keep(connection: Connection, events: Sequence[NewEvent]) -> int:
    """Keep the events that are new and their messages, but leave the states alone; return how many were new."""
    if not events:
        return 0
    return int(connection.exec_driver_sql(_KEEP_ONLY, _columns(events)).scalar_one())


def _columns(events: Sequence[NewEvent]) -> dict[str, list[object]]:
    return dict(zip(NewEvent._fields, map(list, zip(*events, strict=True)), strict=True))
