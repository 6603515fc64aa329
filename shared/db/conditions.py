"""What alert rules are judged by, read from counts and queues: one statement for all rules of a kind.

None of them looks at events, and each is bounded: by the rows of a window, or by a limit of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared.db.counts import GREATEST, REFUSALS

MOST_MESSAGES = 1000
"""Silent messages of one source are counted no further."""

_IN_SERVICE = "s.deleted_at IS NULL AND (asked.sources IS NULL OR s.slug = ANY(asked.sources))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a rule wants to know. `number` tells it from the others; `sources` are names, None for all."""

    number: int
    since: datetime
    sources: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedShare(Asked):
    """Events of some types since a moment, among those of others, for each value of `dimension`.

    `per` is one of `shared.domain.alert_rules.Per`. Left out is what has fewer than `least_events`, or a smaller
    share than `least_percent`, but for the subjects that are `firing`.
    """

    per: str
    dimension: str
    events: Sequence[str]
    volume: Sequence[str]
    least_events: float
    least_percent: float
    firing: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRefusals(Asked):
    """Refused requests since a moment, beside those of the 24 hours before it: what is usual.

    `usual_until` has, by the name of a source, an earlier end of these 24 hours, where there is one.
    """

    usual_until: Mapping[str, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedWait(Asked):
    """Messages announced since a moment, and before another."""

    until: datetime


class Share(NamedTuple):
    """How many events there were of how many; `source_id` is None where several sources take part.

    `last_event_id` is of one in the latest minute that has any.
    """

    number: int
    subject: str
    source_id: int | None
    source: str | None
    events: int
    volume: int
    last_event_id: UUID | None


class Silence(NamedTuple):
    """When a source was heard of last, and how many events it had brought in the 24 hours before.

    `last_event_id` is None where it was heard of just now (`is_quiet` is False), or not for days.
    """

    source_id: int
    source: str
    is_quiet: bool
    last_event_id: UUID | None
    events: int


class Waiting(NamedTuple):
    """Messages of a source of which nothing was heard; at most MOST_MESSAGES are counted."""

    number: int
    source_id: int
    source: str
    messages: int
    oldest_at: datetime
    oldest_id: UUID


class Refused(NamedTuple):
    """Requests that a source was refused in the window, and in the 24 hours that tell what is usual."""

    number: int
    source_id: int
    source: str
    requests: int
    before: int


class Counted(NamedTuple):
    """How many there are of something, for a source, and the latest of them."""

    number: int
    source_id: int
    source: str
    amount: int
    last_id: UUID


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


# What is counted is added up once for all rules that look at the same of it, then shared out. Only for what is told of
# the latest event is looked for.
_SHARES = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(asked)s::jsonb) AS given (number int, since timestamptz, sources text[],
        per text, dimension text, events text[], volume text[], least_events float8, least_percent float8,
        firing text[])
),
windows AS MATERIALIZED (
    SELECT dimension, since, array_agg(DISTINCT name) AS types
    FROM asked CROSS JOIN unnest(events || volume) AS name GROUP BY dimension, since
),
summed AS MATERIALIZED (
    SELECT dimension, since, of_window.* FROM windows CROSS JOIN LATERAL (
        SELECT source_id, value, type, sum(count) AS count FROM minute_counts AS c
        WHERE c.dimension = windows.dimension AND minute >= since AND type = ANY(types)
        GROUP BY source_id, value, type
    ) AS of_window
),
found AS (
    SELECT asked.number, CASE per WHEN 'all' THEN '' WHEN 'source' THEN s.slug ELSE value END AS subject,
        min(value) AS value, array_agg(DISTINCT source_id) AS source_ids, min(s.slug) AS source,
        coalesce(sum(count) FILTER (WHERE type = ANY(events)), 0)::int8 AS events,
        coalesce(sum(count) FILTER (WHERE type = ANY(volume)), 0)::int8 AS volume
    FROM asked JOIN summed USING (dimension, since) JOIN sources AS s ON s.id = source_id AND {_IN_SERVICE}
    WHERE type = ANY(events || volume)
    GROUP BY 1, 2
)
SELECT number, subject, CASE WHEN cardinality(source_ids) = 1 THEN source_ids[1] END,
    CASE WHEN cardinality(source_ids) = 1 THEN source END, found.events, found.volume, last_event_id
FROM found JOIN asked USING (number) LEFT JOIN LATERAL (
    SELECT last_event_id FROM minute_counts AS c
    WHERE c.dimension = asked.dimension AND minute >= asked.since AND source_id = ANY(source_ids)
        AND c.value = found.value AND type = ANY(asked.events)
    ORDER BY minute DESC LIMIT 1
) AS latest ON true
WHERE (found.events >= least_events AND 100.001 * found.events >= least_percent * found.volume)
    OR subject = ANY(firing)
ORDER BY number, found.events DESC, subject
"""

# Of those that are heard of now and then only the recent counts are read.
_SILENCES = f"""
WITH heard AS (SELECT DISTINCT source_id FROM minute_counts WHERE dimension = '' AND minute > %(since)s),
quiet AS MATERIALIZED (
    SELECT id FROM sources WHERE deleted_at IS NULL AND id NOT IN (SELECT source_id FROM heard)
),
last AS MATERIALIZED (
    SELECT source_id, {GREATEST.format(name="last_event_id")} AS event_id, max(minute) AS minute FROM minute_counts
    WHERE dimension = '' AND minute <= %(since)s AND source_id IN (SELECT id FROM quiet) GROUP BY source_id
),
busy AS (
    SELECT c.source_id, sum(count) AS events FROM last JOIN minute_counts AS c USING (source_id)
    WHERE dimension = '' AND c.minute > last.minute - interval '1 day' GROUP BY c.source_id
)
SELECT s.id, s.slug, quiet.id IS NOT NULL, event_id, coalesce(events, 0)::int8
FROM sources AS s LEFT JOIN quiet ON quiet.id = s.id LEFT JOIN last ON last.source_id = s.id
LEFT JOIN busy ON busy.source_id = s.id
WHERE s.deleted_at IS NULL ORDER BY s.slug
"""

_WAITS = f"""
SELECT number, s.id, s.slug, messages, oldest_at, oldest_id
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[], until timestamptz)
JOIN sources AS s ON {_IN_SERVICE}
CROSS JOIN LATERAL (
    SELECT count(*) AS messages, min(submitted_at) AS oldest_at, (array_agg(id ORDER BY submitted_at))[1] AS oldest_id
    FROM (
        SELECT id, submitted_at FROM messages WHERE source_id = s.id AND first_event_at = 'infinity'
            AND submitted_at >= asked.since AND submitted_at < asked.until ORDER BY submitted_at LIMIT {MOST_MESSAGES}
    ) AS first
) AS waiting
WHERE messages > 0 ORDER BY number, s.slug
"""

_REFUSED = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(asked)s::jsonb)
        AS given (number int, since timestamptz, sources text[], usual_until jsonb)
),
concerned AS MATERIALIZED (
    SELECT number, id, slug, since, coalesce((usual_until->>slug)::timestamptz, since) AS usual_until
    FROM asked JOIN sources AS s ON {_IN_SERVICE}
)
SELECT number, id, slug, coalesce(sum(count) FILTER (WHERE minute >= since), 0)::int8,
    coalesce(sum(count) FILTER (WHERE minute < usual_until), 0)::int8
FROM concerned JOIN minute_counts AS c ON source_id = id AND minute >= usual_until - interval '1 day'
WHERE dimension = '{REFUSALS}' AND minute >= (SELECT min(usual_until) FROM concerned) - interval '1 day'
    AND type = ANY(%(reasons)s) GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

_DEAD = f"""
SELECT number, s.id, s.slug, count(*), {GREATEST.format(name="receipt_id")}
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN parked_receipts AS p ON state = 'dead' AND NOT reprocess AND parked_at >= asked.since
JOIN sources AS s ON s.id = source_id AND {_IN_SERVICE}
WHERE parked_at >= %(earliest)s GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

_RECONCILED = f"""
SELECT number, s.id, s.slug, sum(new_events)::int8, {GREATEST.format(name="receipt_id")}
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN sources AS s ON {_IN_SERVICE}
JOIN failed_deliveries AS f ON f.source_id = s.id AND new_events > 0 AND last_attempt_at >= asked.since
GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

_GIVEN_UP = f"""
SELECT number, s.id, s.slug, count(*), sum(events)::int8, max(last_error)
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN failed_deliveries AS f ON state = 'given_up' AND given_up_at >= asked.since
JOIN sources AS s ON s.id = source_id AND {_IN_SERVICE}
WHERE given_up_at >= %(earliest)s GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

# Without an error there is nothing to ask by now, however it went before.
_UNASKED = """
SELECT s.id, s.slug, failures, last_error FROM reconciliations JOIN sources AS s ON s.id = source_id
WHERE failures > 0 AND last_error IS NOT NULL AND deleted_at IS NULL ORDER BY s.slug
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


def shares(connection: Connection, asked: Sequence[AskedShare]) -> list[Share]:
    """What events there were, for each subject of each rule."""
    return [Share(*row) for row in connection.exec_driver_sql(_SHARES, _json(asked))]


def silences(connection: Connection, since: datetime) -> list[Silence]:
    """Which sources have brought nothing that happened since, for every source in service."""
    return [Silence(*row) for row in connection.exec_driver_sql(_SILENCES, {"since": since})]


def waits(connection: Connection, asked: Sequence[AskedWait]) -> list[Waiting]:
    """Announced messages of which nothing was heard."""
    return [Waiting(*row) for row in connection.exec_driver_sql(_WAITS, _json(asked))]


def refused(connection: Connection, asked: Sequence[AskedRefusals], reasons: Sequence[str]) -> list[Refused]:
    """Requests that were refused for these reasons, as far as they have been counted."""
    return [Refused(*row) for row in connection.exec_driver_sql(_REFUSED, {**_json(asked), "reasons": list(reasons)})]


def dead(connection: Connection, asked: Sequence[Asked]) -> list[Counted]:
    """Receipts that were set aside as dead, but for those that were processed again: that is no news."""
    return [Counted(*row) for row in connection.exec_driver_sql(_DEAD, _bounded(asked))]


def reconciled(connection: Connection, asked: Sequence[Asked]) -> list[Counted]:
    """Events that reconciliation brought in, because they had been missing."""
    return [Counted(*row) for row in connection.exec_driver_sql(_RECONCILED, _json(asked))]


def given_up(connection: Connection, asked: Sequence[Asked]) -> list[GivenUp]:
    """What providers could not deliver, and nobody tries to recover any more."""
    return [GivenUp(*row) for row in connection.exec_driver_sql(_GIVEN_UP, _bounded(asked))]


def unasked(connection: Connection) -> list[Unasked]:
    """The sources whose provider could not be asked the last time."""
    return [Unasked(*row) for row in connection.exec_driver_sql(_UNASKED)]


def oldest_unverified(connection: Connection) -> list[Unverified]:
    """The request that has waited longest to be verified, for every source that has any."""
    return [Unverified(*row) for row in connection.exec_driver_sql(_UNVERIFIED)]


def oldest_pending(connection: Connection) -> Pending | None:
    """The receipt that has waited longest, but for those that are processed again. None where none waits."""
    row = connection.exec_driver_sql(_PENDING).one_or_none()
    return Pending(*row) if row else None


def _bounded(asked: Sequence[Asked]) -> dict[str, Any]:
    """What is asked, and a bound on all of it: only by a value of its own is a narrow index chosen."""
    return {**_json(asked), "earliest": min(one.since for one in asked)}


def _json(asked: Sequence[Asked]) -> dict[str, str]:
    return {"asked": msgspec.json.encode(asked).decode()}
