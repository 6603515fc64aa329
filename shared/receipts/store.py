"""Receipts and their states: pending, parked (unverified, rejected or dead), or processed (in neither table)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, func, select, update

from shared.errors import LeaseLostError, TidingsError
from shared.postgres import stored_requests
from shared.postgres.metadata import is_any
from shared.receipts.tables import BODY_BYTES, pending_receipts, receipt_keys
from shared.receipts.tables import receipts as receipts_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One request as it arrived. Until `key_expires_at`, a request with the same `key` is a duplicate.

    If the key is of single use, such a request is a duplicate only with the same body.
    """

    id: UUID
    source_id: int
    received_at: datetime
    key: str
    key_expires_at: datetime
    idempotency_key: str | None
    remote_ip: str | None
    headers: str
    body: bytes
    is_single_use: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedReceipt:
    """A receipt that a worker has leased. `attempts` counts this one; `source_version` is the source's at the claim.

    `unreadable` is why the stored body cannot be read, by this version or at all; then `body` is empty.
    """

    id: UUID
    source_id: int
    source_version: int
    received_at: datetime
    attempts: int
    body: bytes
    unreadable: TidingsError | None = None


_COLUMNS = """
    unnest(%(id)b::uuid[]) AS id, unnest(%(source_id)b::bigint[]) AS source_id,
    unnest(%(received_at)b::timestamptz[]) AS received_at, unnest(%(key)b::uuid[]) AS key,
    unnest(%(key_expires_at)b::timestamptz[]) AS key_expires_at,
    unnest(%(idempotency_key)b::text[]) AS idempotency_key, unnest(%(remote_ip)b::text[]) AS remote_ip,
    unnest(%(headers)b::text[]) AS headers, unnest(%(body)b::bytea[]) AS body,
    unnest(%(bytes)b::integer[]) AS bytes, unnest(%(content)b::bytea[]) AS content
"""

# Text, because every accepted request runs it: one statement for a whole group commit. An expired key is
# reassigned to the new receipt, which is then no duplicate.
INSERT_NEW = f"""
    arrived AS MATERIALIZED (SELECT {_COLUMNS}),
    fresh AS (
        INSERT INTO receipt_keys AS known (key, receipt_id, expires_at)
        SELECT key, id, key_expires_at FROM arrived ORDER BY key
        ON CONFLICT (key) DO UPDATE SET receipt_id = excluded.receipt_id, expires_at = excluded.expires_at
            WHERE known.expires_at <= (SELECT min(received_at) FROM arrived)
        RETURNING receipt_id
    ),
    stored AS (
        INSERT INTO receipts (id, source_id, received_at, idempotency_key, remote_ip, headers, body, bytes, content)
        SELECT id, source_id, received_at, idempotency_key, remote_ip, headers::json, body, bytes, content
        FROM arrived WHERE id IN (SELECT receipt_id FROM fresh)
    )
"""

# The receiver's clock may be ahead of the database's, by which receipts become due.
DUE_ON_ARRIVAL: Final = "least(received_at, now())"

_RECORD = f"""
WITH {INSERT_NEW}
INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at)
SELECT id, source_id, bytes, {DUE_ON_ARRIVAL} FROM arrived WHERE id IN (SELECT receipt_id FROM fresh)
RETURNING receipt_id
"""

SMALL_BYTES: Final = 64 * 1024
"""A receipt with a larger body is processed alone, after the others of its batch."""

# Text, because it is the queue's hottest statement. Bounded by bytes as well as by rows. Of the receipts that may take
# long or crash their worker, because of their size or because they were tried before, one is taken, so that no other
# waits for its lease. `which` must read like the condition of a partial index.
_CLAIM = f"""
WITH due AS (
    SELECT receipt_id, bytes, attempts > 0 OR bytes > {SMALL_BYTES} AS alone FROM pending_receipts
    WHERE {{which}} AND available_at <= now() AND (lease_until IS NULL OR lease_until < now())
    ORDER BY receipt_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
),
taken AS (
    SELECT receipt_id FROM (
        SELECT receipt_id, bytes, alone, count(*) FILTER (WHERE alone) OVER up_to_it AS nth,
            sum(bytes) FILTER (WHERE NOT alone) OVER up_to_it AS total
        FROM due WINDOW up_to_it AS (ORDER BY receipt_id)
    ) AS summed
    WHERE CASE WHEN alone THEN nth = 1 ELSE total - bytes < %(max_bytes)s END
),
claimed AS (
    UPDATE pending_receipts
    SET lease_until = now() + make_interval(secs => %(lease_seconds)s * (attempts + 1)),
        lease_token = %(token)s, attempts = attempts + 1
    WHERE receipt_id IN (SELECT receipt_id FROM taken)
    RETURNING receipt_id, attempts
)
SELECT id, source_id, (SELECT version FROM sources WHERE sources.id = source_id), received_at, attempts, body,
    content
FROM claimed JOIN receipts ON id = receipt_id ORDER BY id
"""
CLAIM = _CLAIM.format(which="NOT reprocess")
CLAIM_REPROCESS = _CLAIM.format(which="reprocess")
CLAIM_SMALL = _CLAIM.format(which=f"NOT reprocess AND bytes <= {SMALL_BYTES}")


def record(connection: Connection, arrived: Sequence[Receipt]) -> set[UUID]:
    """Store and queue receipts; return the ids of those that are not duplicates.

    Each key may occur once in `arrived`, because one statement cannot insert the same row twice.
    """
    rows = connection.exec_driver_sql(_RECORD, columns_of(arrived))
    return {row[0] for row in rows}


def accept(connection: Connection, arrived: Collection[Receipt]) -> tuple[set[UUID], dict[str, UUID], set[str]]:
    """Store and queue receipts. Each key may occur once in `arrived`.

    Returns the ids of those that are new, the earlier receipt of each duplicate by its key, and the keys of replays:
    of single use, and used before with another body. What is dead or was rejected makes no duplicate.
    """
    new = record(connection, list(arrived))
    repeated = {receipt.key: receipt for receipt in arrived if receipt.id not in new}
    single_use = [receipt for receipt in repeated.values() if receipt.is_single_use]
    replays = find_replays(connection, single_use) if single_use else set()
    repeated = {key: receipt for key, receipt in repeated.items() if key not in replays}
    if repeated and (released := release_keys(connection, repeated)):
        new |= record(connection, [repeated[key] for key in released])
        repeated = {key: receipt for key, receipt in repeated.items() if receipt.id not in new}
    return new, ids_by_key(connection, repeated) if repeated else {}, replays


def ids_by_key(connection: Connection, keys: Iterable[str]) -> dict[str, UUID]:
    """Return the ids of the receipts with these keys (32 hex digits), by key."""
    statement = select(receipt_keys.c.key, receipt_keys.c.receipt_id)
    rows = connection.execute(statement.where(is_any(receipt_keys.c.key, [UUID(key) for key in keys])))
    return {row.key.hex: row.receipt_id for row in rows}


def find_replays(connection: Connection, repeated: Iterable[Receipt]) -> set[str]:
    """Return the keys of these receipts whose earlier receipt has another body, or none any more."""
    bodies = {receipt.key: receipt.body for receipt in repeated}
    rows = connection.execute(
        select(receipt_keys.c.key, receipts_table.c.body, receipts_table.c.content)
        .join_from(receipt_keys, receipts_table, receipts_table.c.id == receipt_keys.c.receipt_id)
        .where(is_any(receipt_keys.c.key, [UUID(key) for key in bodies]))
    )
    replays = set(bodies)
    for row in rows:
        try:
            is_same = stored_requests.body_of(row.body, row.content) == bodies[row.key.hex]
        except TidingsError:  # what cannot be read proves no replay, and a duplicate stores nothing
            is_same = True
        if is_same:
            replays.discard(row.key.hex)
    return replays


def release_keys(connection: Connection, keys: Iterable[str]) -> set[str]:
    """Let the keys of receipts that are dead or were rejected expire; return them.

    Such a receipt stands for nothing, so a repetition of its request must be stored and processed.
    """
    rows = connection.exec_driver_sql(
        "UPDATE receipt_keys AS k SET expires_at = '-infinity' FROM parked_receipts AS p"
        " WHERE key = ANY(%(keys)b::uuid[]) AND p.receipt_id = k.receipt_id AND state IN ('dead', 'rejected')"
        " RETURNING key",
        {"keys": list(keys)},
    )
    return {row[0].hex for row in rows}


def claim(
    connection: Connection,
    *,
    statement: str = CLAIM,
    limit: int,
    max_bytes: int,
    token: UUID,
    lease_seconds: int,
) -> list[ClaimedReceipt]:
    """Lease due receipts, the oldest first, and count the attempt.

    `statement` says which: CLAIM for new ones, CLAIM_SMALL for new ones with small bodies, CLAIM_REPROCESS for those to
    reprocess. Returns up to `limit` small ones that were not tried before, and no more once they exceed `max_bytes`,
    but always one; and the oldest of the others. Each attempt has a longer lease. Commit the claim before the work: an
    attempt that crashes its worker must count too.
    """
    rows = connection.exec_driver_sql(
        statement,
        {"limit": limit, "max_bytes": max_bytes, "token": token, "lease_seconds": lease_seconds},
    )
    claimed = []
    for receipt_id, source_id, source_version, received_at, attempts, body, content in rows:
        unreadable = None
        try:
            body = stored_requests.body_of(body, content)  # noqa: PLW2901
        except TidingsError as error:  # it must not keep the others from being claimed
            unreadable = error
        claimed.append(
            ClaimedReceipt(
                id=receipt_id,
                source_id=source_id,
                source_version=source_version,
                received_at=received_at,
                attempts=attempts,
                body=body or b"",
                unreadable=unreadable,
            )
        )
    return claimed


def finish(connection: Connection, receipt_ids: Sequence[UUID], token: UUID) -> None:
    """Take receipts off the queue. Raises LeaseLostError unless this lease still holds them all."""
    _use_lease(connection, "DELETE FROM pending_receipts", receipt_ids, token)


def renew(connection: Connection, receipt_ids: Sequence[UUID], token: UUID, *, lease_seconds: int) -> None:
    """Prolong a lease while a part of the work is done. Raises LeaseLostError unless it still holds the receipts."""
    prolong = f"UPDATE pending_receipts SET lease_until = now() + make_interval(secs => {lease_seconds:d})"
    _use_lease(connection, prolong, receipt_ids, token)


def _use_lease(connection: Connection, change: str, receipt_ids: Sequence[UUID], token: UUID) -> None:
    # Text, because every batch runs it: building the expression would cost as much as the statement.
    held = connection.exec_driver_sql(
        f"{change} WHERE receipt_id = ANY(%(ids)b) AND lease_token = %(token)s",
        {"ids": list(receipt_ids), "token": token},
    ).rowcount
    if held != len(receipt_ids):
        raise LeaseLostError(f"This worker's lease holds only {held} of {len(receipt_ids)} receipts.")


def retry(connection: Connection, receipt_id: UUID, token: UUID, *, error: str, delay_seconds: float) -> None:
    """Return a receipt to the queue after a failed attempt, due when the delay has passed."""
    due_at = func.now() + timedelta(seconds=delay_seconds)
    _return_to_queue(connection, [receipt_id], token, last_error=error, available_at=due_at)


def postpone(
    connection: Connection, receipt_ids: Sequence[UUID], token: UUID, *, error: str, delay_seconds: float
) -> None:
    """Return receipts to the queue, due when the delay has passed, without counting the attempt."""
    due_at = func.now() + timedelta(seconds=delay_seconds)
    attempts = pending_receipts.c.attempts - 1
    _return_to_queue(connection, receipt_ids, token, attempts=attempts, last_error=error, available_at=due_at)


def _return_to_queue(connection: Connection, receipt_ids: Sequence[UUID], token: UUID, **values: Any) -> None:
    is_held = pending_receipts.c.receipt_id.in_(receipt_ids) & (pending_receipts.c.lease_token == token)
    connection.execute(update(pending_receipts).where(is_held).values(lease_until=None, lease_token=None, **values))


def mark_dead(connection: Connection, receipt_id: UUID, token: UUID, *, reason: str, detail: str) -> None:
    """Move a receipt from the queue to the dead ones, if this lease still holds it."""
    connection.exec_driver_sql(
        "WITH gone AS (DELETE FROM pending_receipts WHERE receipt_id = %(id)s AND lease_token = %(token)s"
        " RETURNING receipt_id, source_id, attempts, reprocess)"
        " INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, bytes, attempts, reprocess,"
        " available_at, parked_at) SELECT receipt_id, gone.source_id, 'dead', %(reason)s, %(detail)s, r.bytes,"
        " attempts, reprocess, now(), now() FROM gone"
        f" JOIN (SELECT id, {BODY_BYTES} AS bytes FROM receipts) AS r ON id = receipt_id"
        " ON CONFLICT (receipt_id) DO NOTHING",
        {"id": receipt_id, "token": token, "reason": reason, "detail": detail},
    )


def queue_reprocessing(connection: Connection, receipt_ids: Sequence[UUID]) -> int:
    """Queue receipts that were processed, are dead or were rejected; return how many were queued.

    Queueing a rejected receipt accepts it: a person has decided so. Unverified receipts stay in quarantine until their
    signature is verified. Receipts whose body was erased are not queued; the row lock blocks concurrent erasures.
    A receipt that is in the queue becomes due. If it waits for its first processing it still does, because that counts
    its events.
    """
    return connection.exec_driver_sql(
        f"WITH wanted AS (SELECT id, source_id, {BODY_BYTES} AS bytes FROM receipts WHERE id = ANY(%(ids)b)"
        " AND (body IS NOT NULL OR content IS NOT NULL)"
        " AND NOT EXISTS (SELECT 1 FROM parked_receipts WHERE receipt_id = id AND state = 'unverified')"
        " ORDER BY id FOR SHARE OF receipts),"
        " gone AS (DELETE FROM parked_receipts USING wanted WHERE receipt_id = id)"
        " INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at, reprocess)"
        " SELECT id, source_id, bytes, now(), true FROM wanted ORDER BY id"
        " ON CONFLICT (receipt_id) DO UPDATE SET attempts = 0, available_at = now()",
        {"ids": list(receipt_ids)},
    ).rowcount


def count_reprocessing(connection: Connection) -> int:
    """Return how many receipts wait to be reprocessed."""
    statement = select(func.count()).where(pending_receipts.c.reprocess)
    return int(connection.scalar(statement) or 0)


class StoredBody(NamedTuple):
    """The body of a receipt; None once it is erased."""

    source_id: int
    received_at: datetime
    body: bytes | None


def get_body(connection: Connection, receipt_id: UUID) -> StoredBody | None:
    """Return a receipt's body; None if there is no receipt."""
    columns = receipts_table.c
    statement = select(columns.source_id, columns.received_at, columns.body, columns.content)
    row = connection.execute(statement.where(columns.id == receipt_id)).one_or_none()
    return row and StoredBody(row.source_id, row.received_at, stored_requests.body_of(row.body, row.content))


def columns_of(arrived: Sequence[Receipt]) -> dict[str, Sequence[object]]:
    """Return the parameters of INSERT_NEW, one list a column. Headers and body are packed, unless they are large."""
    packed = [stored_requests.pack(receipt.headers, receipt.body) for receipt in arrived]
    return {
        "id": [receipt.id for receipt in arrived],
        "source_id": [receipt.source_id for receipt in arrived],
        "received_at": [receipt.received_at for receipt in arrived],
        "key": [receipt.key for receipt in arrived],
        "key_expires_at": [receipt.key_expires_at for receipt in arrived],
        "idempotency_key": [receipt.idempotency_key for receipt in arrived],
        "remote_ip": [receipt.remote_ip for receipt in arrived],
        "headers": [None if content else receipt.headers for receipt, content in zip(arrived, packed, strict=True)],
        "body": [None if content else receipt.body for receipt, content in zip(arrived, packed, strict=True)],
        "bytes": [len(receipt.body) for receipt in arrived],
        "content": packed,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refused request. `count` includes similar ones that have no row."""

    id: UUID
    source: str
    refused_at: datetime
    status_code: int
    reason: str
    detail: str
    remote_ip: str | None
    headers: str
    bytes: int
    count: int = 1


_REFUSAL_COLUMNS = tuple(entry.name for entry in fields(Refusal))
_INSERT_REFUSAL = (
    f"INSERT INTO refusals ({', '.join(_REFUSAL_COLUMNS)}) VALUES ("
    + ", ".join(f"%({name})s" + ("::json" if name == "headers" else "") for name in _REFUSAL_COLUMNS)
    + ")"
)


def record_refusals(connection: Connection, refusals: Sequence[Refusal]) -> None:
    """Store requests that the receiver refused, each with its reason."""
    connection.exec_driver_sql(_INSERT_REFUSAL, [asdict(refusal) for refusal in refusals])
