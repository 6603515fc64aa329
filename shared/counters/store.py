"""Counters of events by minute, which alert rules read instead of the events.

The statement that stores events counts them (`shared.messages.store`), so each event counts once even if repeated.
Reprocessed events are not counted again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, and_, delete, func, or_, select

from shared import ids
from shared.counters.tables import minute_counts
from shared.postgres import arrays
from shared.vocabulary import EventType, Per, SetAsideReason

EVERYTHING = ""
"""The dimension of all events of a source. They are always counted."""

REFUSALS = "refusals"
"""The dimension of requests that were refused, or rejected from quarantine later. `type` is the reason."""

SET_ASIDE = "set_aside"
"""The dimension of events that were set aside. `value` is the reason; the counts of all time are kept."""

MASS_FAILURES = "mass_failures"
"""The dimension of recipients that failed with many others of their domain. `type` is the classification."""

RECEIVED = "received"
"""The dimension of webhooks that a receiver has stored, repetitions not counted."""

DELIVERIES = "deliveries"
"""The dimension of attempts to deliver. `type` is the result."""

PER_MINUTE_FOR = timedelta(hours=2)
"""Older counters are merged into hours."""

RETENTION = timedelta(days=8)
"""A day longer than the longest window of a rule. Then counters are deleted, or merged into days for the figures."""

KEPT_BY_DAY = timedelta(days=400)

_MAX_LOOKBACK = timedelta(hours=1)
_STORE_DELAY = timedelta(minutes=2)
"""Receivers store a refusal some moments after it happened, so the last minutes are counted again."""

_SHARDS = 64
"""Connections write to different rows, as far as this number allows, so that workers do not wait for each other."""

_REFUSED, _REJECTED = 0, 1
"""The two shards of refusals: one is counted again and replaced, the other is added to."""

_DOMAIN_OF = "CASE WHEN strpos({name}, '@') > 0 THEN nullif(lower(split_part({name}, '@', -1)), '') END"

# The domain of a DNS error is a sender domain, although the event names no message.
_VALUES = {
    Per.TENANT: "tenant",
    Per.SENDER_DOMAIN: f"CASE type WHEN '{EventType.DOMAIN_DNS_ERROR}'"
    f" THEN lower(data::json->'details'->>'domain') ELSE {_DOMAIN_OF.format(name='sender')} END",
    Per.RECIPIENT_DOMAIN: _DOMAIN_OF.format(name="recipient"),
}
_REASON = f"coalesce(data::json->'details'->>'set_aside', '{SetAsideReason.UNKNOWN_KIND}')"
_CASES = " ".join(f"WHEN '{dimension}' THEN {value}" for dimension, value in _VALUES.items())
_CASES += f" WHEN '{SET_ASIDE}' THEN {_REASON}"

_ADD_UP = """
    ON CONFLICT (dimension, minute, source_id, value, type, shard) DO UPDATE SET
        count = c.count + excluded.count, last_event_id = greatest(c.last_event_id, excluded.last_event_id)
"""
GREATEST = 'max({name}::text COLLATE "C")::uuid'
"""The greatest UUID; PostgreSQL has no max() of UUIDs."""

# Counts the rows of `new`; those that were set aside by the time of their arrival, because a person must look at them
# however old they are. Text: a part of the hot statement that applies events. Inserting in one order prevents
# deadlocks of workers that share a shard.
TALLIED = f"""
tallied AS (
    INSERT INTO minute_counts AS c (dimension, minute, source_id, value, type, shard, count, last_event_id)
    SELECT dimension, minute, source_id, left(value, 255), type, mod(pg_backend_pid(), {_SHARDS}), count(*),
        {GREATEST.format(name="id")}
    FROM (
        SELECT dimension, date_trunc('minute', CASE type WHEN '{EventType.UNKNOWN}' THEN received_at
                ELSE least(occurred_at, received_at) END) AS minute, source_id,
            CASE dimension {_CASES} ELSE '' END AS value, type, id
        FROM new JOIN unnest(%(tally_dimensions)b::text[], %(tally_types)b::text[]) AS wanted (dimension, type)
            USING (type)
        WHERE occurred_at > now() - interval '7 days' OR type = '{EventType.UNKNOWN}'
    ) AS one_by_one
    WHERE value IS NOT NULL
    GROUP BY dimension, minute, source_id, left(value, 255), type
    ORDER BY dimension, minute, source_id, left(value, 255), type
    {_ADD_UP}
)"""

# Text: one statement moves the rows. A row that a worker adds to a merged hour is merged the next time.
_MERGE_TO = f"""
WITH old AS (
    DELETE FROM minute_counts
    WHERE dimension = ANY(%(dimensions)s) AND minute < %(before)s
        AND (minute <> {{to}} OR shard <> 0)
    RETURNING *
)
INSERT INTO minute_counts AS c (dimension, minute, source_id, value, type, shard, count, last_event_id)
SELECT dimension, {{to}}, source_id, value, type, 0, sum(count),
    {GREATEST.format(name="last_event_id")}
FROM old GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
{_ADD_UP}
"""

_MERGE = _MERGE_TO.format(to="date_trunc('hour', minute)")
_MERGE_BY_DAY = _MERGE_TO.format(to="date_trunc('day', minute, 'UTC')")
_MERGE_FOR_GOOD = _MERGE_TO.format(to="'epoch'::timestamptz")

# Refusals are counted from their table, not as they happen. So the same minute can be counted again.
_COUNT_REFUSALS = f"""
INSERT INTO minute_counts AS c (dimension, minute, source_id, value, type, shard, count, last_event_id)
SELECT %(refusals)s, date_trunc('minute', refused_at), coalesce(s.id, 0), '', reason, {_REFUSED}, sum(count),
    {GREATEST.format(name="r.id")}
FROM refusals AS r LEFT JOIN sources AS s ON s.slug = r.source
WHERE r.id >= %(first)s GROUP BY 2, 3, 5 ORDER BY 2, 3, 5
ON CONFLICT (dimension, minute, source_id, value, type, shard) DO UPDATE SET
    count = excluded.count, last_event_id = excluded.last_event_id
"""

_COUNT_REJECTION = f"""
INSERT INTO minute_counts AS c (dimension, minute, source_id, value, type, shard, count, last_event_id)
VALUES (%(refusals)s, date_trunc('minute', now()), %(source_id)s, '', %(reason)s, {_REJECTED}, 1, %(id)s)
{_ADD_UP}
"""

_COUNT_MASS_FAILURES = f"""
INSERT INTO minute_counts AS c (dimension, minute, source_id, value, type, shard, count, last_event_id)
SELECT %(mass_failures)s, date_trunc('minute', %(now)s::timestamptz), source_id, left(domain, 255), classification, 0,
    count(*), {GREATEST.format(name="event_id")}
FROM unnest(%(domain)b::text[], %(classification)b::text[], %(source_id)b::bigint[], %(event_id)b::uuid[])
    AS failed (domain, classification, source_id, event_id)
GROUP BY source_id, domain, classification ORDER BY source_id, domain, classification
{_ADD_UP}
"""

_ADDED_TYPES = {"dimension": "text", "minute": "timestamptz", "source_id": "bigint", "type": "text", "count": "integer"}
_ADD_BY_MINUTE = f"""
INSERT INTO minute_counts AS c (dimension, minute, source_id, value, type, shard, count, last_event_id)
SELECT dimension, minute, source_id, '', type, mod(pg_backend_pid(), {_SHARDS}), count, '{UUID(int=0)}'
FROM (SELECT {arrays.unnest(_ADDED_TYPES)}) AS counted
{_ADD_UP}
"""

_OF_FIGURES = [EVERYTHING, REFUSALS, RECEIVED, DELIVERIES]
_DIMENSIONS = [*_OF_FIGURES, *_VALUES, MASS_FAILURES]


class Tally(NamedTuple):
    """A counter: events of one type, for each value of a dimension ('' or one of `Per`)."""

    dimension: str
    type: EventType


def dimension_of(per: Per) -> str:
    """Return the dimension by which events are counted for a rule."""
    return EVERYTHING if per in (Per.ALL, Per.SOURCE) else str(per)


def window_start(now: datetime, window_minutes: int) -> datetime:
    """Return where a window that ends now begins. A long one begins at a full hour, up to an hour earlier."""
    since = (now - timedelta(minutes=window_minutes)).replace(second=0, microsecond=0)
    return since if timedelta(minutes=window_minutes) <= PER_MINUTE_FOR else since.replace(minute=0)


def parameters(tallies: Sequence[Tally]) -> dict[str, list[str]]:
    """Return the parameters of `TALLIED`."""
    return {
        "tally_dimensions": [tally.dimension for tally in tallies],
        "tally_types": [tally.type for tally in tallies],
    }


def count_refusals(connection: Connection, now: datetime) -> None:
    """Count the refusals since the last time, at most of the last hour."""
    last = connection.execute(
        select(func.max(minute_counts.c.minute)).where(
            minute_counts.c.dimension == REFUSALS,
            minute_counts.c.minute > now - _MAX_LOOKBACK,
            minute_counts.c.shard == _REFUSED,
        )
    ).scalar_one()
    begin = ((last or now - _MAX_LOOKBACK) - _STORE_DELAY).replace(second=0, microsecond=0)
    connection.exec_driver_sql(_COUNT_REFUSALS, {"refusals": REFUSALS, "first": ids.first_at(begin)})


def count_rejection(connection: Connection, source_id: int, receipt_id: UUID, reason: str) -> None:
    """Count a request that was rejected from quarantine as one that was refused now."""
    connection.exec_driver_sql(
        _COUNT_REJECTION, {"refusals": REFUSALS, "source_id": source_id, "id": receipt_id, "reason": reason}
    )


def count_mass_failures(connection: Connection, now: datetime, failed: Sequence[tuple[str, str, int, UUID]]) -> None:
    """Count recipients that failed with many others: domain, classification, source and event of each."""
    names = ("domain", "classification", "source_id", "event_id")
    columns = dict(zip(names, map(list, zip(*failed, strict=True)), strict=True))
    connection.exec_driver_sql(_COUNT_MASS_FAILURES, {"mass_failures": MASS_FAILURES, "now": now, **columns})


def merge(connection: Connection, now: datetime) -> int:
    """Merge counters that are older than two hours into hours; return the number of rows written."""
    before = (now - PER_MINUTE_FOR).replace(minute=0, second=0, microsecond=0)
    return connection.exec_driver_sql(_MERGE, {"dimensions": [*_DIMENSIONS, SET_ASIDE], "before": before}).rowcount


def add_by_minute(connection: Connection, counted: Mapping[tuple[str, datetime, int, str], int]) -> None:
    """Add to counters, by dimension, minute, id of the source (or 0) and type. The order prevents deadlocks."""
    rows = [(*key, number) for key, number in sorted(counted.items())]
    connection.exec_driver_sql(_ADD_BY_MINUTE, arrays.columns(_ADDED_TYPES, rows))


def delete_expired(connection: Connection, now: datetime) -> int:
    """Delete counters that nothing reads any more; return the number of rows deleted.

    Those of the figures are merged into days and deleted after 400. Those of events that were set aside are added up
    in the end instead: a metric has them, and never decreases.
    """
    oldest = now.replace(hour=0, minute=0, second=0, microsecond=0) - RETENTION
    connection.exec_driver_sql(_MERGE_BY_DAY, {"dimensions": [*_OF_FIGURES, SET_ASIDE], "before": oldest})
    connection.exec_driver_sql(_MERGE_FOR_GOOD, {"dimensions": [SET_ASIDE], "before": now - KEPT_BY_DAY})
    counts = minute_counts.c
    of_rules = and_(counts.dimension.in_(set(_DIMENSIONS) - set(_OF_FIGURES)), counts.minute < now - RETENTION)
    of_figures = and_(counts.dimension.in_(_OF_FIGURES), counts.minute < now - KEPT_BY_DAY)
    return connection.execute(delete(minute_counts).where(or_(of_rules, of_figures))).rowcount
