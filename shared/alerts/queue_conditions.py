"""Conditions of what waits: announced messages, and receipts; also of receipts that are dead."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.alerts.conditions import IN_SERVICE, Asked, Counted, bounded_parameters, parameters
from shared.counters.store import GREATEST

MOST_MESSAGES = 1000
"""Silent messages of one source are counted no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedWait(Asked):
    """Messages announced since a moment, and before another."""

    until: datetime


class Waiting(NamedTuple):
    """Messages of a source of which nothing was heard; at most MOST_MESSAGES are counted."""

    number: int
    source_id: int
    source: str
    messages: int
    oldest_at: datetime
    oldest_id: UUID


class Unverified(NamedTuple):
    """The request to a source that has waited longest to be verified, and why it was kept apart."""

    source_id: int
    source: str
    receipt_id: UUID
    reason: str


class Pending(NamedTuple):
    """The receipt that has waited longest, how often it was tried, and since when it may be."""

    receipt_id: UUID
    source: str
    attempts: int
    available_at: datetime


_WAITS = f"""
SELECT number, s.id, s.slug, messages, oldest_at, oldest_id
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[], until timestamptz)
JOIN sources AS s ON {IN_SERVICE}
CROSS JOIN LATERAL (
    SELECT count(*) AS messages, min(submitted_at) AS oldest_at, (array_agg(id ORDER BY submitted_at))[1] AS oldest_id
    FROM (
        SELECT id, submitted_at FROM messages WHERE source_id = s.id AND first_event_at = 'infinity'
            AND submitted_at >= asked.since AND submitted_at < asked.until ORDER BY submitted_at LIMIT {MOST_MESSAGES}
    ) AS first
) AS waiting
WHERE messages > 0 ORDER BY number, s.slug
"""

_DEAD = f"""
SELECT number, s.id, s.slug, count(*), {GREATEST.format(name="receipt_id")}
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN parked_receipts AS p ON state = 'dead' AND NOT reprocess AND parked_at >= asked.since
JOIN sources AS s ON s.id = source_id AND {IN_SERVICE}
WHERE parked_at >= %(earliest)s GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

_UNVERIFIED = """
SELECT s.id, s.slug, receipt_id, reason FROM sources AS s CROSS JOIN LATERAL (
    SELECT receipt_id, reason FROM parked_receipts WHERE source_id = s.id AND state = 'unverified'
    ORDER BY receipt_id LIMIT 1
) AS oldest WHERE deleted_at IS NULL ORDER BY s.slug
"""

_PENDING = """
SELECT receipt_id, slug, attempts, available_at FROM (
    SELECT receipt_id, source_id, attempts, available_at FROM pending_receipts
    WHERE NOT reprocess ORDER BY receipt_id LIMIT 1
) AS oldest JOIN sources ON sources.id = source_id
"""


def waits(connection: Connection, asked: Sequence[AskedWait]) -> list[Waiting]:
    """Announced messages of which nothing was heard."""
    return [Waiting(*row) for row in connection.exec_driver_sql(_WAITS, parameters(asked))]


def dead(connection: Connection, asked: Sequence[Asked]) -> list[Counted]:
    """Receipts that were set aside as dead, but for those that were processed again: that is no news."""
    return [Counted(*row) for row in connection.exec_driver_sql(_DEAD, bounded_parameters(asked))]


def oldest_unverified(connection: Connection) -> list[Unverified]:
    """The request that has waited longest to be verified, for every source that has any."""
    return [Unverified(*row) for row in connection.exec_driver_sql(_UNVERIFIED)]


def oldest_pending(connection: Connection) -> Pending | None:
    """The receipt that has waited longest, but for those that are processed again. None where none waits."""
    row = connection.exec_driver_sql(_PENDING).one_or_none()
    return Pending(*row) if row else None
