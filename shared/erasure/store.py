"""Statements of erasure. Nothing here commits, and every statement may be repeated."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Connection,
    Integer,
    Row,
    Text,
    cast,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from shared import ids
from shared.auth.tables import idempotent_answers
from shared.deliveries.store import LEASE_SPARE_SECONDS
from shared.erasure.matching import AddressMatcher
from shared.jobs.tables import job_files, jobs
from shared.messages import rebuild
from shared.messages.tables import MESSAGE_FIELDS, events, recipient_states, select_by_text
from shared.postgres import stored_requests
from shared.postgres.metadata import is_any
from shared.receipts.tables import BODY_BYTES, HAS_BODY, erased_receipts, parked_receipts, pending_receipts, receipts
from shared.subscriptions.tables import subscriptions
from shared.suppression import store as suppression_store
from shared.suppression.tables import soft_bounces
from shared.vocabulary import JobState, ReceiptState, SuppressionAction

_EVENT_IDS = (1 << ids.EVENTS_PER_RECEIPT_BITS) - 1
_ERASED = "erased"
_OPEN = (JobState.QUEUED, JobState.RUNNING)
_MAX_CALL_SECONDS = 30  # a subscription's timeout_s is no longer

Erase = Callable[[AddressMatcher, str], str]
"""Returns the text to store instead: the same text if that does not contain the address."""

_TEXT: Final = AddressMatcher.pseudonymize
_JSON: Final = AddressMatcher.pseudonymize_json
_CAPTURE: Final = AddressMatcher.delete_json


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptTable:
    """A table that is read from its first row to its last, `limit` rows at a time.

    `key` is its primary key. `columns` are those that may contain an address, with what erases it.
    """

    name: str
    key: Sequence[str] = ("id",)
    columns: Mapping[str, Erase]
    limit: int = 5000


def _texts(*names: str) -> dict[str, Erase]:
    return dict.fromkeys(names, _TEXT)


EVENTS: Final = SweptTable(
    name="events", columns={**_texts("recipient", "reason"), "data": _JSON, "provider_object": _CAPTURE}
)
"""Erased with their receipts; the provider's object is a part of the body."""

EVENT_OBJECTS: Final = SweptTable(name="event_objects", columns={"data": _JSON, "provider_object": _CAPTURE})
"""What events of one object share; erased with them."""

TABLES: Final = (
    SweptTable(
        name="messages",
        columns={**_texts(*MESSAGE_FIELDS), "first_values": _JSON},
    ),
    SweptTable(name="recipient_states", key=("message_id", "recipient"), columns=_texts("smtp_id", "reason")),
    SweptTable(name="suppressions", key=("key", "tenant", "reason", "origin"), columns=_texts("note", "actor")),
    SweptTable(name="suppression_history", columns=_texts("note", "actor")),
    SweptTable(name="soft_bounce_checks", key=("due_at", "id"), columns=_texts("recipient")),
    SweptTable(name="state_changes", key=("transaction", "id"), columns={**_texts("recipient"), "data": _JSON}),
    SweptTable(name="refusals", columns={**_texts("source", "detail"), "headers": _CAPTURE}),
    SweptTable(name="pending_receipts", key=("receipt_id",), columns=_texts("last_error")),
    SweptTable(name="parked_receipts", key=("receipt_id",), columns=_texts("reason", "detail")),
    SweptTable(name="jobs", columns={**dict.fromkeys(("parameters", "position", "report"), _JSON), **_texts("error")}),
    SweptTable(name="alerts", columns={**_texts("subject", "summary"), "numbers": _JSON}),
    SweptTable(name="alert_steps", columns={**_texts("summary", "actor"), "numbers": _JSON}),
    SweptTable(name="alert_notices", columns=_texts("last_error")),
    SweptTable(name="failed_deliveries", key=("source_id", "reference"), columns=_texts("url", "last_error")),
    SweptTable(name="reconciliations", key=("source_id",), columns={**_texts("last_error"), "webhooks": _JSON}),
    SweptTable(name="audit_log", columns={**_texts("object"), "details": _JSON}),
)
"""Every other table that may contain an address in plain text. A test lists the columns that cannot, and why."""

DELIVERY_TABLES: Final = (
    SweptTable(name="deliveries", columns=_texts("last_error")),
    SweptTable(
        name="delivery_attempts", columns={"request_capture": _CAPTURE, "response_capture": _CAPTURE}, limit=1000
    ),
    SweptTable(name="endpoint_health", key=("subscription_id",), columns=_texts("last_error")),
)
"""What deliverers write when a call has ended."""


def sweep(
    connection: Connection, table: SweptTable, after: Sequence[str] | None, matcher: AddressMatcher
) -> tuple[int, int, list[str] | None]:
    """Erase the address from the rows that follow this key.

    Returns how many rows were read, how many changed, and the key of the last one; None at the end.
    """
    keys = ", ".join(f"t.{name}" for name in table.key)  # not the texts of the same name that are selected
    bound = f"WHERE ({keys}) > ({', '.join(f'%({name})s' for name in table.key)})" if after else ""
    # PostgreSQL leaves out nearly all texts at little cost; the matcher decides on the rest.
    texts = ", ".join(f"{name}::text" for name in table.columns)
    rows = connection.exec_driver_sql(
        f"SELECT {', '.join(f'{name}::text' for name in table.key)},"
        f" CASE WHEN concat_ws(' ', {texts}) ~* %(pattern)s THEN ARRAY[{texts}] ELSE '{{}}' END"
        f" FROM {table.name} AS t {bound} ORDER BY {keys} LIMIT %(limit)s",
        {"pattern": matcher.sql_pattern, "limit": table.limit, **dict(zip(table.key, after or (), strict=False))},
    ).all()
    changed = sum(_rewrite(connection, table, key, texts, matcher) for *key, texts in rows)
    return len(rows), changed, list(rows[-1][:-1]) if len(rows) == table.limit else None


def _rewrite(
    connection: Connection,
    table: SweptTable,
    key: Sequence[object],
    texts: Sequence[str | None],
    matcher: AddressMatcher,
) -> bool:
    """Erase the address from a row that was read without a lock; return whether the row contained it."""
    if not _erased(table, texts, matcher):
        return False
    where = f"WHERE {' AND '.join(f'{name} = %({name})s' for name in table.key)}"
    named = dict(zip(table.key, key, strict=True))
    columns = ", ".join(f"{name}::text" for name in table.columns)
    row = connection.exec_driver_sql(f"SELECT {columns} FROM {table.name} {where} FOR UPDATE", named).one_or_none()
    new = _erased(table, row, matcher) if row else {}
    if new:
        assignments = ", ".join(f"{name} = %({name})s" for name in new)
        connection.exec_driver_sql(f"UPDATE {table.name} SET {assignments} {where}", {**named, **new})
    return bool(new)


def _erased(table: SweptTable, texts: Iterable[str | None], matcher: AddressMatcher) -> dict[str, str]:
    """Return the new texts of those columns that contain the address."""
    new = {}
    for (name, erase), text in zip(table.columns.items(), texts, strict=False):
        if text is not None and (erased := erase(matcher, text)) != text:
            new[name] = erased
    return new


class StoredReceipt(NamedTuple):
    """A stored request. `body` is None once it is deleted; `reprocess` is None unless the receipt is pending."""

    id: UUID
    source_id: int
    received_at: datetime
    idempotency_key: str | None
    headers: str
    body: bytes | None
    reprocess: bool | None = None


_RECEIPT = (
    receipts.c.id,
    receipts.c.source_id,
    receipts.c.received_at,
    receipts.c.idempotency_key,
    cast(receipts.c.headers, Text).label("headers"),
    receipts.c.body,
    receipts.c.content,
)


def receipts_after(
    connection: Connection, after: UUID, until: UUID, *, limit: int, max_bytes: int
) -> list[StoredReceipt]:
    """Return receipts between these ids, the oldest first: up to `limit`, or some over `max_bytes` of bodies."""
    size = func.coalesce(literal_column(BODY_BYTES, Integer), 0).label("size")
    sized = (
        select(receipts.c.id, size)
        .where(receipts.c.id > after, receipts.c.id < until)
        .order_by(receipts.c.id)
        .limit(limit)
        .subquery()
    )
    total = func.sum(sized.c.size).over(order_by=sized.c.id).label("total")
    summed = select(sized.c.id, sized.c.size, total).subquery()
    chosen = select(summed.c.id).where(summed.c.total - summed.c.size < max_bytes)
    rows = connection.execute(select(*_RECEIPT).where(receipts.c.id.in_(chosen)).order_by(receipts.c.id))
    return [_stored_receipt(row) for row in rows]


def lock_receipts(connection: Connection, receipt_ids: Collection[UUID]) -> list[StoredReceipt]:
    """Lock these receipts until the transaction ends; return those that are pending.

    A worker that is just writing one of them is waited for. One that has only read it loses its lease when the
    receipt is taken off the queue, and then writes nothing.
    """
    # In this order: a worker that verifies a receipt moves it from parked to pending.
    for key in (receipts.c.id, parked_receipts.c.receipt_id, pending_receipts.c.receipt_id):
        connection.execute(select(key).where(is_any(key, receipt_ids)).order_by(key).with_for_update())
    rows = connection.execute(
        select(*_RECEIPT, pending_receipts.c.reprocess)
        .join(pending_receipts, pending_receipts.c.receipt_id == receipts.c.id)
        .where(is_any(receipts.c.id, receipt_ids), HAS_BODY)
        .order_by(receipts.c.id)
    )
    return [_stored_receipt(row, row.reprocess) for row in rows]


def _stored_receipt(row: Any, reprocess: bool | None = None) -> StoredReceipt:
    headers, body = stored_requests.read(row.headers, row.body, row.content)
    return StoredReceipt(row.id, row.source_id, row.received_at, row.idempotency_key, headers, body, reprocess)


def finish_pending(connection: Connection, receipt_ids: Collection[UUID], failed: Mapping[UUID, str]) -> None:
    """Take receipts off the queue. Those that could not be processed, each with its reason, are dead for good."""
    kept = ("receipt_id", "source_id", "attempts", "reprocess")
    rows = connection.execute(
        delete(pending_receipts)
        .where(is_any(pending_receipts.c.receipt_id, receipt_ids))
        .returning(*(pending_receipts.c[name] for name in kept))
    ).mappings()
    dead = {
        "state": ReceiptState.DEAD,
        "reason": _ERASED,
        "bytes": 0,
        "available_at": func.now(),
        "parked_at": func.now(),
    }
    parked = [{**row, **dead, "detail": failed[row["receipt_id"]]} for row in rows if row["receipt_id"] in failed]
    if parked:
        connection.execute(insert(parked_receipts).values(parked).on_conflict_do_nothing())


def delete_bodies(connection: Connection, receipt_ids: Collection[UUID], now: datetime) -> int:
    """Delete bodies, headers and the providers' idempotency keys of these receipts; return how many had them.

    The keys by which repetitions are recognized stay: they are hashes. A receipt that still waits for its
    verification is dead from now on, because there is nothing left to verify.
    """
    parked = update(parked_receipts).where(is_any(parked_receipts.c.receipt_id, receipt_ids))
    connection.execute(parked.values(bytes=0))
    connection.execute(
        parked.where(parked_receipts.c.state == ReceiptState.UNVERIFIED).values(
            state=ReceiptState.DEAD,
            reason=_ERASED,
            detail="The request was deleted, by an erasure, before its signature could be verified.",
            parked_at=now,
        )
    )
    deleted = connection.scalars(
        update(receipts)
        .where(is_any(receipts.c.id, receipt_ids), HAS_BODY)
        .values(body=None, headers={}, bytes=None, content=None, idempotency_key=None)
        .returning(receipts.c.id)
    ).all()
    if deleted:
        marks = insert(erased_receipts).values([{"receipt_id": receipt_id, "erased_at": now} for receipt_id in deleted])
        # There is a mark already where an earlier version had replaced the address in the body.
        connection.execute(
            marks.on_conflict_do_update(index_elements=["receipt_id"], set_={"erased_at": marks.excluded.erased_at})
        )
    return len(deleted)


def copy_objects(connection: Connection, receipt_ids: Collection[UUID]) -> None:
    """Copy the providers' objects from the bodies of these receipts to their events, before the bodies are deleted."""
    packed = select(receipts.c.id, receipts.c.content)
    rows = connection.execute(packed.where(is_any(receipts.c.id, receipt_ids), receipts.c.content.is_not(None)))
    bodies = {row.id: stored_requests.unpack(row.content)[1] for row in rows}
    for table in (EVENTS, EVENT_OBJECTS):
        places = connection.exec_driver_sql(
            f"SELECT e.id, first, object_at, object_length FROM {table.name} AS e"
            " JOIN unnest(%(first)s::uuid[], %(last)s::uuid[]) AS ids (first, last) ON e.id > first AND e.id <= last"
            " WHERE object_at IS NOT NULL",
            _event_bounds(bodies),
        ).all()
        objects = [bodies[receipt_id][at : at + length].decode() for _, receipt_id, at, length in places]
        connection.exec_driver_sql(
            f"UPDATE {table.name} AS e SET object_at = NULL, object_length = NULL, provider_object = object::json"
            " FROM unnest(%(ids)s::uuid[], %(objects)s::text[]) AS found (id, object) WHERE e.id = found.id",
            {"ids": [row[0] for row in places], "objects": objects},
        )
        # Large bodies are not packed. Text, like the statement below. An event's id begins with its receipt's.
        connection.exec_driver_sql(
            f"UPDATE {table.name} AS e SET object_at = NULL, object_length = NULL, provider_object ="
            " convert_from(substring(r.body FROM object_at + 1 FOR object_length), 'UTF8')::json"
            " FROM unnest(%(first)s::uuid[], %(last)s::uuid[]) AS ids (first, last) JOIN receipts AS r ON r.id = first"
            " WHERE e.id > first AND e.id <= last AND object_at IS NOT NULL AND r.body IS NOT NULL",
            _event_bounds(receipt_ids),
        )


def _event_bounds(receipt_ids: Collection[UUID]) -> dict[str, list[UUID]]:
    last = [UUID(int=receipt_id.int + _EVENT_IDS) for receipt_id in receipt_ids]
    return {"first": list(receipt_ids), "last": last}


def pseudonymize_events(connection: Connection, receipt_ids: Collection[UUID], matcher: AddressMatcher) -> list[UUID]:
    """Erase the address from the events of these receipts; return the messages whose recipient it was in them."""
    messages = set()
    for table, message in ((EVENT_OBJECTS, "NULL"), (EVENTS, "e.message_id")):
        texts = ", ".join(f"e.{name}::text" for name in table.columns)
        # Text: events have no index on the receipt, but an event's id begins with the receipt's.
        rows = connection.exec_driver_sql(
            f"SELECT {message}, e.id, ARRAY[{texts}] FROM unnest(%(first)s::uuid[], %(last)s::uuid[])"
            f" AS r (first, last) JOIN {table.name} AS e ON e.id > r.first AND e.id <= r.last ORDER BY e.id",
            _event_bounds(receipt_ids),
        ).all()
        for message_id, event_id, columns in rows:
            _rewrite(connection, table, [event_id], columns, matcher)
            if message_id and matcher.address in columns:
                messages.add(message_id)
    return sorted(messages)


def messages_to(connection: Connection, address: str, limit: int) -> Sequence[UUID]:
    """Return messages to this recipient, whichever are found first."""
    states = select_by_text(recipient_states.c.recipient, [address]).subquery().c
    return connection.scalars(select(states.message_id).limit(limit)).all()


def receipts_about(connection: Connection, address: str, message_ids: Collection[UUID]) -> Sequence[UUID]:
    """Return the receipts whose events name this recipient of these messages."""
    found = connection.scalars(
        select(events.c.id).where(is_any(events.c.message_id, message_ids), events.c.recipient == address)
    )
    return sorted(set(map(ids.receipt_of, found)))


def rename_recipient(connection: Connection, message_ids: Collection[UUID], matcher: AddressMatcher) -> int:
    """Name the pseudonym as recipient of these messages, in events and states; return how many had the address.

    A state that came after an earlier erasure is merged with the one that this left.
    """
    connection.execute(
        update(events)
        .where(is_any(events.c.message_id, message_ids), events.c.recipient == matcher.address)
        .values(recipient=matcher.pseudonym)
    )
    states, earlier = recipient_states.c, recipient_states.alias("earlier")
    is_his = is_any(states.message_id, message_ids) & (states.recipient == matcher.address)
    merged = connection.scalars(
        delete(recipient_states)
        .where(
            is_his,
            exists().where(earlier.c.message_id == states.message_id, earlier.c.recipient == matcher.pseudonym),
        )
        .returning(states.message_id)
    ).all()
    renamed = connection.execute(
        update(recipient_states).where(is_his).values(recipient=matcher.pseudonym, updated_at=func.now())
    ).rowcount
    if merged:
        rebuild.rebuild_states(connection, [(message_id.hex, matcher.pseudonym) for message_id in merged])
    return len(merged) + renamed


def pseudonymize_entries(connection: Connection, key: str, matcher: AddressMatcher, actor: str, now: datetime) -> int:
    """Remove the address from the suppression list, which keeps its key; return how many entries had it.

    Waits for a transaction that is adding this recipient. Later additions stay.
    """
    suppression_store.lock_exclusive(connection, [key])
    # Text: an INSERT from what an UPDATE returned, in one statement.
    erased = connection.exec_driver_sql(
        "WITH erased AS (UPDATE suppressions SET address = NULL WHERE key = %(key)s AND address IS NOT NULL"
        " RETURNING *)"
        " INSERT INTO suppression_history (key, tenant, at, action, reason, types, classification, origin, source_id,"
        f" since, until, level, event_id, actor) SELECT key, tenant, %(now)s, '{SuppressionAction.ERASED}', reason,"
        " types, classification, origin, source_id, since, until, level, NULL, %(actor)s FROM erased",
        {"key": key, "actor": actor, "now": now},
    ).rowcount
    soft, earlier = soft_bounces.c, soft_bounces.alias("earlier")
    connection.execute(
        delete(soft_bounces).where(
            soft.recipient == matcher.address,
            exists().where(
                earlier.c.recipient == matcher.pseudonym,
                earlier.c.tenant == soft.tenant,
                earlier.c.message_id == soft.message_id,
            ),
        )
    )
    connection.execute(
        update(soft_bounces).where(soft.recipient == matcher.address).values(recipient=matcher.pseudonym)
    )
    return erased


def files_after(
    connection: Connection, after: tuple[UUID, str, int], limit: int
) -> Sequence[Row[UUID, str, int, bytes]]:
    """Return parts of files that follow this one, of jobs that have ended. Files of open jobs stay."""
    key = tuple_(job_files.c.job_id, job_files.c.name, job_files.c.part)
    return connection.execute(
        select(job_files.c.job_id, job_files.c.name, job_files.c.part, job_files.c.content)
        .where(key > after, ~exists().where(jobs.c.id == job_files.c.job_id, jobs.c.state.in_(_OPEN)))
        .order_by(job_files.c.job_id, job_files.c.name, job_files.c.part)
        .limit(limit)
    ).all()


def delete_file(connection: Connection, job_id: UUID, name: str) -> int:
    """Delete all parts of a file; return how many there were."""
    return connection.execute(delete(job_files).where(job_files.c.job_id == job_id, job_files.c.name == name)).rowcount


def answers_after(connection: Connection, after: UUID, limit: int) -> Sequence[Row[Any]]:
    """Return `key`, `headers` (as text) and the encrypted `body` of stored answers that follow this key."""
    answers = idempotent_answers.c
    return connection.execute(
        select(answers.key, cast(answers.headers, Text).label("headers"), answers.body)
        .where(answers.key > after, answers.status_code.is_not(None))
        .order_by(answers.key)
        .limit(limit)
    ).all()


def delete_answers(connection: Connection, keys: Collection[UUID]) -> int:
    """Delete these answers; return how many there were."""
    return connection.execute(delete(idempotent_answers).where(is_any(idempotent_answers.c.key, keys))).rowcount


def has_open_jobs(connection: Connection, kinds: Collection[str], before: UUID) -> bool:
    """Return whether a job of these kinds, created before this id, may still write what it has read."""
    found = exists().where(jobs.c.state.in_(_OPEN), jobs.c.kind.in_(kinds), jobs.c.id < before)
    return bool(connection.scalar(select(found)))


def cached_payloads_expire_at(connection: Connection, cached_seconds: float) -> datetime | None:
    """Return when deliverers have forgotten the changes that they have read; None without subscriptions."""
    found = select(func.now() + timedelta(seconds=cached_seconds)).where(exists(select(subscriptions.c.id)))
    return connection.scalar(found)


def has_calls_from_before(connection: Connection, moment: str) -> bool:
    """Return whether calls that began before this moment may still be in flight."""
    under_way = connection.exec_driver_sql(
        "SELECT now() < %(moment)s::text::timestamptz OR EXISTS (SELECT FROM pending_deliveries WHERE lease_until >"
        " now() AND lease_until <= %(moment)s::text::timestamptz + make_interval(secs => %(longest)s))",
        {"moment": moment, "longest": _MAX_CALL_SECONDS + LEASE_SPARE_SECONDS},
    ).scalar_one()
    return bool(under_way)


def count_rows(connection: Connection) -> int:
    """Return about how many rows an erasure reads, for a progress bar."""
    tables = ["receipts", *(table.name for table in (*TABLES, *DELIVERY_TABLES))]
    found: int = connection.exec_driver_sql(
        "WITH named AS (SELECT to_regclass(name) AS oid FROM unnest(%(tables)s::text[]) AS name)"
        " SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class WHERE relkind = 'r' AND oid IN"
        " (SELECT oid FROM named UNION SELECT inhrelid FROM pg_inherits WHERE inhparent IN (SELECT oid FROM named))",
        {"tables": tables},
    ).scalar_one()
    return found
