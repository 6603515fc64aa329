"""Totals that processes add up for Prometheus."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.counters import metric_store
from shared.counters.metric_store import Metric, Observations
from shared.postgres import engine


def counts(database: Engine, metric: Metric) -> dict[tuple[int, str], float]:
    with database.begin() as connection:
        return dict(metric_store.read_counts(connection, metric))


def test_the_totals_of_all_processes_add_up(database: Engine) -> None:
    for number in (1, 2, 4):
        process = Observations()
        process.count(Metric.EVENTS, {(1, "opened"): number, (2, "opened"): 1})
        process.flush(database)
    assert counts(database, Metric.EVENTS) == {(1, "opened"): 7, (2, "opened"): 3}


def test_what_was_stored_is_not_stored_again(database: Engine) -> None:
    process = Observations()
    process.count(Metric.DELIVERIES, {(0, "delivered"): 3})
    process.flush(database)
    process.flush(database)
    assert counts(database, Metric.DELIVERIES) == {(0, "delivered"): 3}


def test_what_could_not_be_stored_is_stored_the_next_time(database: Engine) -> None:
    unreachable = engine.create_engine("postgresql://nobody@127.0.0.1:1/none", application="test")
    process = Observations()
    process.count(Metric.DELIVERIES, {(0, "dead"): 1})
    with pytest.raises(SQLAlchemyError):
        process.flush(unreachable)
    process.count(Metric.DELIVERIES, {(0, "dead"): 1})
    process.flush(database)
    assert counts(database, Metric.DELIVERIES) == {(0, "dead"): 2}


def test_a_latency_counts_in_every_bucket_whose_bound_it_does_not_exceed(database: Engine) -> None:
    process = Observations()
    process.observe(Metric.PROCESSING_LATENCY, [0.01, 1.0, 1.01, -5.0, 1e6])
    process.flush(database)
    with database.begin() as connection:
        buckets, total = metric_store.read_histogram(connection, Metric.PROCESSING_LATENCY)
    found = dict(buckets)
    assert (found[0.025], found[0.5], found[1.0], found[2.5]) == (2, 2, 3, 4)
    assert (found[86400.0], found[float("inf")]) == (4, 5)
    assert total == pytest.approx(1e6 + 2.02)
    assert [number for _, number in buckets] == sorted(number for _, number in buckets)


def test_the_last_time_of_a_counter_is_known_by_source_and_by_label(database: Engine) -> None:
    with database.begin() as connection:
        metric_store.add(connection, {(Metric.EVENTS, 1, "opened"): 1.0})
    with database.begin() as connection:
        metric_store.add(connection, {(Metric.EVENTS, 2, "opened"): 1.0, (Metric.EVENTS, 2, "clicked"): 1.0})
        by_source, by_label = metric_store.read_last_times(connection, Metric.EVENTS)
    assert by_source[1] < by_source[2]
    assert by_label["opened"] == max(by_source[2], by_label["opened"])
    assert by_label.keys() == {"opened", "clicked"}
