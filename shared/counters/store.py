"""Events counted by the minute in which they happened: what alert rules are judged by, instead of the events.

They are counted in the statement that keeps the events (`shared.messages.store`), so that each counts once, whatever is
repeated. What is processed again is not counted again: it goes another way.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.alerts.rules import Per
from shared.rules.model import Tally
from shared.vocabulary import EventType

REFUSALS = "refusals"
"""The dimension of requests that were refused, or rejected later, counted by reason."""

PER_MINUTE_FOR = timedelta(hours=2)
"""So long events are counted by the minute; what is older is by the hour."""

KEPT_FOR = timedelta(days=8)
"""So long counts are kept at all: a day more than the longest window."""

_LONGEST_GAP = timedelta(hours=1)
_LISTED_LATE = timedelta(minutes=2)

_SHARDS = 64
"""A worker's connection writes rows of its own, as far as this goes, so that none waits for another."""

_REFUSED, _REJECTED = 0, 1
"""Of the dimension of refusals these two shards are written: what is counted anew, and what is added."""

_DOMAIN_OF = "CASE WHEN strpos({name}, '@') > 0 THEN nullif(lower(split_part({name}, '@', -1)), '') END"

# The domain that a DNS error is about is one that mail is sent from, although no message is named.
_VALUES = {
    Per.TENANT: "tenant",
    Per.SENDER_DOMAIN: f"CASE type WHEN '{EventType.DOMAIN_DNS_ERROR}'"
    f" THEN lower(data::json->'details'->>'domain') ELSE {_DOMAIN_OF.format(name='sender')} END",
    Per.RECIPIENT_DOMAIN: _DOMAIN_OF.format(name="recipient"),
}
_CASES = " ".join(f"WHEN '{dimension}' THEN {value}" for dimension, value in _VALUES.items())

_ADD_UP = """
    ON CONFLICT (dimension, minute, source_id, value, type, shard) DO UPDATE SET
        count = c.count + excluded.count, last_event_id = greatest(c.last_event_id, excluded.last_event_id)
"""
GREATEST = 'max({name}::text COLLATE "C")::uuid'
"""The greatest of ids; PostgreSQL has no max() of them."""

# Counts the rows of `new` as far as the parameters say. Their order keeps workers that share a shard from deadlocks.
TALLIED = f"""
tallied AS (
    INSERT INTO minute_counts AS c (dimension, minute, source_id, value, type, shard, count, last_event_id)
    SELECT dimension, minute, source_id, left(value, 255), type, mod(pg_backend_pid(), {_SHARDS}), count(*),
        {GREATEST.format(name="id")}
    FROM (
        SELECT dimension, date_trunc('minute', least(occurred_at, received_at)) AS minute, source_id,
            CASE dimension {_CASES} ELSE '' END AS value, type, id
        FROM new JOIN unnest(%(tally_dimensions)b::text[], %(tally_types)b::text[]) AS wanted (dimension, type)
            USING (type)
        WHERE occurred_at > now() - interval '7 days'
    ) AS one_by_one
    WHERE value IS NOT NULL
    GROUP BY dimension, minute, source_id, left(value, 255), type
    ORDER BY dimension, minute, source_id, left(value, 255), type
    {_ADD_UP}
)"""

# A row that a worker adds to an hour that was merged is merged the next time.
_MERGE = f"""
WITH old AS (
    DELETE FROM minute_counts
    WHERE dimension = ANY(%(dimensions)s) AND minute < %(before)s
        AND (minute <> date_trunc('hour', minute) OR shard <> 0)
    RETURNING *
)
INSERT INTO minute_counts AS c (dimension, minute, source_id, value, type, shard, count, last_event_id)
SELECT dimension, date_trunc('hour', minute), source_id, value, type, 0, sum(count),
    {GREATEST.format(name="last_event_id")}
FROM old GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
{_ADD_UP}
"""

# Refusals are not counted as they happen, but looked up; so the same minute can be counted again.
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

_DIMENSIONS = ["", *_VALUES, REFUSALS]


def begin(now: datetime, window_minutes: int) -> datetime:
    """From which count on a window reaches until now. A long one begins at a full hour: up to an hour earlier."""
    since = (now - timedelta(minutes=window_minutes)).replace(second=0, microsecond=0)
    return since if timedelta(minutes=window_minutes) <= PER_MINUTE_FOR else since.replace(minute=0)


def parameters(tallies: Sequence[Tally]) -> dict[str, list[str]]:
    """What the statement that counts has to be told."""
    return {
        "tally_dimensions": [tally.dimension for tally in tallies],
        "tally_types": [tally.type for tally in tallies],
    }


def count_refusals(connection: Connection, now: datetime) -> None:
    """Count what was refused since it was counted last, at most an hour back.

    The last minutes are counted anew each time: receivers list a refusal some moments after it happened.
    """
    last = connection.exec_driver_sql(
        "SELECT max(minute) FROM minute_counts WHERE dimension = %(refusals)s AND minute > %(oldest)s"
        f" AND shard = {_REFUSED}",
        {"refusals": REFUSALS, "oldest": now - _LONGEST_GAP},
    ).scalar()
    begin = (last or now - _LONGEST_GAP) - _LISTED_LATE
    begin = begin.replace(second=0, microsecond=0)
    connection.exec_driver_sql(_COUNT_REFUSALS, {"refusals": REFUSALS, "first": ids.first_at(begin)})


def count_rejection(connection: Connection, source_id: int, receipt_id: UUID, reason: str) -> None:
    """Count a request that was kept apart, and turned out not to be its provider's, as one that was refused now."""
    connection.exec_driver_sql(
        _COUNT_REJECTION, {"refusals": REFUSALS, "source_id": source_id, "id": receipt_id, "reason": reason}
    )


def merge(connection: Connection, now: datetime) -> int:
    """Add up by the hour what is older than two hours; return how many rows were left of what was added up."""
    before = (now - PER_MINUTE_FOR).replace(minute=0, second=0, microsecond=0)
    return connection.exec_driver_sql(_MERGE, {"dimensions": _DIMENSIONS, "before": before}).rowcount


def forget(connection: Connection, now: datetime) -> int:
    """Let go of what no rule looks at any more; return how many rows went."""
    return connection.exec_driver_sql(
        "DELETE FROM minute_counts WHERE dimension = ANY(%(dimensions)s) AND minute < %(oldest)s",
        {"dimensions": _DIMENSIONS, "oldest": now - KEPT_FOR},
    ).rowcount
