"""Erasing an address: where it may stand, and how it is replaced there.

Receipts, events and messages are found by what they say; the recipient's own rows by his address; everything else
is gone through by `shared.db.erasure_sweeps`. What an eraser makes of a text is decided in `shared.domain.erasure`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.domain.erasure import Eraser
from shared.messages import rebuild
from shared.suppression import locks as suppression_locks
from shared.suppression.history import Action

_LAST_EVENT = (1 << ids.EVENTS_PER_RECEIPT_BITS) - 1


class KeptReceipt(NamedTuple):
    """A stored request, as far as an address may stand in it."""

    id: UUID
    source_id: int
    received_at: datetime
    idempotency_key: str | None
    headers: str
    body: bytes


class KeptEvent(NamedTuple):
    """An event, as far as an address may stand in it; `key` is 32 hex digits."""

    id: UUID
    key: str
    message_id: UUID | None
    recipient: str | None
    reason: str | None
    data: str
    provider_object: str


class Renamed(NamedTuple):
    """An event that is known by another key, because that is made of what was replaced."""

    event_id: UUID
    message_id: UUID | None
    recipient: str
    old: str
    new: str


_RECEIPT = "id, source_id, received_at, idempotency_key, headers::text, body"

# Bounded by bytes as well as by rows: bodies may be large.
_SLICE = f"""
SELECT {_RECEIPT} FROM receipts WHERE id IN (
    SELECT id FROM (
        SELECT id, bytes, sum(bytes) OVER (ORDER BY id) AS total FROM (
            SELECT id, length(body) AS bytes FROM receipts WHERE id > %(after)s AND id < %(until)s
            ORDER BY id LIMIT %(limit)s
        ) AS next
    ) AS summed WHERE total - bytes < %(most_bytes)s
) ORDER BY id
"""

_MESSAGE_TEXTS = (
    "provider_message_id", "request_id", "smtp_id", "sender", "subject", "tenant", "tag", "campaign"
)  # fmt: skip
_STATE_TEXTS = ("smtp_id", "reason")


def receipts_after(
    connection: Connection, after: UUID, until: UUID, *, limit: int, most_bytes: int
) -> list[KeptReceipt]:
    """Some receipts that follow this id and come before the other, in their order."""
    values = {"after": after, "until": until, "limit": limit, "most_bytes": most_bytes}
    return [KeptReceipt(*row) for row in connection.exec_driver_sql(_SLICE, values)]


def hold(connection: Connection, receipt_ids: Sequence[UUID]) -> list[KeptReceipt]:
    """These receipts, kept from everybody else until the transaction ends.

    A worker that has one in its hands has read the address already: it loses its lease, writes nothing of it, and
    another reads it again. One that is just writing is waited for.
    """
    values = {"ids": list(receipt_ids)}
    connection.exec_driver_sql(
        "SELECT 1 FROM pending_receipts WHERE receipt_id = ANY(%(ids)s) ORDER BY receipt_id FOR UPDATE", values
    )
    connection.exec_driver_sql(
        "UPDATE pending_receipts SET lease_token = NULL, lease_until = NULL,"
        " attempts = attempts - (lease_until > now())::integer"
        " WHERE receipt_id = ANY(%(ids)s) AND lease_token IS NOT NULL AND lease_until IS NOT NULL",
        values,
    )
    rows = connection.exec_driver_sql(
        f"SELECT {_RECEIPT} FROM receipts WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE", values
    )
    return [KeptReceipt(*row) for row in rows]


def write_receipt(connection: Connection, receipt: KeptReceipt, now: datetime) -> None:
    """Store a receipt whose texts were replaced, and mark it: its bytes are no longer what was signed."""
    values = {**receipt._asdict(), "bytes": len(receipt.body), "now": now}
    connection.exec_driver_sql(
        "UPDATE receipts SET idempotency_key = %(idempotency_key)s, headers = %(headers)s::json, body = %(body)b"
        " WHERE id = %(id)s",
        values,
    )
    for table in ("pending_receipts", "parked_receipts"):
        connection.exec_driver_sql(f"UPDATE {table} SET bytes = %(bytes)s WHERE receipt_id = %(id)s", values)
    connection.exec_driver_sql(
        "INSERT INTO erased_receipts VALUES (%(id)s, %(now)s)"
        " ON CONFLICT (receipt_id) DO UPDATE SET erased_at = excluded.erased_at",
        values,
    )


def events_of(connection: Connection, receipt_id: UUID) -> list[KeptEvent]:
    """The events that a receipt brought."""
    rows = connection.exec_driver_sql(
        "SELECT id, key, message_id, recipient, reason, data::text, provider_object::text FROM events"
        " WHERE id > %(first)s AND id <= %(last)s ORDER BY id",
        {"first": receipt_id, "last": UUID(int=receipt_id.int + _LAST_EVENT)},
    )
    return [KeptEvent(row[0], row[1].hex, *row[2:]) for row in rows]


def write_events(connection: Connection, events: Sequence[KeptEvent]) -> None:
    """Store events whose texts were replaced."""
    if events:
        columns = dict(zip(KeptEvent._fields, map(list, zip(*events, strict=True)), strict=True))
        connection.exec_driver_sql(
            "UPDATE events AS e SET key = n.key, recipient = n.recipient, reason = n.reason, data = n.data::json,"
            " provider_object = n.provider_object::json"
            " FROM unnest(%(id)b::uuid[], %(key)b::uuid[], %(recipient)b::text[], %(reason)b::text[],"
            " %(data)b::text[], %(provider_object)b::text[]) AS n (id, key, recipient, reason, data, provider_object)"
            " WHERE e.id = n.id",
            columns,
        )


def rename_keys(connection: Connection, renamed: Sequence[Renamed]) -> None:
    """Know these events by their new keys wherever they are spoken of.

    By the old ones they are known as well: what the provider sends again is a repetition still.
    """
    if not renamed:
        return
    columns = dict(zip(Renamed._fields, map(list, zip(*renamed, strict=True)), strict=True))
    given = (
        "unnest(%(event_id)b::uuid[], %(message_id)b::uuid[], %(recipient)b::text[], %(old)b::uuid[], %(new)b::uuid[])"
        " AS n (event_id, message_id, recipient, old, new)"
    )
    connection.exec_driver_sql(
        f"INSERT INTO event_keys (key, event_id) SELECT new, event_id FROM {given} ORDER BY new ON CONFLICT DO NOTHING",
        columns,
    )
    connection.exec_driver_sql(
        f"UPDATE suppressions AS s SET evidence_key = n.new FROM {given}"
        " WHERE s.evidence_event_id = n.event_id AND s.evidence_key = n.old",
        columns,
    )
    connection.exec_driver_sql(
        f"UPDATE recipient_states AS s SET status_key = n.new FROM {given}"
        " WHERE s.message_id = n.message_id AND s.recipient = n.recipient AND s.status_key = n.old",
        columns,
    )
    for name in ("first", "last"):
        connection.exec_driver_sql(
            f"UPDATE soft_bounces AS s SET {name}_key = n.new FROM {given}"
            f" WHERE s.recipient = n.recipient AND s.message_id = n.message_id AND s.{name}_key = n.old",
            columns,
        )


def messages_to(connection: Connection, address: str, after: UUID, limit: int) -> list[UUID]:
    """Messages that have this recipient, and follow this id."""
    rows = connection.exec_driver_sql(
        "SELECT message_id FROM recipient_states WHERE recipient = %(address)s AND recipient <> ''"
        " AND message_id > %(after)s ORDER BY message_id LIMIT %(limit)s",
        {"address": address, "after": after, "limit": limit},
    )
    return [row[0] for row in rows]


def messages_from(connection: Connection, address: str, limit: int) -> list[UUID]:
    """Some messages that have this sender."""
    rows = connection.exec_driver_sql(
        "SELECT id FROM messages WHERE sender = %(address)s ORDER BY created_at LIMIT %(limit)s",
        {"address": address, "limit": limit},
    )
    return [row[0] for row in rows]


def receipts_about(connection: Connection, address: str, message_ids: Sequence[UUID]) -> list[UUID]:
    """The receipts whose events name this recipient of these messages."""
    rows = connection.exec_driver_sql(
        "SELECT DISTINCT receipt_id FROM events WHERE message_id = ANY(%(ids)s) AND recipient = %(address)s",
        {"ids": list(message_ids), "address": address},
    )
    return [row[0] for row in rows]


def erase_messages(connection: Connection, message_ids: Iterable[UUID], address: str, eraser: Eraser) -> int:
    """Replace the address in these messages and in what became of them; return how many were changed."""
    chosen = sorted(set(message_ids))
    changed = {
        *_rewritten(connection, "messages", ("id",), _MESSAGE_TEXTS, chosen, eraser),
        *_rewritten(connection, "recipient_states", ("message_id", "recipient"), _STATE_TEXTS, chosen, eraser),
    }
    values = {"ids": chosen, "address": address, "pseudonym": eraser.replacement}
    # What has come since he was erased the last time joins what was there then.
    twice = connection.exec_driver_sql(
        "DELETE FROM recipient_states AS s WHERE message_id = ANY(%(ids)s) AND recipient = %(address)s AND EXISTS"
        " (SELECT FROM recipient_states AS o WHERE o.message_id = s.message_id AND o.recipient = %(pseudonym)s)"
        " RETURNING message_id",
        values,
    ).all()
    renamed = connection.exec_driver_sql(
        "UPDATE recipient_states SET recipient = %(pseudonym)s, updated_at = now()"
        " WHERE message_id = ANY(%(ids)s) AND recipient = %(address)s RETURNING message_id",
        values,
    ).all()
    if twice:
        rebuild.fold(connection, [(row[0].hex, eraser.replacement) for row in twice])
    return len(changed | {row[0] for row in (*twice, *renamed)})


def _rewritten(
    connection: Connection,
    table: str,
    keys: Sequence[str],
    texts: Sequence[str],
    message_ids: Sequence[UUID],
    eraser: Eraser,
) -> list[UUID]:
    """Replace what is to be replaced in these columns of rows of these messages; return whose were."""
    rows = connection.exec_driver_sql(
        f"SELECT {', '.join((*keys, *texts))} FROM {table} WHERE {keys[0]} = ANY(%(ids)s) ORDER BY {', '.join(keys)}"
        " FOR UPDATE",
        {"ids": list(message_ids)},
    ).all()
    where = " AND ".join(f"{key} = %({key})s" for key in keys)
    changed = []
    for row in rows:
        before = row._asdict()
        after = {name: eraser.erase(before[name]) for name in texts if before[name] is not None}
        new = {name: text for name, text in after.items() if text != before[name]}
        if new:
            given = ", ".join(f"{name} = %({name})s" for name in new)
            connection.exec_driver_sql(f"UPDATE {table} SET {given} WHERE {where}", {**before, **new})
            changed.append(row[0])
    return changed


def erase_entries(connection: Connection, key: str, address: str, pseudonym: str, actor: str, now: datetime) -> int:
    """Take the address off the suppression list, which keeps the key; return how many entries there were.

    Whoever is just writing of this recipient is waited for: what is written later is news.
    """
    suppression_locks.hold(connection, [key])
    values = {"key": key, "address": address, "pseudonym": pseudonym, "actor": actor, "now": now}
    erased = connection.exec_driver_sql(
        "WITH erased AS (UPDATE suppressions SET address = NULL WHERE key = %(key)s AND address IS NOT NULL"
        " RETURNING *)"
        " INSERT INTO suppression_history (key, tenant, at, action, reason, types, classification, origin, source_id,"
        f" since, until, level, event_id, actor) SELECT key, tenant, %(now)s, '{Action.ERASED}', reason, types,"
        " classification, origin, source_id, since, until, level, NULL, %(actor)s FROM erased",
        values,
    ).rowcount
    connection.exec_driver_sql(
        "DELETE FROM soft_bounces AS s WHERE recipient = %(address)s AND EXISTS (SELECT FROM soft_bounces AS o WHERE"
        " o.recipient = %(pseudonym)s AND o.tenant = s.tenant AND o.message_id = s.message_id)",
        values,
    )
    connection.exec_driver_sql(
        "UPDATE soft_bounces SET recipient = %(pseudonym)s WHERE recipient = %(address)s", values
    )
    return erased


class KeptAnswer(NamedTuple):
    """An answer that is kept for who repeats the request; `body` is sealed."""

    key: UUID
    headers: str
    body: bytes


def answers_after(connection: Connection, after: UUID, limit: int) -> list[KeptAnswer]:
    """Some answers that follow this key, in their order."""
    rows = connection.exec_driver_sql(
        "SELECT key, headers::text, body FROM idempotent_answers WHERE key > %(after)s AND status_code IS NOT NULL"
        " ORDER BY key LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )
    return [KeptAnswer(row[0], row[1], bytes(row[2])) for row in rows]


def forget_answers(connection: Connection, keys: Sequence[UUID]) -> int:
    """Keep these answers no longer; return how many."""
    return connection.exec_driver_sql(
        "DELETE FROM idempotent_answers WHERE key = ANY(%(keys)s)", {"keys": list(keys)}
    ).rowcount
