"""The quarantine: requests whose signature could not be verified yet."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.counters import store as counts
from shared.errors import TidingsError, VerificationError
from shared.postgres import stored_requests
from shared.postgres.metadata import is_any, oldest_beyond
from shared.providers.webhooks.base import WebhookRequest
from shared.receipts.store import DUE_ON_ARRIVAL, INSERT_NEW, Receipt, columns_of, release_keys
from shared.receipts.tables import parked_receipts, pending_receipts, receipt_keys, receipts
from shared.sources.source import Source
from shared.vocabulary import ReceiptState, RefusalReason

_UNREADABLE_SECONDS: Final = 60.0

_ADD = f"""
WITH {INSERT_NEW}
INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, key_id, bytes, available_at, parked_at,
    dedup_key)
SELECT id, source_id, %(state)s, %(reason)s, %(detail)s, %(key_id)s, bytes, {DUE_ON_ARRIVAL}, received_at, key
FROM arrived WHERE id IN (SELECT receipt_id FROM fresh)
RETURNING receipt_id
"""

_TAKE_KEY = """
INSERT INTO receipt_keys AS known (key, receipt_id, expires_at) VALUES (%(key)s, %(id)s, %(expires_at)s)
ON CONFLICT (key) DO UPDATE SET receipt_id = excluded.receipt_id, expires_at = excluded.expires_at
WHERE known.expires_at <= %(received_at)s RETURNING 1
"""

# Text, not an expression: one statement that claims and counts the attempt. Every source gets its share, so that a
# flood of one delays no other. Within a source the oldest come first: what arrives later cannot push them back.
_CLAIM = """
WITH waiting AS (
    SELECT source_id FROM parked_receipts
    WHERE state = 'unverified' AND available_at <= now() AND source_id <> ALL(%(except_sources)s)
    GROUP BY source_id ORDER BY min(available_at) LIMIT %(sources)s
),
due AS (
    SELECT receipt_id, source_id, bytes FROM waiting CROSS JOIN LATERAL (
        SELECT receipt_id, bytes FROM parked_receipts AS p
        WHERE p.source_id = waiting.source_id AND state = 'unverified' AND available_at <= now()
        ORDER BY receipt_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS oldest
),
taken AS (
    SELECT receipt_id FROM (
        SELECT receipt_id, bytes, sum(bytes) OVER (PARTITION BY source_id ORDER BY receipt_id) AS total FROM due
    ) AS summed
    WHERE total - bytes < %(max_bytes)s
),
claimed AS (
    UPDATE parked_receipts SET attempts = attempts + 1, available_at = now() + make_interval(secs => %(lease_seconds)s)
    WHERE receipt_id IN (SELECT receipt_id FROM taken) RETURNING receipt_id, attempts
)
SELECT id, source_id, received_at, attempts, headers::text, body, content
FROM claimed JOIN receipts ON id = receipt_id ORDER BY id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRequest:
    """A request to verify again. `headers` is JSON; secrets in it are sealed."""

    id: UUID
    source_id: int
    received_at: datetime
    attempts: int
    headers: str
    body: bytes


def is_for(source: Source, error: VerificationError, now: datetime) -> bool:
    """Return whether a request with this error goes to quarantine: its key can be fetched, or every failure goes."""
    is_key_fetchable = error.key_id is not None and source.provider.key_lookup(error.key_id) is not None
    until = source.settings.quarantine_until
    return is_key_fetchable or (until is not None and now < until)


def find_confirmation(source: Source, request: WebhookRequest) -> VerificationError | None:
    """Return why a verified request goes to quarantine all the same: a worker confirms a subscription first."""
    if source.provider.confirmation_url(request, source.settings) is None:
        return None
    sentence = "A worker confirms the subscription before this request counts"
    return VerificationError(RefusalReason.UNCONFIRMED, sentence)


def add(
    connection: Connection, receipt: Receipt, error: VerificationError, *, max_rows: int, max_bytes: int
) -> bool | None:
    """Store a request that failed verification, within the limits of its source's quarantine.

    Returns True if it was stored, False if it is a duplicate, None if the quarantine is full.
    """
    parked = parked_receipts.c
    is_of_source = (parked.source_id == receipt.source_id) & (parked.state == ReceiptState.UNVERIFIED)
    held = select(func.count(), func.coalesce(func.sum(parked.bytes), 0)).where(is_of_source)
    rows, size = connection.execute(held).one()
    if rows >= max_rows or size + len(receipt.body) > max_bytes:
        return None
    values = {"state": ReceiptState.UNVERIFIED, "reason": error.reason, "detail": str(error), "key_id": error.key_id}
    return bool(connection.exec_driver_sql(_ADD, {**columns_of([receipt]), **values}).all())


def claim(
    connection: Connection,
    *,
    sources: int,
    limit: int,
    max_bytes: int,
    lease_seconds: int,
    except_sources: Collection[int] = (),
) -> list[QuarantinedRequest]:
    """Lease due requests and count the attempt: of up to `sources` sources, and of each the oldest.

    Of one source these are up to `limit`, and no more once they exceed `max_bytes`, but always one. A request whose
    stored form cannot be read is postponed, and not returned.
    """
    values = {"sources": sources, "limit": limit, "max_bytes": max_bytes, "lease_seconds": lease_seconds}
    rows = connection.exec_driver_sql(_CLAIM, {**values, "except_sources": list(except_sources)})
    found = []
    for receipt_id, source_id, received_at, attempts, headers, body, content in rows:
        try:
            headers, body = stored_requests.read(headers, body, content)  # noqa: PLW2901
        except TidingsError as error:  # it must not keep the others from being claimed
            detail, delay = str(error), _UNREADABLE_SECONDS
            postpone(connection, [receipt_id], detail=detail, delay_seconds=delay, is_counted=False)
            continue
        found.append(
            QuarantinedRequest(
                id=receipt_id,
                source_id=source_id,
                received_at=received_at,
                attempts=attempts,
                headers=headers,
                body=body or b"",
            )
        )
    return found


def admit(
    connection: Connection, receipt_id: UUID, *, key: str, key_expires_at: datetime, received_at: datetime
) -> bool:
    """Queue a request that was verified. Return False if it duplicates one that was accepted at once.

    A key that had expired when this request arrived makes no duplicate, as in `shared.receipts.store.record`.
    """
    values = {"key": key, "id": receipt_id, "expires_at": key_expires_at, "received_at": received_at}
    release_keys(connection, [key])
    fresh = connection.exec_driver_sql(_TAKE_KEY, values).all()
    gone = delete(parked_receipts).where(_is_unverified([receipt_id])).returning(parked_receipts)
    parked = connection.execute(gone).one_or_none()
    if parked is None:
        return False
    connection.execute(delete(receipt_keys).where(receipt_keys.c.key == parked.dedup_key))
    if fresh:
        queued = {"receipt_id": receipt_id, "source_id": parked.source_id, "bytes": parked.bytes}
        statement = insert(pending_receipts).values(**queued, available_at=func.now())
        connection.execute(statement.on_conflict_do_nothing())
    return bool(fresh)


def reject(connection: Connection, receipt_id: UUID, *, reason: str, detail: str) -> None:
    """Mark a request as rejected, and count it as a refusal: its provider did not send it.

    Its key is forgotten: if the same request comes again, the provider may publish its public key by then.
    """
    rejected = connection.execute(
        update(parked_receipts)
        .where(_is_unverified([receipt_id]))
        .values(state=ReceiptState.REJECTED, reason=reason, detail=detail)
        .returning(parked_receipts.c.source_id, parked_receipts.c.dedup_key)
    ).one_or_none()
    if rejected is not None:
        connection.execute(delete(receipt_keys).where(receipt_keys.c.key == rejected.dedup_key))
        counts.count_rejection(connection, rejected.source_id, receipt_id, reason)


def delete_oldest_rejected(connection: Connection, source_id: int, *, max_rows: int, max_bytes: int) -> int:
    """Delete the oldest rejected receipts of a source beyond these limits: anybody can cause them."""
    parked = parked_receipts.c
    is_rejected = (parked.source_id == source_id) & (parked.state == ReceiptState.REJECTED)
    limits = {"max_rows": max_rows, "max_bytes": max_bytes}
    beyond = oldest_beyond(parked.receipt_id, parked.receipt_id.desc(), parked.bytes, is_rejected, **limits)
    gone = delete(parked_receipts).where(is_rejected, parked.receipt_id.in_(beyond)).returning(parked.receipt_id)
    receipt_ids = connection.scalars(gone).all()
    return connection.execute(delete(receipts).where(is_any(receipts.c.id, receipt_ids))).rowcount


def postpone(
    connection: Connection, receipt_ids: Sequence[UUID], *, detail: str, delay_seconds: float, is_counted: bool = True
) -> None:
    """Verify requests again when the delay has passed. The attempt does not count unless `is_counted`."""
    attempts = parked_receipts.c.attempts - (0 if is_counted else 1)
    due_at = func.now() + timedelta(seconds=delay_seconds)
    values = {"detail": detail, "available_at": due_at, "attempts": attempts}
    connection.execute(update(parked_receipts).where(_is_unverified(receipt_ids)).values(values))


def make_due(connection: Connection, source_id: int) -> None:
    """Verify all unverified requests of a source now: somebody corrected its credentials and waits for the result."""
    parked = parked_receipts.c
    is_waiting = (parked.source_id == source_id) & (parked.state == ReceiptState.UNVERIFIED)
    connection.execute(update(parked_receipts).where(is_waiting).values(available_at=func.now()))


def _is_unverified(receipt_ids: Sequence[UUID]) -> ColumnElement[bool]:
    parked = parked_receipts.c
    return is_any(parked.receipt_id, receipt_ids) & (parked.state == ReceiptState.UNVERIFIED)
