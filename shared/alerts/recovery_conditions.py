"""Conditions of what providers could not deliver, and of asking them for it."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from shared.alerts.conditions import IN_SERVICE, Asked, Counted, bounded_parameters, parameters
from shared.counters.store import GREATEST


class GivenUp(NamedTuple):
    """Failed deliveries of a source that were given up, how many events they had, and why one of them was."""

    number: int
    source_id: int
    source: str
    deliveries: int
    events: int
    reason: str


class Unasked(NamedTuple):
    """A source whose provider could not be asked what it could not deliver, so many times in a row."""

    source_id: int
    source: str
    failures: int
    error: str


_RECONCILED = f"""
SELECT number, s.id, s.slug, sum(new_events)::int8, {GREATEST.format(name="receipt_id")}
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN sources AS s ON {IN_SERVICE}
JOIN failed_deliveries AS f ON f.source_id = s.id AND new_events > 0 AND last_attempt_at >= asked.since
GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

_GIVEN_UP = f"""
SELECT number, s.id, s.slug, count(*), sum(events)::int8, max(last_error)
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN failed_deliveries AS f ON state = 'given_up' AND given_up_at >= asked.since
JOIN sources AS s ON s.id = source_id AND {IN_SERVICE}
WHERE given_up_at >= %(earliest)s GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

# Without an error there is nothing to ask by now, however it went before.
_UNASKED = """
SELECT s.id, s.slug, failures, last_error FROM reconciliations JOIN sources AS s ON s.id = source_id
WHERE failures > 0 AND last_error IS NOT NULL AND deleted_at IS NULL ORDER BY s.slug
"""


def reconciled(connection: Connection, asked: Sequence[Asked]) -> list[Counted]:
    """Events that reconciliation brought in, because they had been missing."""
    return [Counted(*row) for row in connection.exec_driver_sql(_RECONCILED, parameters(asked))]


def given_up(connection: Connection, asked: Sequence[Asked]) -> list[GivenUp]:
    """What providers could not deliver, and nobody tries to recover any more."""
    return [GivenUp(*row) for row in connection.exec_driver_sql(_GIVEN_UP, bounded_parameters(asked))]


def unasked(connection: Connection) -> list[Unasked]:
    """The sources whose provider could not be asked the last time."""
    return [Unasked(*row) for row in connection.exec_driver_sql(_UNASKED)]
