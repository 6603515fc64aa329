"""Conditions told from counts: of events, and of requests that were refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.alerts.conditions import IN_SERVICE, Asked, parameters
from shared.counters.store import GREATEST, REFUSALS


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedShare(Asked):
    """Events of some types since a moment, among those of others, for each value of `dimension`.

    `per` is one of `shared.alerts.rules.Per`. Left out is what has fewer than `least_events`, or a smaller
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


class Refused(NamedTuple):
    """Requests that a source was refused in the window, and in the 24 hours that tell what is usual."""

    number: int
    source_id: int
    source: str
    requests: int
    before: int


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
    FROM asked JOIN summed USING (dimension, since) JOIN sources AS s ON s.id = source_id AND {IN_SERVICE}
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

_REFUSED = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(asked)s::jsonb)
        AS given (number int, since timestamptz, sources text[], usual_until jsonb)
),
concerned AS MATERIALIZED (
    SELECT number, id, slug, since, coalesce((usual_until->>slug)::timestamptz, since) AS usual_until
    FROM asked JOIN sources AS s ON {IN_SERVICE}
)
SELECT number, id, slug, coalesce(sum(count) FILTER (WHERE minute >= since), 0)::int8,
    coalesce(sum(count) FILTER (WHERE minute < usual_until), 0)::int8
FROM concerned JOIN minute_counts AS c ON source_id = id AND minute >= usual_until - interval '1 day'
WHERE dimension = '{REFUSALS}' AND minute >= (SELECT min(usual_until) FROM concerned) - interval '1 day'
    AND type = ANY(%(reasons)s) GROUP BY 1, 2, 3 ORDER BY 1, 3
"""


def shares(connection: Connection, asked: Sequence[AskedShare]) -> list[Share]:
    """What events there were, for each subject of each rule."""
    return [Share(*row) for row in connection.exec_driver_sql(_SHARES, parameters(asked))]


def silences(connection: Connection, since: datetime) -> list[Silence]:
    """Which sources have brought nothing that happened since, for every source in service."""
    return [Silence(*row) for row in connection.exec_driver_sql(_SILENCES, {"since": since})]


def refused(connection: Connection, asked: Sequence[AskedRefusals], reasons: Sequence[str]) -> list[Refused]:
    """Requests that were refused for these reasons, as far as they have been counted."""
    values = {**parameters(asked), "reasons": list(reasons)}
    return [Refused(*row) for row in connection.exec_driver_sql(_REFUSED, values)]
