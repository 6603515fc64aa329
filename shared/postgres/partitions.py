"""Time partitions of the tables that grow: created ahead, dropped after the retention period.

The partition key is the id, whose first 48 bits are its time (see `shared.ids`). Each partition holds a week.
"""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select

from shared import ids

TABLES = ("receipts", "events", "event_objects", "deliveries", "delivery_attempts")
_WEEK = timedelta(days=7)
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday


def create_missing(connection: Connection, *, now: datetime | None = None, weeks_ahead: int = 4) -> list[str]:
    """Create the missing partitions from last week to `weeks_ahead`; return the names of the new ones."""
    missing = find_missing(connection, now or datetime.now(UTC), range(-1, weeks_ahead + 1))
    for name, (table, week) in missing.items():
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table}"
            f" FOR VALUES FROM ('{ids.first_at(week)}') TO ('{ids.first_at(week + _WEEK)}')"
        )
    return list(missing)


def find_missing(connection: Connection, now: datetime, weeks: Iterable[int]) -> dict[str, tuple[str, datetime]]:
    """Return the names of the missing partitions of these weeks, each with its table and its first day.

    0 is the week of `now`, 1 the next one.
    """
    monday, existing = _week_of(now), set(_existing(connection))
    days = [monday + _WEEK * offset for offset in weeks]
    wanted = {f"{table}_{day:%Y%m%d}": (table, day) for table in TABLES for day in days}
    return {name: place for name, place in wanted.items() if name not in existing}


def count_weeks_ahead(connection: Connection, now: datetime, at_most: int) -> int:
    """Return how many weeks after that of `now` have all partitions, without a gap; -1 if that of `now` has not."""
    missing = {week for _, week in find_missing(connection, now, range(at_most + 1)).values()}
    complete = itertools.takewhile(lambda week: _week_of(now) + _WEEK * week not in missing, range(at_most + 1))
    return len(list(complete)) - 1


def drop_before(connection: Connection, oldest: datetime) -> list[str]:
    """Drop the partitions whose rows are all older than `oldest`; return their names."""
    # A longer wait would block every insert behind it.
    connection.execute(select(func.set_config("lock_timeout", "2s", True)))
    kept_from = f"{_week_of(oldest):%Y%m%d}"
    dropped = [name for name in _existing(connection) if name.rpartition("_")[2] < kept_from]
    for name in dropped:
        connection.exec_driver_sql(f"DROP TABLE {name}")
    return dropped


def _existing(connection: Connection) -> list[str]:
    rows = connection.exec_driver_sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent::regclass::text = ANY(%(tables)s)",
        {"tables": list(TABLES)},
    )
    return [row[0] for row in rows]


def _week_of(moment: datetime) -> datetime:
    return _EPOCH + (moment - _EPOCH) // _WEEK * _WEEK
