"""Receipts, and where each stands: pending in the queue, set aside, or processed (in neither table)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared import ids
from shared.postgres.connection import Connection
from shared.vocabulary import ReceiptState


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One request as it arrived. `key` is how a repetition of it is recognised, until `key_expires_at`."""

    id: UUID
    source_id: int
    received_at: datetime
    key: str
    key_expires_at: datetime
    idempotency_key: str | None
    remote_ip: str | None
    headers: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A receipt that a worker has leased. `attempts` counts this one."""

    id: UUID
    source_id: int
    received_at: datetime
    attempts: int
    reprocess: bool
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Parking:
    """Why a receipt is set aside, and until when it is left alone."""

    state: ReceiptState
    reason: str
    detail: str
    available_at: datetime
    key_id: str | None = None


_COLUMNS = """
    unnest(%(id)b::uuid[]) AS id, unnest(%(source_id)b::bigint[]) AS source_id,
    unnest(%(received_at)b::timestamptz[]) AS received_at, unnest(%(key)b::uuid[]) AS key,
    unnest(%(key_expires_at)b::timestamptz[]) AS key_expires_at,
    unnest(%(idempotency_key)b::text[]) AS idempotency_key, unnest(%(remote_ip)b::text[]) AS remote_ip,
    unnest(%(headers)b::text[]) AS headers, unnest(%(body)b::bytea[]) AS body
"""

# A key whose time has passed is taken over by the newer receipt: then the same body is a new occurrence.
_KEPT = f"""
    arrived AS MATERIALIZED (SELECT {_COLUMNS}),
    fresh AS (
        INSERT INTO receipt_keys AS known (key, receipt_id, expires_at)
        SELECT key, id, key_expires_at FROM arrived ORDER BY key
        ON CONFLICT (key) DO UPDATE SET receipt_id = excluded.receipt_id, expires_at = excluded.expires_at
            WHERE known.expires_at <= (SELECT min(received_at) FROM arrived)
        RETURNING receipt_id
    ),
    kept AS (
        INSERT INTO receipts (id, source_id, received_at, idempotency_key, remote_ip, headers, body)
        SELECT id, source_id, received_at, idempotency_key, remote_ip, headers::json, body
        FROM arrived WHERE id IN (SELECT receipt_id FROM fresh)
    )
"""

_RECORD = f"""
WITH {_KEPT}
INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at)
SELECT id, source_id, length(body), received_at FROM arrived WHERE id IN (SELECT receipt_id FROM fresh)
RETURNING receipt_id
"""

_PARK_NEW = f"""
WITH {_KEPT}
INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, key_id, bytes, available_at, parked_at)
SELECT id, source_id, %(state)s, %(reason)s, %(detail)s, %(key_id)s, length(body), received_at, received_at
FROM arrived WHERE id IN (SELECT receipt_id FROM fresh)
RETURNING receipt_id
"""

MOST_AGAIN = 20
"""Of what is processed again, in one claim: a tenth of a second's work."""

# Bounded by bytes as well as by rows, so that a batch of large bodies does not outlive its lease. What is processed
# again is a few at a time beside what just came in, because it takes a transaction for each.
_CLAIM = """
WITH live AS (
    SELECT receipt_id, bytes, false AS again FROM pending_receipts
    WHERE NOT reprocess AND available_at <= now() AND (lease_until IS NULL OR lease_until < now())
    ORDER BY receipt_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
),
again AS (
    SELECT receipt_id, bytes, true AS again FROM pending_receipts
    WHERE reprocess AND available_at <= now() AND (lease_until IS NULL OR lease_until < now())
    ORDER BY receipt_id LIMIT least(%(limit)s, %(limit_again)s) FOR UPDATE SKIP LOCKED
),
taken AS (
    SELECT receipt_id FROM (
        SELECT receipt_id, bytes, sum(bytes) OVER (PARTITION BY again ORDER BY receipt_id) AS total
        FROM (SELECT * FROM live UNION ALL SELECT * FROM again) AS due
    ) AS summed
    WHERE total - bytes < %(most_bytes)s
),
claimed AS (
    UPDATE pending_receipts SET lease_until = now() + make_interval(secs => %(lease_seconds)s),
        lease_token = %(token)s, attempts = attempts + 1
    WHERE receipt_id IN (SELECT receipt_id FROM taken)
    RETURNING receipt_id, attempts, reprocess
)
SELECT id, source_id, received_at, attempts, reprocess, body
FROM claimed JOIN receipts ON id = receipt_id ORDER BY id
"""


def record(connection: Connection, arrived: Sequence[Receipt]) -> set[UUID]:
    """Store what arrived and queue it; return the ids of those that are not repetitions.

    Each key may occur once in `arrived`: one statement cannot meet the same row twice.
    """
    rows = connection.exec_driver_sql(_RECORD, _arrays(arrived))
    return {row[0] for row in rows}


def park_new(connection: Connection, receipt: Receipt, parking: Parking, *, rows: int, size: int) -> bool | None:
    """Keep an unverified request apart, if its source has fewer than `rows` and less than `size` bytes there.

    True: kept. False: a repetition. None: no room left.
    """
    held_rows, held_bytes = connection.exec_driver_sql(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM parked_receipts"
        " WHERE source_id = %(id)s AND state = 'unverified'",
        {"id": receipt.source_id},
    ).one()
    if held_rows >= rows or held_bytes + len(receipt.body) > size:
        return None
    result = connection.exec_driver_sql(
        _PARK_NEW,
        {
            **_arrays([receipt]),
            "state": parking.state,
            "reason": parking.reason,
            "detail": parking.detail,
            "key_id": parking.key_id,
        },
    )
    return bool(result.all())


def ids_by_key(connection: Connection, keys: Iterable[str]) -> dict[str, UUID]:
    """The receipts that these keys stand for now, by key (32 hex digits)."""
    rows = connection.exec_driver_sql(
        "SELECT key, receipt_id FROM receipt_keys WHERE key = ANY(%(keys)b::uuid[])", {"keys": list(keys)}
    )
    return {row[0].hex: row[1] for row in rows}


def claim(connection: Connection, *, limit: int, most_bytes: int, token: UUID, lease_seconds: int) -> list[Claimed]:
    """Lease pending receipts, the oldest first, and count the attempt: up to `limit`, or some over `most_bytes`.

    Beside them up to `MOST_AGAIN`, and as many bytes, of what is to be processed again.

    The claim has to be committed before the work: an attempt that kills its worker must count too.
    """
    rows = connection.exec_driver_sql(
        _CLAIM,
        {
            "limit": limit,
            "limit_again": MOST_AGAIN,
            "most_bytes": most_bytes,
            "token": token,
            "lease_seconds": lease_seconds,
        },
    )
    return [
        Claimed(id=row[0], source_id=row[1], received_at=row[2], attempts=row[3], reprocess=row[4], body=row[5])
        for row in rows
    ]


def finish(connection: Connection, receipt_ids: Sequence[UUID], token: UUID) -> int:
    """Take receipts off the queue, as far as this lease still holds them; return how many it held."""
    return connection.exec_driver_sql(
        "DELETE FROM pending_receipts WHERE receipt_id = ANY(%(ids)b) AND lease_token = %(token)s",
        {"ids": list(receipt_ids), "token": token},
    ).rowcount


def retry(connection: Connection, receipt_id: UUID, token: UUID, *, error: str, delay_seconds: float) -> None:
    """Give a lease back after a failure, to be claimed again when the delay has passed."""
    connection.exec_driver_sql(
        "UPDATE pending_receipts SET lease_until = NULL, lease_token = NULL, last_error = %(error)s,"
        " available_at = now() + make_interval(secs => %(delay)s)"
        " WHERE receipt_id = %(id)s AND lease_token = %(token)s",
        {"id": receipt_id, "token": token, "error": error, "delay": delay_seconds},
    )


def release(connection: Connection, receipt_ids: Sequence[UUID], token: UUID) -> None:
    """Give leases back untouched: as if these had not been claimed."""
    connection.exec_driver_sql(
        "UPDATE pending_receipts SET lease_until = NULL, lease_token = NULL, attempts = attempts - 1"
        " WHERE receipt_id = ANY(%(ids)b) AND lease_token = %(token)s",
        {"ids": list(receipt_ids), "token": token},
    )


def postpone(
    connection: Connection, receipt_ids: Sequence[UUID], token: UUID, *, error: str, delay_seconds: float
) -> None:
    """Give leases back to be claimed when the delay has passed, without charging the attempt."""
    connection.exec_driver_sql(
        "UPDATE pending_receipts SET lease_until = NULL, lease_token = NULL, attempts = attempts - 1,"
        " last_error = %(error)s, available_at = now() + make_interval(secs => %(delay)s)"
        " WHERE receipt_id = ANY(%(ids)b) AND lease_token = %(token)s",
        {"ids": list(receipt_ids), "token": token, "error": error, "delay": delay_seconds},
    )


def bury(connection: Connection, receipt_id: UUID, token: UUID, *, reason: str, detail: str) -> None:
    """Set a receipt aside as dead, if this lease still holds it."""
    connection.exec_driver_sql(
        "WITH gone AS (DELETE FROM pending_receipts WHERE receipt_id = %(id)s AND lease_token = %(token)s"
        " RETURNING receipt_id, source_id, attempts, reprocess)"
        " INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, bytes, attempts, reprocess,"
        " available_at, parked_at) SELECT receipt_id, gone.source_id, 'dead', %(reason)s, %(detail)s, length(body),"
        " attempts, reprocess, now(), now() FROM gone JOIN receipts ON id = receipt_id"
        " ON CONFLICT (receipt_id) DO NOTHING",
        {"id": receipt_id, "token": token, "reason": reason, "detail": detail},
    )


def queue_again(connection: Connection, receipt_ids: Sequence[UUID]) -> int:
    """Queue receipts that were processed, or set aside as dead or rejected; return how many there are.

    A rejected one is let in: a person has judged it. An unverified one stays where it is, and so does one whose body
    an erasure has deleted; the lock keeps an erasure that runs at this moment from deleting it afterwards.
    """
    return connection.exec_driver_sql(
        "WITH wanted AS (SELECT id, source_id, length(body) AS bytes FROM receipts WHERE id = ANY(%(ids)b)"
        " AND body IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM parked_receipts WHERE receipt_id = id AND state = 'unverified')"
        " ORDER BY id FOR SHARE OF receipts),"
        " gone AS (DELETE FROM parked_receipts USING wanted WHERE receipt_id = id)"
        " INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at, reprocess)"
        " SELECT id, source_id, bytes, now(), true FROM wanted ORDER BY id"
        " ON CONFLICT (receipt_id) DO UPDATE SET attempts = 0, available_at = now(), reprocess = true",
        {"ids": list(receipt_ids)},
    ).rowcount


def select_ids(
    connection: Connection,
    *,
    source_id: int | None,
    state: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> list[UUID]:
    """The ids of the receipts that fit, the oldest first; `state` is one of those of parked_receipts, or None."""
    table = "parked_receipts" if state else "receipts"
    column = "receipt_id" if state else "id"
    rows = connection.exec_driver_sql(
        f"SELECT {column} FROM {table} WHERE {column} >= %(first)s AND {column} < %(last)s"
        " AND (%(source_id)s::bigint IS NULL OR source_id = %(source_id)s)"
        + (" AND state = %(state)s" if state else "")
        + f" ORDER BY {column} LIMIT %(limit)s",
        {
            "first": ids.first_at(since) if since else UUID(int=0),
            "last": ids.first_at(until) if until else UUID(int=(1 << 128) - 1),
            "source_id": source_id,
            "state": state,
            "limit": limit,
        },
    )
    return [row[0] for row in rows]


def find_body(connection: Connection, receipt_id: UUID) -> tuple[datetime, bytes | None] | None:
    """When a receipt arrived, and its bytes; None instead of these once an erasure has deleted them."""
    row = connection.exec_driver_sql(
        "SELECT received_at, body FROM receipts WHERE id = %(id)s", {"id": receipt_id}
    ).one_or_none()
    return (row[0], row[1]) if row else None


def oldest_due_age(connection: Connection) -> float | None:
    """How many seconds the longest-waiting receipt that nobody holds has been due; None when there is none."""
    age = connection.exec_driver_sql(
        "SELECT extract(epoch FROM now() - min(available_at)) FROM pending_receipts"
        " WHERE available_at <= now() AND (lease_until IS NULL OR lease_until < now())"
    ).scalar()
    return None if age is None else float(age)


def _arrays(arrived: Sequence[Receipt]) -> dict[str, list[object]]:
    return {
        "id": [receipt.id for receipt in arrived],
        "source_id": [receipt.source_id for receipt in arrived],
        "received_at": [receipt.received_at for receipt in arrived],
        "key": [receipt.key for receipt in arrived],
        "key_expires_at": [receipt.key_expires_at for receipt in arrived],
        "idempotency_key": [receipt.idempotency_key for receipt in arrived],
        "remote_ip": [receipt.remote_ip for receipt in arrived],
        "headers": [receipt.headers for receipt in arrived],
        "body": [receipt.body for receipt in arrived],
    }
