"""Soft bounces, which suppress only when there are several in a row: kept by message, and judged a moment later.

A batch appends what it heard and whom to judge; it waits for nobody. The judging is done by one transaction at a time.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.suppression.policy import SoftBounce
from shared.vocabulary import SuppressionOrigin, SuppressionReason

Place = tuple[str, str]
"""A recipient and a tenant, '' for all."""

BY_SOFT_BOUNCES = f"s.reason = '{SuppressionReason.SOFT_BOUNCE}' AND s.origin = '{SuppressionOrigin.EVENT}'"
"""The entries `s` that this rule has made."""

_ALONE = 0x71D1468


class Heard(NamedTuple):
    """One soft bounce; a tuple, because a batch is turned from rows into columns. `event_key` is 32 hex digits."""

    recipient: str
    tenant: str
    message_id: str
    source_id: int
    at: datetime
    event_id: UUID
    event_key: str
    classification: str | None


class Bounced(NamedTuple):
    """A message's soft bounces, and what to know of the event that may turn out to be the evidence, by its key."""

    bounce: SoftBounce
    source_id: int
    classification: str | None
    event_ids: Mapping[str, UUID]


_TYPES = {
    **dict.fromkeys(Heard._fields, "text"),
    **dict.fromkeys(("message_id", "event_id", "event_key"), "uuid"),
    "source_id": "bigint",
    "at": "timestamptz",
}
_INPUT = ", ".join(f"unnest(%({name})b::{type_}[]) AS {name}" for name, type_ in _TYPES.items())

_FIRST = "(excluded.first_at, excluded.first_key) < (b.first_at, b.first_key)"
_LAST = "(excluded.last_at, excluded.last_key) > (b.last_at, b.last_key)"


def _first(name: str) -> str:
    return f"(array_agg({name} ORDER BY at, event_key))[1]"


def _last(name: str) -> str:
    return f"(array_agg({name} ORDER BY at DESC, event_key DESC))[1]"


def _taken(condition: str, *names: str) -> str:
    return ", ".join(f"{name} = CASE WHEN {condition} THEN excluded.{name} ELSE b.{name} END" for name in names)


_NOTE = f"""
WITH input AS MATERIALIZED (SELECT {_INPUT}),
kept AS MATERIALIZED (
    SELECT input.* FROM input JOIN event_keys AS k ON k.key = input.event_key AND k.event_id = input.event_id
),
noted AS (
    INSERT INTO soft_bounces AS b (recipient, tenant, message_id, source_id, first_at, first_key, first_event_id,
        last_at, last_key, last_event_id, classification)
    SELECT recipient, tenant, message_id, min(source_id), {_first("at")}, {_first("event_key")}, {_first("event_id")},
        {_last("at")}, {_last("event_key")}, {_last("event_id")}, {_first("classification")}
    FROM kept GROUP BY recipient, tenant, message_id ORDER BY recipient, tenant, message_id
    ON CONFLICT (recipient, tenant, message_id) DO UPDATE SET
        {_taken(_FIRST, "first_at", "first_key", "first_event_id", "classification")},
        {_taken(_LAST, "last_at", "last_key", "last_event_id")}
    WHERE {_FIRST} OR {_LAST}
)
INSERT INTO soft_bounce_checks (due_at, recipient, tenant) SELECT DISTINCT %(now)s, recipient, tenant FROM kept
"""

# Who is suppressed by this rule and gets mail after all. An index of those few tells.
_WAKE = f"""
INSERT INTO soft_bounce_checks (due_at, recipient, tenant)
SELECT DISTINCT %(now)s, address, tenant FROM unnest(%(recipients)b::text[]) AS named (address)
JOIN suppressions AS s USING (address) WHERE {BY_SOFT_BOUNCES}
"""

# A delivery that names nobody holds for all recipients of its message.
_WAKE_BY_MESSAGE = f"""
INSERT INTO soft_bounce_checks (due_at, recipient, tenant)
SELECT DISTINCT %(now)s, s.address, s.tenant
FROM recipient_states AS r JOIN suppressions AS s ON s.address = r.recipient
WHERE r.message_id = ANY(%(messages)s::uuid[]) AND r.recipient <> '' AND {BY_SOFT_BOUNCES}
"""

# A part of them every hour, so that each has its turn once a day.
_REVIEW = f"""
INSERT INTO soft_bounce_checks (due_at, recipient, tenant)
SELECT %(now)s, address, tenant FROM suppressions AS s
WHERE {BY_SOFT_BOUNCES} AND (until IS NULL OR until > %(now)s) AND address IS NOT NULL
    AND (hashtext(address) & 1023) %% 24 = extract(hour FROM %(now)s::timestamptz)
"""

_TAKE = """
WITH due AS MATERIALIZED (
    SELECT due_at, id FROM soft_bounce_checks WHERE due_at <= %(now)s ORDER BY due_at, id LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM soft_bounce_checks AS c USING due WHERE (c.due_at, c.id) = (due.due_at, due.id)
RETURNING c.recipient, c.tenant
"""

# Nearly everybody who is looked at has had one or two soft bounces, and mail since.
_CONCERNED = f"""
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

# What was delivered after all, in its own name or in that of its whole message, is no bounce any more.
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

# Whoever is suppressed keeps the bounces that made it so: how long the next term is depends on them.
_TRIM = f"""
DELETE FROM soft_bounces AS b WHERE first_at < %(oldest)s AND last_at < %(oldest)s AND NOT EXISTS (
    SELECT FROM suppressions AS s WHERE s.address = b.recipient AND s.tenant = b.tenant AND {BY_SOFT_BOUNCES}
        AND b.first_at <= s.since
)
"""


def note(connection: Connection, heard: Sequence[Heard], now: datetime) -> None:
    """Keep these soft bounces, and have their recipients judged. Only events that are kept count."""
    if heard:
        columns = dict(zip(Heard._fields, map(list, zip(*heard, strict=True)), strict=True))
        connection.exec_driver_sql(_NOTE, {**columns, "now": now})


def wake(connection: Connection, recipients: Collection[str], messages: Collection[str], now: datetime) -> None:
    """Have those judged to whom mail was delivered, by name or as recipients of a message, if this rule holds them."""
    if recipients:
        connection.exec_driver_sql(_WAKE, {"recipients": list(recipients), "now": now})
    if messages:
        connection.exec_driver_sql(_WAKE_BY_MESSAGE, {"messages": list(messages), "now": now})


def check(connection: Connection, places: Iterable[Place], now: datetime) -> None:
    """Have these judged."""
    recipients, tenants = _columns(places)
    connection.exec_driver_sql(
        "INSERT INTO soft_bounce_checks (due_at, recipient, tenant)"
        " SELECT %(now)s, recipient, tenant FROM unnest(%(recipients)s::text[], %(tenants)s::text[])"
        " AS named (recipient, tenant)",
        {"recipients": recipients, "tenants": tenants, "now": now},
    )


def review(connection: Connection, now: datetime) -> int:
    """Have those judged anew whose hour it is of those whom this rule suppresses; return how many.

    Most of what bears on them has them judged at once. What cannot be told so easily waits for this: that a message
    which was delivered to all its recipients had them among these; that the rules have changed.
    """
    return connection.exec_driver_sql(_REVIEW, {"now": now}).rowcount


def forget(connection: Connection, recipients: Collection[str], messages: Collection[str]) -> None:
    """Take away what is known of these recipients' soft bounces of these messages."""
    connection.exec_driver_sql(
        "DELETE FROM soft_bounces WHERE recipient = ANY(%(recipients)s) AND message_id = ANY(%(messages)s::uuid[])",
        {"recipients": sorted(recipients), "messages": sorted(messages)},
    )


def known(connection: Connection, recipients: Collection[str], messages: Collection[str]) -> set[Place]:
    """Of these recipients, and of those of these messages, whoever has soft bounces."""
    rows = connection.exec_driver_sql(
        "SELECT DISTINCT recipient, tenant FROM soft_bounces WHERE recipient = ANY(%(recipients)s) OR recipient = ANY("
        "ARRAY(SELECT recipient FROM recipient_states WHERE message_id = ANY(%(messages)s::uuid[])))",
        {"recipients": sorted(recipients), "messages": sorted(messages)},
    )
    return {(row[0], row[1]) for row in rows}


def alone(connection: Connection) -> bool:
    """Whether this is the only transaction that judges, until it ends; otherwise leave it to the other."""
    locked = connection.exec_driver_sql("SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": _ALONE}).scalar_one()
    return bool(locked)


def take(connection: Connection, now: datetime, limit: int) -> tuple[int, set[Place]]:
    """Take up to so many checks that are due: their number, and who is to be judged."""
    rows = connection.exec_driver_sql(_TAKE, {"now": now, "limit": limit}).all()
    return len(rows), {(row[0], row[1]) for row in rows}


def concerned(connection: Connection, places: Iterable[Place], messages: int) -> set[Place]:
    """Those of these with so many messages that bounced, or with an entry: on the others no rule has a bearing."""
    recipients, tenants = _columns(places)
    values = {"recipients": recipients, "tenants": tenants, "messages": messages}
    return {(row[0], row[1]) for row in connection.exec_driver_sql(_CONCERNED, values)}


def bounces(connection: Connection, places: Iterable[Place]) -> dict[Place, list[Bounced]]:
    """The soft bounces of messages that were not delivered since."""
    recipients, tenants = _columns(places)
    found: dict[Place, list[Bounced]] = defaultdict(list)
    for row in connection.exec_driver_sql(_BOUNCES, {"recipients": recipients, "tenants": tenants}):
        first_key, last_key = row[3].hex, row[6].hex
        bounce = SoftBounce(first_at=row[2], first_key=first_key, last_at=row[5], last_key=last_key)
        event_ids = {first_key: row[4], last_key: row[7]}
        found[row[0], row[1]].append(Bounced(bounce, row[8], row[9], event_ids))
    return found


def event_ids(connection: Connection, recipient: str, limit: int) -> list[UUID]:
    """The events of a recipient's soft bounces that are kept, the latest first."""
    rows = connection.exec_driver_sql(
        "SELECT first_event_id, last_event_id FROM soft_bounces WHERE recipient = %(recipient)s"
        " ORDER BY last_at DESC LIMIT %(limit)s",
        {"recipient": recipient, "limit": limit},
    )
    return [event_id for row in rows for event_id in row]


def trim(connection: Connection, oldest: datetime) -> int:
    """Let go of soft bounces from before, which no rule asks for any more; return how many."""
    return connection.exec_driver_sql(_TRIM, {"oldest": oldest}).rowcount


def _columns(places: Iterable[Place]) -> tuple[list[str], list[str]]:
    ordered = sorted(places)
    return [place[0] for place in ordered], [place[1] for place in ordered]
