"""How long several soft bounces suppress: what there is, what it depends on, and what it is to be.

Read and written by one transaction at a time (`soft_bounces.alone`), which holds the locks of `suppression_locks` too.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.suppression import recipient_hashes
from shared.suppression.evidence import Told
from shared.suppression.history import ID, SHOWN, Action, telling
from shared.suppression.policy import Term
from shared.suppression.soft_bounce_store import BY_SOFT_BOUNCES
from shared.vocabulary import MailType, SuppressionOrigin, SuppressionReason

_MOST_DELIVERIES_READ = 50_000


class Standing(NamedTuple):
    """The entry that there is. `erased`: it is known by its key alone."""

    term: Term
    types: frozenset[str]
    erased: bool


class Worked(NamedTuple):
    """When a mailbox was last known to take mail, and by which event; nobody knows that of a person's lift."""

    at: datetime
    event_id: UUID | None


class Ruling(NamedTuple):
    """An entry as it is to be, in place of what there is."""

    key: str
    tenant: str
    address: str
    term: Term
    types: frozenset[MailType]
    source_id: int
    classification: str | None
    event_id: UUID


class Reversal(NamedTuple):
    """An entry that is to go: lifted by a delivery, or withdrawn because it never should have been."""

    key: str
    tenant: str
    action: Action
    event_id: UUID | None


_TYPES = {
    **dict.fromkeys(("tenant", "address", "types", "classification", "action"), "text"),
    **dict.fromkeys(("id", "key", "event_id", "event_key"), "uuid"),
    **dict.fromkeys(("since", "until"), "timestamptz"),
    "source_id": "bigint",
    "level": "smallint",
}


def _input(*names: str) -> str:
    return ", ".join(f"unnest(%({name})b::{_TYPES[name]}[]) AS {name}" for name in names)


_ENTRIES = f"""
SELECT key, tenant, since, until, level, evidence_key, types, address IS NULL
FROM unnest(%(keys)s::uuid[], %(tenants)s::text[]) AS named (key, tenant)
JOIN suppressions AS s USING (key, tenant) WHERE {BY_SOFT_BOUNCES}
"""

_LIFTS = f"""
SELECT named.key, named.tenant, max(l.lifted_at)
FROM unnest(%(keys)s::uuid[], %(tenants)s::text[]) AS named (key, tenant)
JOIN suppression_lifts AS l ON l.key = named.key AND (l.tenant IS NULL OR l.tenant = named.tenant)
WHERE (l.reason IS NULL OR l.reason = '{SuppressionReason.SOFT_BOUNCE}') AND NOT l.by_event GROUP BY named.key,
    named.tenant
"""

# Message ids are hashes, so that of a mailbox with very many messages a fair sample is read.
_DELIVERIES = """
SELECT DISTINCT ON (named.recipient) named.recipient, told.status_at, told.status_event_id
FROM unnest(%(recipients)s::text[]) AS named (recipient) CROSS JOIN LATERAL (
    SELECT message_id FROM recipient_states WHERE recipient = named.recipient AND recipient <> '' LIMIT %(most)s
) AS of_recipient
JOIN recipient_states AS told ON told.message_id = of_recipient.message_id AND told.recipient IN (named.recipient, '')
    AND told.status = 'delivered'
ORDER BY named.recipient, told.status_at DESC, told.status_event_id
"""

_RULED = ("id", "key", "tenant", "address", "types", "source_id", "classification", "since", "until", "event_id",
          "event_key", "level")  # fmt: skip

# What is over before it was known is kept silently: it makes the next term longer.
_RULE = f"""
WITH input AS MATERIALIZED (SELECT {_input(*_RULED)}),
risen AS (
    INSERT INTO suppressions AS s (key, tenant, reason, origin, id, address, types, classification, source_id, since,
        until, expired_at, evidence_event_id, evidence_key, level, created_at)
    SELECT key, tenant, '{SuppressionReason.SOFT_BOUNCE}', '{SuppressionOrigin.EVENT}', id, address,
        string_to_array(types, ','),
        classification, source_id, since, until, CASE WHEN until <= %(now)s THEN %(now)s END, event_id, event_key,
        level, %(now)s
    FROM input ORDER BY key, tenant
    ON CONFLICT (key, tenant, reason, origin) DO UPDATE SET
        id = {ID},
        created_at = CASE WHEN s.until <= %(now)s THEN excluded.created_at ELSE s.created_at END,
        expired_at = CASE WHEN excluded.until <= %(now)s THEN s.expired_at END,
        address = excluded.address, types = excluded.types, classification = excluded.classification,
        source_id = excluded.source_id, since = excluded.since, until = excluded.until, level = excluded.level,
        evidence_event_id = excluded.evidence_event_id, evidence_key = excluded.evidence_key
    RETURNING s.*
),
told AS (
    SELECT *, {SHOWN} FROM risen WHERE id = ANY(%(id)b::uuid[]) AND (until IS NULL OR until > %(now)s)
),
again AS (
    INSERT INTO soft_bounce_checks (due_at, recipient, tenant) SELECT %(again_at)s, address, tenant FROM told
    WHERE address IS NOT NULL
),
{telling(Action.ADDED)}
SELECT '{Action.ADDED}', shown FROM told
"""

_REVERSE = f"""
WITH input AS MATERIALIZED (SELECT {_input("key", "tenant", "action", "event_id")}),
gone AS (
    DELETE FROM suppressions AS s USING input
    WHERE s.key = input.key AND s.tenant = input.tenant AND s.address IS NOT NULL
        AND {BY_SOFT_BOUNCES}
    RETURNING s.*, input.action, input.event_id
),
told AS (SELECT *, {SHOWN} FROM gone WHERE expired_at IS NULL),
{telling("told.action", actor="NULL", note="NULL", event="told.event_id")}
SELECT action, shown FROM told
"""


def standings(connection: Connection, keys: Sequence[str], tenants: Sequence[str]) -> dict[tuple[str, str], Standing]:
    """The entries that there are by this rule, by the recipient's key and the tenant."""
    rows = connection.exec_driver_sql(_ENTRIES, {"keys": keys, "tenants": tenants})
    return {
        (row[0].hex, row[1]): Standing(
            Term(since=row[2], until=row[3], level=row[4], key=row[5].hex), frozenset(row[6]), row[7]
        )
        for row in rows
    }


def lifts(connection: Connection, keys: Sequence[str], tenants: Sequence[str]) -> dict[tuple[str, str], datetime]:
    """When a person last lifted what this rule gives, by the recipient's key and the tenant."""
    rows = connection.exec_driver_sql(_LIFTS, {"keys": keys, "tenants": tenants})
    return {(row[0].hex, row[1]): row[2] for row in rows}


def deliveries(connection: Connection, recipients: Collection[str]) -> dict[str, Worked]:
    """The last delivery to each, of any tenant's mail: it shows that the mailbox works."""
    values = {"recipients": sorted(recipients), "most": _MOST_DELIVERIES_READ}
    return {row[0]: Worked(row[1], row[2]) for row in connection.exec_driver_sql(_DELIVERIES, values)}


def rule(connection: Connection, rulings: Sequence[Ruling], now: datetime, again_at: datetime) -> list[Told]:
    """Make the entries so; return those that now hold for other mail or another time.

    Their recipients are judged once more at `again_at`: a delivery that was being written at this moment has not
    seen the entry, nor has the judging seen it.
    """
    if not rulings:
        return []
    columns: dict[str, object] = {
        name: [getattr(ruling, name) for ruling in rulings]
        for name in ("key", "tenant", "source_id", "classification", "event_id")
    }
    # As with other evidence: of whoever was erased the key is all that is kept.
    columns["address"] = [None if recipient_hashes.key_of(ruling.address) else ruling.address for ruling in rulings]
    columns |= {name: [getattr(ruling.term, name) for ruling in rulings] for name in ("since", "until", "level")}
    columns["event_key"] = [ruling.term.key for ruling in rulings]
    columns["types"] = [",".join(sorted(ruling.types)) for ruling in rulings]
    columns["id"] = [ids.receipt_id(now) for _ in rulings]
    rows = connection.exec_driver_sql(_RULE, {**columns, "now": now, "again_at": again_at})
    return [Told(*row) for row in rows]


def reverse(connection: Connection, reversals: Sequence[Reversal], now: datetime) -> list[Told]:
    """Take these entries away; return those whose end had not been announced."""
    if not reversals:
        return []
    columns = dict(zip(Reversal._fields, map(list, zip(*reversals, strict=True)), strict=True))
    return [Told(*row) for row in connection.exec_driver_sql(_REVERSE, {**columns, "now": now})]
