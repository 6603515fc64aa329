"""Figures over time, from the counters by minute."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from shared.counters import series, store
from shared.counters.metric_store import Observations
from shared.counters.series import Bucket, By, Measure
from shared.errors import InvalidFieldError
from shared.postgres import engine

NOW = datetime(2026, 3, 10, 15, 30, 20, tzinfo=UTC)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    made = engine.create_engine(database_url, application="test")
    with made.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO sources (slug, provider, credentials) VALUES ('shop', 'ark', 'x'), ('news', 'ark', 'x')"
        )
        yield connection
    made.dispose()


def count(connection: Connection, dimension: str, type_: str, number: int, minutes_ago: float, source: int = 1) -> None:
    minute = (NOW - timedelta(minutes=minutes_ago)).replace(second=0)
    store.add_by_minute(connection, {(dimension, minute, source, type_): number})


def values(
    connection: Connection, measure: Measure, by: By = By.NONE, bucket: Bucket = Bucket.MINUTE, minutes: int = 3
) -> dict[str, list[int]]:
    since = NOW - timedelta(minutes=minutes - 1)
    found = series.read(connection, measure, by=by, bucket=bucket, since=since, now=NOW)
    assert all(len(numbers) == len(found.buckets) for numbers in found.values.values())
    return {name: list(numbers) for name, numbers in found.values.items()}


def test_there_is_a_value_for_each_bucket(connection: Connection) -> None:
    count(connection, store.RECEIVED, "", 4, 2)
    count(connection, store.RECEIVED, "", 5, 0)
    count(connection, store.RECEIVED, "", 6, 0, source=2)
    assert values(connection, Measure.RECEIVED) == {"received": [4, 0, 11]}
    assert values(connection, Measure.RECEIVED, By.SOURCE) == {"news": [0, 0, 6], "shop": [4, 0, 5]}
    assert values(connection, Measure.RECEIVED, By.SOURCE_TYPE) == {
        "news/received": [0, 0, 6],
        "shop/received": [4, 0, 5],
    }
    assert values(connection, Measure.REFUSED) == {"refused": [0, 0, 0]}


def test_events_are_divided_by_type_and_by_outcome(connection: Connection) -> None:
    for type_ in ("delivered", "bounced", "failed", "opened", "complained"):
        count(connection, store.EVERYTHING, type_, 1, 1)
    assert values(connection, Measure.EVENTS) == {"events": [0, 5, 0]}
    assert set(values(connection, Measure.EVENTS, By.TYPE)) == {
        "delivered", "bounced", "failed", "opened", "complained",
    }  # fmt: skip
    assert values(connection, Measure.EVENTS, By.OUTCOME) == {
        "complained": [0, 1, 0],
        "delivered": [0, 1, 0],
        "failed": [0, 2, 0],
    }
    assert values(connection, Measure.BOUNCED) == {"bounced": [0, 2, 0]}


def test_attempts_to_deliver_are_counted_by_their_result(connection: Connection) -> None:
    for result, number in (("delivered", 7), ("retry", 2), ("dead", 1)):
        count(connection, store.DELIVERIES, result, number, 0, source=0)
    assert values(connection, Measure.DELIVERIES) == {"deliveries": [0, 0, 10]}
    assert values(connection, Measure.DELIVERY_FAILURES, By.OUTCOME) == {"dead": [0, 0, 1], "retry": [0, 0, 2]}


def test_what_maintenance_merges_stays_in_its_hour_and_its_day(connection: Connection) -> None:
    for days in range(12):
        count(connection, store.EVERYTHING, "delivered", 1, 24 * 60 * days)
        count(connection, store.EVERYTHING, "delivered", 1, 24 * 60 * days + 61)
    before = {
        bucket: values(connection, Measure.DELIVERED, bucket=bucket, minutes=24 * 60 * 5)
        for bucket in Bucket
        if bucket is not Bucket.MINUTE
    }
    long_before = values(connection, Measure.DELIVERED, bucket=Bucket.DAY, minutes=24 * 60 * 12)
    store.merge(connection, NOW)
    store.delete_expired(connection, NOW)
    for bucket, expected in before.items():
        assert values(connection, Measure.DELIVERED, bucket=bucket, minutes=24 * 60 * 5) == expected
    assert values(connection, Measure.DELIVERED, bucket=Bucket.DAY, minutes=24 * 60 * 12) == long_before
    assert sum(long_before["delivered"]) == 24
    store.delete_expired(connection, NOW + timedelta(days=420))
    assert not sum(values(connection, Measure.DELIVERED, bucket=Bucket.DAY, minutes=24 * 60 * 12)["delivered"])


@pytest.mark.parametrize("bucket", Bucket)
def test_what_is_no_longer_kept_is_refused_and_the_default_is_kept(connection: Connection, bucket: Bucket) -> None:
    first = series.earliest(bucket, NOW)
    assert series.read(connection, Measure.EVENTS, bucket=bucket, since=first, now=NOW).buckets[0] == first
    with pytest.raises(InvalidFieldError, match="kept from"):
        series.read(connection, Measure.EVENTS, bucket=bucket, since=first - timedelta(seconds=1), now=NOW)
    default = series.read(connection, Measure.EVENTS, bucket=bucket, now=NOW).buckets
    assert len(default) in (24, 30, 60)
    assert default[-1] <= NOW < default[-1] + bucket.length


def test_an_empty_time_is_refused(connection: Connection) -> None:
    with pytest.raises(InvalidFieldError, match="before `until`"):
        series.read(connection, Measure.EVENTS, since=NOW, until=NOW, now=NOW)


def test_what_a_process_counts_by_minute_is_stored_once(database_url: str) -> None:
    made = engine.create_engine(database_url, application="test")
    process = Observations()
    process.count_by_minute(store.RECEIVED, {(1, ""): 2})
    process.count_by_minute(store.RECEIVED, {(1, ""): 3})
    process.flush(made)
    process.flush(made)
    with made.begin() as connection:
        found = series.read(connection, Measure.RECEIVED, bucket=Bucket.MINUTE)
    assert sum(found.values["received"]) == 5
    made.dispose()
