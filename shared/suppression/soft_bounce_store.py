"""Soft bounces by message, the recipients to evaluate, and the entries of the soft-bounce rule.

A batch only appends what it found and whom to evaluate, so it waits for nobody. One transaction at a time evaluates
(`try_lock`); it holds the locks of `shared.suppression.store` too. Statements are SQL text where they are part of every
batch, or join arrays of hundreds of recipients.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, and_, exists, extract, func, insert, literal, literal_column, or_, select
from sqlalchemy import delete as delete_from

from shared import ids
from shared.messages.store import MESSAGE_KEY
from shared.messages.tables import recipient_states
from shared.postgres.metadata import Timestamp, is_any
from shared.suppression.evidence import Changes
from shared.suppression.sql import ENTRY_ID, ENTRY_JSON, arrays, record_changes, unnest
from shared.suppression.tables import soft_bounce_checks, soft_bounces, suppression_lifts, suppressions
from shared.vocabulary import SuppressionAction, SuppressionOrigin, SuppressionReason

RecipientTenant = tuple[str, str]
"""A recipient and a tenant, '' for all."""

BY_SOFT_BOUNCES = f"s.reason = '{SuppressionReason.SOFT_BOUNCE}' AND s.origin = '{SuppressionOrigin.EVENT}'"
"""The entries `s` of the soft-bounce rule; a partial index serves this condition."""

# Literals, not parameters: with parameters a generic plan could not use the partial index.
_OF_RULE = and_(
    suppressions.c.reason == literal_column(f"'{SuppressionReason.SOFT_BOUNCE}'"),
    suppressions.c.origin == literal_column(f"'{SuppressionOrigin.EVENT}'"),
)
_LOCK = 0x71D1468
_MAX_MESSAGES_READ = 50_000


class NewSoftBounce(NamedTuple):
    """One soft bounce; a tuple, because a batch is turned from rows into columns. `event_key` is 32 hex digits."""

    recipient: str
    tenant: str
    source_id: int
    at: datetime
    event_id: UUID
    event_key: str
    classification: str | None


class SoftBounceEntry(NamedTuple):
    """An entry to write in place of the one that exists. `types` are separated by commas."""

    key: str
    tenant: str
    address: str | None
    types: str
    source_id: int
    classification: str | None
    since: datetime
    until: datetime | None
    event_id: UUID
    event_key: str
    level: int


class Removal(NamedTuple):
    """An entry to remove: lifted by a delivery, or withdrawn because it should never have existed."""

    key: str
    tenant: str
    action: SuppressionAction
    event_id: UUID | None


_FIRST = "(excluded.first_at, excluded.first_key) < (b.first_at, b.first_key)"
_LATEST = "at DESC, event_key DESC"
_LAST = "(excluded.last_at, excluded.last_key) > (b.last_at, b.last_key)"


def _pick(name: str, order: str = "at, event_key") -> str:
    return f"(array_agg({name} ORDER BY {order}))[1]"


def _replaced(condition: str, *names: str) -> str:
    return ", ".join(f"{name} = CASE WHEN {condition} THEN excluded.{name} ELSE b.{name} END" for name in names)


_ADD = f"""
WITH input AS MATERIALIZED (SELECT {unnest(NewSoftBounce._fields)}),
stored AS MATERIALIZED (
    SELECT input.*, e.message_id FROM input JOIN events AS e ON e.id = input.event_id AND e.key = input.event_key
),
written AS (
    INSERT INTO soft_bounces AS b (recipient, tenant, message_id, source_id, first_at, first_key, first_event_id,
        last_at, last_key, last_event_id, classification)
    SELECT recipient, tenant, message_id, min(source_id), {_pick("at")}, {_pick("event_key")}, {_pick("event_id")},
        {_pick("at", _LATEST)}, {_pick("event_key", _LATEST)}, {_pick("event_id", _LATEST)}, {_pick("classification")}
    FROM stored GROUP BY recipient, tenant, message_id ORDER BY recipient, tenant, message_id
    ON CONFLICT (recipient, tenant, message_id) DO UPDATE SET
        {_replaced(_FIRST, "first_at", "first_key", "first_event_id", "classification")},
        {_replaced(_LAST, "last_at", "last_key", "last_event_id")}
    WHERE {_FIRST} OR {_LAST}
)
INSERT INTO soft_bounce_checks (due_at, recipient, tenant) SELECT DISTINCT %(now)s, recipient, tenant FROM stored
"""

_SCHEDULE_BY_RECIPIENT = f"""
INSERT INTO soft_bounce_checks (due_at, recipient, tenant)
SELECT DISTINCT %(now)s, address, tenant FROM unnest(%(recipients)b::text[]) AS named (address)
JOIN suppressions AS s USING (address) WHERE {BY_SOFT_BOUNCES}
"""

# A delivery without a recipient counts for all recipients of its message.
_SCHEDULE_BY_MESSAGE = f"""
INSERT INTO soft_bounce_checks (due_at, recipient, tenant)
SELECT DISTINCT %(now)s, s.address, s.tenant
FROM recipient_states AS r JOIN suppressions AS s ON s.address = r.recipient
WHERE r.message_id = ANY(ARRAY(SELECT id FROM messages WHERE {MESSAGE_KEY} = ANY(%(messages)s::uuid[])))
    AND r.recipient <> '' AND {BY_SOFT_BOUNCES}
"""


def add(connection: Connection, bounces: Sequence[NewSoftBounce], now: datetime) -> None:
    """Store soft bounces of stored events, and schedule their recipients for evaluation."""
    if bounces:
        connection.exec_driver_sql(_ADD, {**arrays(bounces), "now": now})


def delete(connection: Connection, recipients: Collection[str], message_ids: Collection[UUID]) -> None:
    """Delete what is stored of these recipients' soft bounces of these messages."""
    bounces = soft_bounces.c
    of_messages = is_any(bounces.message_id, message_ids)
    connection.execute(delete_from(soft_bounces).where(is_any(bounces.recipient, sorted(recipients)), of_messages))


def delete_old(connection: Connection, oldest: datetime) -> int:
    """Delete soft bounces from before `oldest`; return how many.

    A suppressed recipient keeps those that led to it: the length of the next period depends on them.
    """
    bounces, entries = soft_bounces.c, suppressions.c
    led_to_entry = exists().where(
        entries.address == bounces.recipient,
        entries.tenant == bounces.tenant,
        _OF_RULE,
        bounces.first_at <= entries.since,
    )
    old = and_(bounces.first_at < oldest, bounces.last_at < oldest)
    return connection.execute(delete_from(soft_bounces).where(old, ~led_to_entry)).rowcount


def list_recipients(
    connection: Connection, recipients: Collection[str], message_ids: Collection[UUID]
) -> set[RecipientTenant]:
    """Return the given recipients, and recipients of the given messages, that have soft bounces."""
    bounces, states = soft_bounces.c, recipient_states.c
    # Two statements: with the subquery in an OR, PostgreSQL would read the whole table.
    of_messages = select(states.recipient).where(is_any(states.message_id, message_ids))
    concerned = {*recipients, *connection.execute(of_messages).scalars()}
    statement = select(bounces.recipient, bounces.tenant).where(is_any(bounces.recipient, sorted(concerned)))
    return {(row.recipient, row.tenant) for row in connection.execute(statement.distinct())}


def list_event_ids(connection: Connection, recipient: str, limit: int) -> list[UUID]:
    """Return the events of a recipient's soft bounces, the latest messages first; `limit` messages are read."""
    bounces = soft_bounces.c
    statement = select(bounces.first_event_id, bounces.last_event_id).where(bounces.recipient == recipient)
    rows = connection.execute(statement.order_by(bounces.last_at.desc()).limit(limit))
    return [event_id for row in rows for event_id in row]


def schedule(connection: Connection, recipients: Iterable[RecipientTenant], now: datetime) -> None:
    """Schedule these for evaluation."""
    rows = [{"due_at": now, "recipient": recipient, "tenant": tenant} for recipient, tenant in sorted(recipients)]
    if rows:
        connection.execute(insert(soft_bounce_checks), rows)


def schedule_after_delivery(
    connection: Connection, recipients: Collection[str], messages: Collection[str], now: datetime
) -> None:
    """Schedule recipients that the rule suppresses and that got mail, by name or as recipients of a message.

    `messages` are keys of 32 hex digits.
    """
    if recipients:
        connection.exec_driver_sql(_SCHEDULE_BY_RECIPIENT, {"recipients": list(recipients), "now": now})
    if messages:
        connection.exec_driver_sql(_SCHEDULE_BY_MESSAGE, {"messages": list(messages), "now": now})


def schedule_hourly_part(connection: Connection, now: datetime) -> int:
    """Schedule the part of the recipients that the rule suppresses whose hour of the day it is; return how many.

    Most changes schedule their recipients at once. Two are found only by this daily evaluation: a delivery to all
    recipients of a message whose recipients became known later, and changed rules.
    """
    entries = suppressions.c
    moment = literal(now, Timestamp)
    of_this_hour = func.hashtext(entries.address).op("&")(1023) % 24 == extract("hour", moment)
    due = select(moment, entries.address, entries.tenant).where(
        _OF_RULE, or_(entries.until.is_(None), entries.until > now), entries.address.is_not(None), of_this_hour
    )
    return connection.execute(insert(soft_bounce_checks).from_select(["due_at", "recipient", "tenant"], due)).rowcount


_CLAIM = """
WITH due AS MATERIALIZED (
    SELECT due_at, id FROM soft_bounce_checks WHERE due_at <= %(now)s ORDER BY due_at, id LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM soft_bounce_checks AS c USING due WHERE (c.due_at, c.id) = (due.due_at, due.id)
RETURNING c.recipient, c.tenant
"""


def try_lock(connection: Connection) -> bool:
    """Return whether this is the only transaction that evaluates, until it ends."""
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(_LOCK))).scalar_one())


def claim_scheduled(connection: Connection, now: datetime, limit: int) -> tuple[int, set[RecipientTenant]]:
    """Remove up to `limit` due checks from the schedule; return how many there were, and for whom."""
    rows = connection.exec_driver_sql(_CLAIM, {"now": now, "limit": limit}).all()
    return len(rows), {(row.recipient, row.tenant) for row in rows}


# Nearly all recipients that are evaluated have had one or two soft bounces, and mail since.
_RELEVANT = f"""
SELECT recipient, tenant FROM unnest(%(recipients)s::text[], %(tenants)s::text[]) AS named (recipient, tenant)
WHERE (
    SELECT count(*) FROM (
        SELECT FROM soft_bounces AS b WHERE b.recipient = named.recipient AND b.tenant = named.tenant LIMIT %(messages)s
    ) AS enough
) >= %(messages)s
OR EXISTS (
    SELECT FROM suppressions AS s
    WHERE s.address = named.recipient AND s.tenant = named.tenant AND {BY_SOFT_BOUNCES}
)
"""

# A message that was delivered after all, to its recipient or to all its recipients, has not bounced.
_BOUNCES = """
SELECT b.recipient, b.tenant, b.first_at, b.first_key, b.first_event_id, b.last_at, b.last_key, b.last_event_id,
    b.source_id, b.classification
FROM unnest(%(recipients)s::text[], %(tenants)s::text[]) AS named (recipient, tenant)
JOIN soft_bounces AS b USING (recipient, tenant)
WHERE NOT EXISTS (
    SELECT FROM recipient_states AS s WHERE s.message_id = b.message_id AND s.recipient IN (b.recipient, '')
        AND s.status = 'delivered'
)
"""


def select_relevant(
    connection: Connection, recipients: Iterable[RecipientTenant], messages: int
) -> list[RecipientTenant]:
    """Return those with an entry of the rule, or with soft bounces of at least `messages` messages."""
    rows = connection.exec_driver_sql(_RELEVANT, {**_columns(recipients), "messages": messages})
    return [(row.recipient, row.tenant) for row in rows]


def list_bounces(
    connection: Connection, recipients: Iterable[RecipientTenant]
) -> Mapping[RecipientTenant, Sequence[Row[Any]]]:
    """Return the soft bounces of messages that were not delivered later."""
    found: dict[RecipientTenant, list[Row[Any]]] = defaultdict(list)
    for row in connection.exec_driver_sql(_BOUNCES, _columns(recipients)):
        found[row.recipient, row.tenant].append(row)
    return found


def _columns(recipients: Iterable[RecipientTenant]) -> dict[str, Any]:
    ordered = sorted(recipients)
    return {"recipients": [recipient for recipient, _ in ordered], "tenants": [tenant for _, tenant in ordered]}


def get_entries(connection: Connection, keys: Collection[str]) -> Mapping[tuple[str, str], Row[Any]]:
    """Return the entries of the rule by recipient key and tenant."""
    statement = select(suppressions).where(is_any(suppressions.c.key, [UUID(key) for key in keys]), _OF_RULE)
    return {(row.key.hex, row.tenant): row for row in connection.execute(statement)}


def get_lifts(connection: Connection, keys: Collection[str]) -> Mapping[str, Sequence[Row[Any]]]:
    """Return the lifts by people that concern the rule, by recipient key; `tenant` None is all tenants."""
    lifts = suppression_lifts.c
    statement = select(suppression_lifts).where(
        is_any(lifts.key, [UUID(key) for key in keys]),
        or_(lifts.reason.is_(None), lifts.reason == SuppressionReason.SOFT_BOUNCE),
        ~lifts.by_event,
    )
    found: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(statement):
        found[row.key.hex].append(row)
    return found


# Reads the index as `shared.messages.tables.select_by_text` does, for hundreds of recipients at once. Of a mailbox with
# very many messages, the newest are read.
_LAST_DELIVERIES = """
WITH RECURSIVE days (day) AS (
    SELECT max(created_on) FROM recipient_states WHERE recipient <> ''
    UNION ALL
    SELECT (SELECT max(created_on) FROM recipient_states WHERE recipient <> '' AND created_on < day)
    FROM days WHERE day IS NOT NULL
)
SELECT DISTINCT ON (named.recipient) named.recipient, delivered.status_at AS at, delivered.status_event_id AS event_id
FROM unnest(%(recipients)s::text[]) AS named (recipient) CROSS JOIN LATERAL (
    SELECT of_day.message_id FROM days CROSS JOIN LATERAL (
        SELECT message_id FROM recipient_states WHERE created_on = day
            AND hashtext(recipient) = hashtext(named.recipient) AND recipient = named.recipient AND recipient <> ''
        OFFSET 0
    ) AS of_day LIMIT %(limit)s
) AS of_recipient
JOIN recipient_states AS delivered ON delivered.message_id = of_recipient.message_id
    AND delivered.recipient IN (named.recipient, '') AND delivered.status = 'delivered'
ORDER BY named.recipient, delivered.status_at DESC, delivered.status_event_id
"""


def get_last_deliveries(connection: Connection, recipients: Collection[str]) -> Mapping[str, Row[Any]]:
    """Return the last delivery to each recipient, of any tenant's mail: `at` and `event_id`."""
    values = {"recipients": sorted(recipients), "limit": _MAX_MESSAGES_READ}
    return {row.recipient: row for row in connection.exec_driver_sql(_LAST_DELIVERIES, values)}


# An entry that is over before it is known is stored silently: it makes the next period longer.
_WRITE = f"""
WITH input AS MATERIALIZED (SELECT {unnest(("id", *SoftBounceEntry._fields))}),
written AS (
    INSERT INTO suppressions AS s (key, tenant, reason, origin, id, address, types, classification, source_id, since,
        until, expired_at, evidence_event_id, evidence_key, level, created_at)
    SELECT key, tenant, '{SuppressionReason.SOFT_BOUNCE}', '{SuppressionOrigin.EVENT}', id, address,
        string_to_array(types, ','),
        classification, source_id, since, until, CASE WHEN until <= %(now)s THEN %(now)s END, event_id, event_key,
        level, %(now)s
    FROM input ORDER BY key, tenant
    ON CONFLICT (key, tenant, reason, origin) DO UPDATE SET
        id = {ENTRY_ID},
        created_at = CASE WHEN s.until <= %(now)s THEN excluded.created_at ELSE s.created_at END,
        expired_at = CASE WHEN excluded.until <= %(now)s THEN s.expired_at END,
        address = excluded.address, types = excluded.types, classification = excluded.classification,
        source_id = excluded.source_id, since = excluded.since, until = excluded.until, level = excluded.level,
        evidence_event_id = excluded.evidence_event_id, evidence_key = excluded.evidence_key
    RETURNING s.*
),
changed AS (
    SELECT *, {ENTRY_JSON} FROM written WHERE id = ANY(%(id)b::uuid[]) AND (until IS NULL OR until > %(now)s)
),
again AS (
    INSERT INTO soft_bounce_checks (due_at, recipient, tenant) SELECT %(again_at)s, address, tenant FROM changed
    WHERE address IS NOT NULL
),
{record_changes(SuppressionAction.ADDED)}
SELECT '{SuppressionAction.ADDED}' AS action, entry FROM changed
"""

_REMOVE = f"""
WITH input AS MATERIALIZED (SELECT {unnest(Removal._fields)}),
removed AS (
    DELETE FROM suppressions AS s USING input
    WHERE s.key = input.key AND s.tenant = input.tenant AND s.address IS NOT NULL
        AND {BY_SOFT_BOUNCES}
    RETURNING s.*, input.action, input.event_id
),
changed AS (SELECT *, {ENTRY_JSON} FROM removed WHERE expired_at IS NULL),
{record_changes("changed.action", actor="NULL", note="NULL", event="changed.event_id")}
SELECT action, entry FROM changed
"""


def write_entries(
    connection: Connection, entries: Sequence[SoftBounceEntry], now: datetime, again_at: datetime
) -> Changes:
    """Write entries; return those that now suppress other mail or another time.

    Their recipients are evaluated again at `again_at`: a batch that stores a delivery at this moment has not seen the
    entry, nor has the evaluation seen the delivery.
    """
    if not entries:
        return []
    values = {**arrays(entries), "id": [ids.receipt_id(now) for _ in entries], "now": now, "again_at": again_at}
    return connection.exec_driver_sql(_WRITE, values).all()


def remove_entries(connection: Connection, removals: Sequence[Removal], now: datetime) -> Changes:
    """Remove entries; return those that had not expired."""
    return connection.exec_driver_sql(_REMOVE, {**arrays(removals), "now": now}).all() if removals else []
