"""Measures over time, from the counters by minute: what was received, happened to messages, and was delivered.

The counters are minutes for two hours, then hours for eight days, then days. No event, receipt or delivery is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Connection, Text, column, func, literal, select, table

from shared.counters import store
from shared.counters.tables import minute_counts
from shared.errors import InvalidFieldError
from shared.vocabulary import DeliveryStatus, EventType

# Only these columns are needed; the table belongs to a package that imports this one.
_sources = table("sources", column("id", BigInteger), column("slug", Text))


class Measure(StrEnum):
    """What a series counts."""

    RECEIVED = "received"
    REFUSED = "refused"
    EVENTS = "events"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    DEFERRED = "deferred"
    SET_ASIDE = "set_aside"
    DELIVERIES = "deliveries"
    DELIVERY_FAILURES = "delivery_failures"


class By(StrEnum):
    """How a measure is divided: one series for each source, type or outcome."""

    NONE = "none"
    SOURCE = "source"
    TYPE = "type"
    OUTCOME = "outcome"
    SOURCE_TYPE = "source_type"
    """The names are `source/type`."""


class Bucket(StrEnum):
    """The period of one value, in UTC."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """Return the length of the period."""
        return timedelta(**{f"{self}s": 1})


@dataclass(frozen=True, slots=True)
class Series:
    """The start of each bucket, and for each name a value for each bucket."""

    buckets: Sequence[datetime]
    values: Mapping[str, Sequence[int]]


_DIMENSIONS: Final[Mapping[Measure, tuple[str, tuple[str, ...]]]] = {
    Measure.RECEIVED: (store.RECEIVED, ()),
    Measure.REFUSED: (store.REFUSALS, ()),
    Measure.EVENTS: (store.EVERYTHING, ()),
    Measure.DELIVERED: (store.EVERYTHING, (EventType.DELIVERED,)),
    # As a bounce rate counts them: a failure is a bounce that the provider gave another name.
    Measure.BOUNCED: (store.EVERYTHING, (EventType.BOUNCED, EventType.FAILED)),
    Measure.COMPLAINED: (store.EVERYTHING, (EventType.COMPLAINED,)),
    Measure.DEFERRED: (store.EVERYTHING, (EventType.DEFERRED,)),
    Measure.SET_ASIDE: (store.SET_ASIDE, ()),
    Measure.DELIVERIES: (store.DELIVERIES, ()),
    Measure.DELIVERY_FAILURES: (store.DELIVERIES, (DeliveryStatus.RETRY, DeliveryStatus.DEAD)),
}
"""For each measure the dimension of its counters, and the types that count if not all do."""

_OUTCOMES: Final[Mapping[str, str]] = {
    EventType.DELIVERED: "delivered",
    EventType.DEFERRED: "deferred",
    EventType.BOUNCED: "failed",
    EventType.FAILED: "failed",
    EventType.REJECTED: "failed",
    EventType.COMPLAINED: "complained",
}
"""The outcome for a message by the type of the event. Other types are not outcomes."""

_DEFAULT_BUCKETS: Final = {Bucket.MINUTE: 60, Bucket.HOUR: 24, Bucket.DAY: 30}


def earliest(bucket: Bucket, now: datetime) -> datetime:
    """Return the start of the earliest bucket of this length for which there are counters."""
    if bucket is Bucket.MINUTE:
        return (now - store.PER_MINUTE_FOR).replace(minute=0, second=0, microsecond=0)
    kept = store.RETENTION if bucket is Bucket.HOUR else store.KEPT_BY_DAY
    start = (now - kept).replace(minute=0, second=0, microsecond=0)
    return start if bucket is Bucket.HOUR else start.replace(hour=0) + timedelta(days=1)


def read(
    connection: Connection,
    measure: Measure,
    *,
    by: By = By.NONE,
    bucket: Bucket = Bucket.HOUR,
    since: datetime | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> Series:
    """Return a measure over time, from the bucket of `since` to the last one that begins before `until`.

    Divided by type: event types, reasons of refusals and of setting aside, or results of attempts to deliver; by
    source and type: the same for each source, named `source/type`; by outcome: what became of messages, or results of
    attempts. There is a series for every name that occurs, and one with the measure's name without division. Events
    count at their own time, everything else when it happened.
    Raises InvalidFieldError if `since` is before the counters of this bucket, or not before `until`.
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    end = min(until, now) if until else now
    start, first = _floor(since or end - bucket.length * (_DEFAULT_BUCKETS[bucket] - 1), bucket), earliest(bucket, now)
    if since is not None and start < first:
        raise InvalidFieldError(
            "since", since, f"is too early: for each {bucket}, figures are kept from {first:%Y-%m-%dT%H:%M:%SZ} on"
        )
    if since is not None and until is not None and since >= until:
        raise InvalidFieldError("since", since, "must be before `until`")
    start = max(start, first)
    number = -((start - end) // bucket.length)  # rounded up: the last bucket may be incomplete
    buckets = [start + position * bucket.length for position in range(max(0, number))]
    dimension, types = _DIMENSIONS[measure]
    counts = minute_counts.c
    # The counters of events that were set aside have the reason as their value.
    kind = counts.value if measure is Measure.SET_ASIDE else counts.type
    names: Mapping[By, ColumnElement[str]] = {
        By.NONE: literal(str(measure)),
        By.SOURCE: _sources.c.slug,
        By.TYPE: kind,
        By.OUTCOME: kind,
        By.SOURCE_TYPE: func.concat(
            func.coalesce(_sources.c.slug, "unknown"), "/", func.coalesce(func.nullif(kind, ""), str(measure))
        ),
    }
    name = names[by].label("name")
    moment = func.date_trunc(str(bucket), counts.minute, "UTC").label("moment")
    statement = (
        select(name, moment, func.sum(counts.count))
        .outerjoin_from(minute_counts, _sources, _sources.c.id == counts.source_id)
        .where(counts.dimension == dimension, counts.minute >= start, counts.minute < end)
        .group_by(name, moment)
    )
    if types:
        statement = statement.where(counts.type.in_(types))
    values: dict[str, list[int]] = {str(measure): [0] * len(buckets)} if by is By.NONE else {}
    for found, at, total in connection.execute(statement):
        named = _name(measure, by, found)
        if named is not None:
            values.setdefault(named, [0] * len(buckets))[(at - start) // bucket.length] += int(total)
    return Series(buckets, dict(sorted(values.items())))


def _name(measure: Measure, by: By, found: str | None) -> str | None:
    """Return the name of the series that a counter belongs to; None if it belongs to none."""
    if by is By.OUTCOME and _DIMENSIONS[measure][0] == store.EVERYTHING:
        return _OUTCOMES.get(found or "")
    return found or ("unknown" if by is By.SOURCE else str(measure))


def _floor(moment: datetime, bucket: Bucket) -> datetime:
    """Return the start of the bucket that has this moment."""
    whole = moment.astimezone(UTC).replace(second=0, microsecond=0)
    if bucket is Bucket.MINUTE:
        return whole
    return whole.replace(minute=0) if bucket is Bucket.HOUR else whole.replace(hour=0, minute=0)
