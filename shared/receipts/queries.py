"""Receipts and refusals, as the API and the command line show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Text, cast, exists, select

from shared import ids
from shared.errors import TidingsError
from shared.messages import event_queries
from shared.messages.tables import events
from shared.postgres import stored_requests
from shared.postgres.metadata import is_any
from shared.postgres.pagination import KeysetQuery, Page, Position, Span
from shared.receipts.store import Refusal
from shared.receipts.tables import erased_receipts, parked_receipts, pending_receipts, receipts, refusals
from shared.sources.tables import sources
from shared.vocabulary import ReceiptState

_SEALED = "sealed:"
_WITHHELD = "(withheld)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """One receipt and its state. Times are ours; `bytes` is the length of its body.

    A pending receipt has `attempts` and `last_error`, one that is set aside `reason`, `detail` and `key_id`;
    `available_at` is when it is tried again. `reconciled`: the provider resent it at our request.
    `erased_at`: an erasure deleted its body and headers then, because they contained the address; `bytes` is 0.
    """

    id: UUID
    source: str
    state: ReceiptState
    received_at: datetime
    idempotency_key: str | None
    bytes: int
    attempts: int
    last_error: str | None
    reason: str | None
    detail: str | None
    key_id: str | None
    available_at: datetime | None
    remote_ip: str | None
    headers: Mapping[str, str]
    reconciled: bool
    erased_at: datetime | None


# Text, not an expression: it joins tables of packages that import this one.
_FACTS = """
SELECT r.id, s.slug AS source,
    CASE WHEN p.receipt_id IS NOT NULL THEN 'pending' ELSE coalesce(k.state, 'processed') END AS state,
    r.received_at, r.idempotency_key, coalesce(r.bytes, length(r.body), 0) AS bytes,
    coalesce(p.attempts, k.attempts, 0) AS attempts, p.last_error,
    k.reason, k.detail, k.key_id,
    coalesce(p.available_at, CASE k.state WHEN 'unverified' THEN k.available_at END) AS available_at,
    r.remote_ip, r.headers::text, r.content,
    EXISTS (SELECT FROM reconciled_receipts AS x WHERE x.receipt_id = r.id) AS reconciled,
    (SELECT erased_at FROM erased_receipts AS x WHERE x.receipt_id = r.id) AS erased_at
FROM receipts AS r JOIN sources AS s ON s.id = r.source_id
LEFT JOIN pending_receipts AS p ON p.receipt_id = r.id
LEFT JOIN parked_receipts AS k ON k.receipt_id = r.id AND p.receipt_id IS NULL
WHERE r.id = ANY(%(ids)s) ORDER BY r.id DESC
"""


def list_receipts(
    connection: Connection,
    *,
    source: str | None = None,
    state: ReceiptState | None = None,
    set_aside: bool = False,
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[ReceiptFacts]:
    """Return receipts, the newest first. `set_aside`: only those with events that changed nothing."""
    page = _list_ids(connection, source=source, state=state, set_aside=set_aside, span=span, after=after, limit=limit)
    # The state may differ with `set_aside`, which does not ask for it, and because it changed since.
    return Page([one for one in _get_all(connection, page.items) if state in (None, one.state)], page.next)


# Text, for the reason of `_FACTS`.
_REPROCESSABLE = """
SELECT r.id FROM receipts AS r LEFT JOIN parked_receipts AS k ON k.receipt_id = r.id
WHERE r.id = ANY(%(ids)s) AND coalesce(k.state, 'processed') = ANY(%(states)s)
    AND NOT EXISTS (SELECT FROM pending_receipts AS p WHERE p.receipt_id = r.id AND NOT p.reprocess)
ORDER BY r.id DESC
"""


def list_reprocessable(
    connection: Connection,
    *,
    source: str | None = None,
    state: ReceiptState | None = None,
    set_aside: bool = False,
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[UUID]:
    """Return the ids of receipts that may be processed again, the newest first; the filters are those of the list.

    Without a state these are the processed and the dead ones. Rejected ones may be forged, so the state must name
    them. Receipts that still wait for their first processing are left out: reprocessing does not count events.
    """
    states = [ReceiptState.PROCESSED, ReceiptState.DEAD] if state is None else [state]
    page = _list_ids(connection, source=source, state=state, set_aside=set_aside, span=span, after=after, limit=limit)
    rows = connection.exec_driver_sql(_REPROCESSABLE, {"ids": list(page.items), "states": list(map(str, states))})
    return Page([row[0] for row in rows], page.next)


def _list_ids(
    connection: Connection,
    *,
    source: str | None,
    state: ReceiptState | None,
    set_aside: bool,
    span: Span | None,
    after: Position | None,
    limit: int,
) -> Page[UUID]:
    match state:
        case _ if set_aside:
            table, key = events, events.c.id
        case None | ReceiptState.PROCESSED:
            table, key = receipts, receipts.c.id
        case ReceiptState.PENDING:
            table, key = pending_receipts, pending_receipts.c.receipt_id
        case _:
            table, key = parked_receipts, parked_receipts.c.receipt_id
    query = KeysetQuery(key)
    query.where(*(span or Span()).of_ids(key))
    if set_aside:
        query.where(events.c.type == event_queries.SET_ASIDE)
    elif state is ReceiptState.PROCESSED:
        query.filter(*(~exists().where(other.c.receipt_id == key) for other in (pending_receipts, parked_receipts)))
    elif table is parked_receipts:
        query.filter(parked_receipts.c.state == state)
    if source is not None:
        query.filter(table.c.source_id == select(sources.c.id).where(sources.c.slug == source).scalar_subquery())
    page = query.fetch(connection, after=after, limit=limit)
    found = [key for (key,) in page.items]
    if not set_aside:
        return Page(found, page.next)
    receipt_ids = list(dict.fromkeys(map(ids.receipt_of, found)))
    # Ids of events follow that of their receipt, so that the next page begins with another receipt.
    return Page(receipt_ids, (receipt_ids[-1],) if receipt_ids and page.next else page.next)


def get(connection: Connection, receipt_id: UUID) -> ReceiptFacts | None:
    """Return one receipt; None if there is no such receipt."""
    found = _get_all(connection, [receipt_id])
    return found[0] if found else None


def get_erasure_times(connection: Connection, receipt_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return when the bodies of these receipts were erased; without the receipts whose body is still stored."""
    columns = erased_receipts.c
    rows = connection.execute(
        select(columns.receipt_id, columns.erased_at).where(is_any(columns.receipt_id, receipt_ids))
    )
    return {row.receipt_id: row.erased_at for row in rows}


def list_event_ids(connection: Connection, receipt_id: UUID) -> list[UUID]:
    """Return the ids of a receipt's events, in the order of its body."""
    end = UUID(int=receipt_id.int + (1 << ids.EVENTS_PER_RECEIPT_BITS))
    statement = select(events.c.id).where(events.c.id > receipt_id, events.c.id < end).order_by(events.c.id)
    return list(connection.scalars(statement))


def list_refusals(
    connection: Connection,
    *,
    source: str | None = None,
    reason: str | None = None,
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Refusal]:
    """Return refusals, the newest first."""
    query = KeysetQuery(refusals.c.id)
    query.where(*(span or Span()).of_ids(refusals.c.id))
    if source is not None:
        query.filter(refusals.c.source == source)
    if reason is not None:
        query.filter(refusals.c.reason == reason)
    page = query.fetch(connection, after=after, limit=limit)
    columns = [cast(c, Text) if c is refusals.c.headers else c for c in refusals.c]
    statement = select(*columns).where(refusals.c.id.in_([key for (key,) in page.items])).order_by(refusals.c.id.desc())
    return Page([Refusal(**row) for row in connection.execute(statement).mappings()], page.next)


def _get_all(connection: Connection, receipt_ids: Sequence[UUID]) -> list[ReceiptFacts]:
    found = []
    for row in connection.exec_driver_sql(_FACTS, {"ids": list(receipt_ids)}).mappings():
        facts = dict(row)
        try:
            stored, _ = stored_requests.read(facts["headers"], None, facts.pop("content"))
        except TidingsError as error:  # a list must show the others too
            stored, facts["detail"] = "{}", str(error)
        headers = msgspec.json.decode(stored, type=dict[str, str])
        facts["headers"] = {n: _WITHHELD if text.startswith(_SEALED) else text for n, text in headers.items()}
        found.append(ReceiptFacts(**facts))
    return found
