"""What events say about whom to suppress: hard bounces, complaints, unsubscriptions, and subscribing again.

The rule is that of `shared.suppression.policy.fold`, in SQL; a test proves that the two agree. Only an event that is
kept is evidence, so that a repetition says nothing. The caller holds the locks of `shared.suppression.locks`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.suppression import recipient_hashes
from shared.suppression.history import ID, SHOWN, Action, telling
from shared.vocabulary import SuppressionOrigin, SuppressionReason


class Evidence(NamedTuple):
    """An event that suppresses its recipient; a tuple, because a batch is turned from rows into columns.

    `key` (of the recipient) and `event_key` are 32 hex digits; `types` are separated by commas; `until` None for good.
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
    """A recipient who subscribed again: their unsubscriptions from before count no more."""

    key: str
    tenant: str
    at: datetime
    event_id: UUID
    event_key: str


class Told(NamedTuple):
    """A suppression that came or went; `shown` is the entry as subscribers get it."""

    action: str
    shown: Mapping[str, Any]


class Support(NamedTuple):
    """By what an entry stands: `event_key` is that of its evidence."""

    key: str
    tenant: str
    reason: str
    event_key: str


class KeptEvent(NamedTuple):
    """An event that is kept, as far as suppression needs it."""

    id: UUID
    key: str
    type: str
    source_id: int
    message_id: str
    recipient: str | None
    tenant: str | None
    occurred_at: datetime
    received_at: datetime
    classification: str | None


_TYPES = {
    **dict.fromkeys({*Evidence._fields, *Resubscription._fields, *Support._fields}, "text"),
    **dict.fromkeys(("id", "key", "event_id", "event_key"), "uuid"),
    **dict.fromkeys(("since", "until", "at"), "timestamptz"),
    "source_id": "bigint",
}


def _input(names: Sequence[str]) -> str:
    return ", ".join(f"unnest(%({name})b::{_TYPES[name]}[]) AS {name}" for name in names)


def _turn(row: str) -> str:
    """Of what holds equally long the least of these holds: the first event, but of unsubscriptions the last."""
    seconds = f"extract(epoch FROM {row}.since)"
    return f"CASE {row}.reason WHEN '{SuppressionReason.UNSUBSCRIBE}' THEN -{seconds} ELSE {seconds} END"


def _end(row: str) -> str:
    return f"coalesce({row}.until, 'infinity')"


_NEWER_READING = """s.evidence_key = excluded.evidence_key AND (s.types, s.since, s.until, s.classification,
    s.evidence_event_id) IS DISTINCT FROM (excluded.types, excluded.since, excluded.until, excluded.classification,
    excluded.evidence_event_id)"""

_HOLDS = f"""({_end("excluded")} > {_end("s")} OR {_end("excluded")} = {_end("s")}
    AND ({_turn("excluded")}, excluded.evidence_key) < ({_turn("s")}, s.evidence_key) OR {_NEWER_READING})"""
"""Whether what arrives (`excluded`) holds instead of what is stored (`s`)."""

_TAKEN = ("address", "types", "classification", "source_id", "since", "until", "evidence_event_id", "evidence_key")

_RECORD = f"""
WITH input AS MATERIALIZED (SELECT {_input(("id", *Evidence._fields))}),
best AS MATERIALIZED (
    SELECT DISTINCT ON (input.key, input.tenant, input.reason) input.* FROM input
    JOIN event_keys AS k ON k.key = input.event_key AND k.event_id = input.event_id
    WHERE {_end("input")} > %(now)s AND NOT EXISTS (
        SELECT FROM suppression_lifts AS l WHERE l.key = input.key AND (l.tenant IS NULL OR l.tenant = input.tenant)
            AND (l.reason IS NULL OR l.reason = input.reason)
            AND (input.since < l.lifted_at OR input.since = l.lifted_at AND NOT l.by_event)
    )
    ORDER BY input.key, input.tenant, input.reason, {_end("input")} DESC, {_turn("input")}, event_key
),
risen AS (
    INSERT INTO suppressions AS s (key, tenant, reason, origin, id, address, types, classification, source_id, since,
        until, evidence_event_id, evidence_key, created_at)
    SELECT key, tenant, reason, '{SuppressionOrigin.EVENT}', id, address, string_to_array(types, ','),
        classification, source_id,
        since, until, event_id, event_key, %(now)s
    FROM best ORDER BY key, tenant, reason
    ON CONFLICT (key, tenant, reason, origin) DO UPDATE SET
        id = {ID},
        created_at = CASE WHEN s.until <= %(now)s THEN excluded.created_at ELSE s.created_at END,
        expired_at = NULL, {", ".join(f"{name} = excluded.{name}" for name in _TAKEN)}
    WHERE {_HOLDS}
    RETURNING s.*
),
told AS (SELECT *, {SHOWN} FROM risen WHERE id = ANY(%(id)b::uuid[])),
{telling(Action.ADDED)}
SELECT '{Action.ADDED}', shown FROM told
"""

_RESUBSCRIBE = f"""
WITH input AS MATERIALIZED (SELECT {_input(Resubscription._fields)}),
latest AS MATERIALIZED (
    SELECT DISTINCT ON (input.key, input.tenant) input.* FROM input
    JOIN event_keys AS k ON k.key = input.event_key AND k.event_id = input.event_id
    ORDER BY input.key, input.tenant, at DESC, event_key
),
noted AS (
    INSERT INTO suppression_lifts AS l (key, tenant, reason, by_event, lifted_at)
    SELECT key, tenant, '{SuppressionReason.UNSUBSCRIBE}', true, at FROM latest ORDER BY key, tenant
    ON CONFLICT (key, tenant, reason, by_event) DO UPDATE SET lifted_at = greatest(l.lifted_at, excluded.lifted_at)
),
gone AS (
    DELETE FROM suppressions AS s USING latest
    WHERE s.key = latest.key AND s.tenant = latest.tenant AND s.reason = '{SuppressionReason.UNSUBSCRIBE}'
        AND s.since < latest.at
    RETURNING s.*, latest.event_id AS lifted_by
),
told AS (SELECT *, {SHOWN} FROM gone WHERE expired_at IS NULL),
{telling(Action.LIFTED, actor="NULL", note="NULL", event="told.lifted_by")}
SELECT '{Action.LIFTED}', shown FROM told
"""

_WITHDRAW = f"""
WITH input AS (SELECT {_input(Support._fields)}),
gone AS (
    DELETE FROM suppressions AS s USING input
    WHERE s.key = input.key AND s.tenant = input.tenant AND s.reason = input.reason
        AND s.origin = '{SuppressionOrigin.EVENT}'
        AND s.evidence_key = input.event_key
    RETURNING s.*
),
told AS (SELECT *, {SHOWN} FROM gone WHERE expired_at IS NULL),
{telling(Action.WITHDRAWN)}
SELECT '{Action.WITHDRAWN}', shown FROM told
"""

_OF_RECEIPT = f"""
SELECT key, tenant, reason, evidence_key, address FROM suppressions
WHERE evidence_event_id > %(first)s AND evidence_event_id <= %(last)s AND origin = '{SuppressionOrigin.EVENT}'
    AND reason <> '{SuppressionReason.SOFT_BOUNCE}'
"""

_KEPT = """
SELECT e.id, e.key, e.type, e.source_id, e.message_id, e.recipient, e.data->>'tenant', e.occurred_at, e.received_at,
    e.classification
FROM events AS e
"""


def record(connection: Connection, found: Sequence[Evidence], now: datetime) -> list[Told]:
    """Let these events suppress whom they suppress; return what is new by it."""
    if not found:
        return []
    values = {**_columns(found), "id": [ids.receipt_id(now) for _ in found], "now": now}
    # An event whose address was erased names a pseudonym, which is nobody's address: its key is all that is kept.
    values["address"] = [None if recipient_hashes.key_of(new.address) else new.address for new in found]
    return _told(connection, _RECORD, values)


def resubscribe(connection: Connection, found: Sequence[Resubscription], now: datetime) -> list[Told]:
    """End the unsubscriptions that came before these; return what ended."""
    return _told(connection, _RESUBSCRIBE, {**_columns(found), "now": now}) if found else []


def withdraw(connection: Connection, supports: Collection[Support], now: datetime) -> list[Told]:
    """Take away entries whose evidence was none; return what ended."""
    return _told(connection, _WITHDRAW, {**_columns(sorted(supports)), "now": now}) if supports else []


def forget_resubscriptions(connection: Connection, keys: Collection[str]) -> None:
    """Let nobody have subscribed again; the caller records again who did."""
    connection.exec_driver_sql(
        "DELETE FROM suppression_lifts WHERE by_event AND key = ANY(%(keys)s::uuid[])", {"keys": sorted(keys)}
    )


def of_receipt(connection: Connection, first: UUID, last: UUID) -> dict[Support, str | None]:
    """The entries whose evidence is one of these events, and their addresses; not those of several soft bounces."""
    rows = connection.exec_driver_sql(_OF_RECEIPT, {"first": first, "last": last})
    return {Support(row[0].hex, row[1], row[2], row[3].hex): row[4] for row in rows}


def kept_of_recipients(connection: Connection, recipients: Collection[str], kinds: Collection[str]) -> list[KeptEvent]:
    """The events of these kinds that are kept of these recipients. Reads all messages that they ever had."""
    joined = "JOIN recipient_states AS r ON r.message_id = e.message_id AND r.recipient = e.recipient"
    chosen = "r.recipient = ANY(%(recipients)s)"
    return _kept(connection, f"{joined} WHERE {chosen}", kinds, recipients=sorted(recipients))


def kept_of_messages(connection: Connection, messages: Collection[str], kinds: Collection[str]) -> list[KeptEvent]:
    """The events of these kinds that are kept of these messages (32 hex digits each), and name a recipient."""
    chosen = "e.message_id = ANY(%(messages)s::uuid[]) AND e.recipient IS NOT NULL"
    return _kept(connection, f"WHERE {chosen}", kinds, messages=sorted(messages))


def kept_of_receipt(connection: Connection, first: UUID, last: UUID, kinds: Collection[str]) -> list[KeptEvent]:
    """The events of these kinds between these ids that belong to a message."""
    chosen = "e.id > %(first)s AND e.id <= %(last)s AND e.message_id IS NOT NULL"
    return _kept(connection, f"WHERE {chosen}", kinds, first=first, last=last)


def _kept(connection: Connection, chosen: str, kinds: Collection[str], **values: object) -> list[KeptEvent]:
    rows = connection.exec_driver_sql(
        f"{_KEPT} {chosen} AND e.type = ANY(%(kinds)s) ORDER BY e.id", {**values, "kinds": sorted(kinds)}
    )
    return [KeptEvent(row[0], row[1].hex, row[2], row[3], row[4].hex, *row[5:]) for row in rows]


def _told(connection: Connection, statement: str, values: Mapping[str, object]) -> list[Told]:
    return [Told(*row) for row in connection.exec_driver_sql(statement, dict(values))]


def _columns(rows: Sequence[NamedTuple]) -> dict[str, list[object]]:
    return dict(zip(rows[0]._fields, map(list, zip(*rows, strict=True)), strict=True))
