"""Metrics for Prometheus, and the health checks of this process."""

import math
from collections.abc import Iterator, Mapping, Sequence

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from api.core.resource import Deps
from shared.counters import metric_store
from shared.counters.metric_store import Metric as Total
from shared.http.errors import liveness
from shared.jobs import periodic
from shared.operations import stats
from shared.postgres import migrate
from shared.vocabulary import DeliveryStatus


class Gauges:
    """Metrics computed from the database on request, so that every process reports the same."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all processes. Those of the receivers' requests are at their own port."""
        with self._engine.begin() as connection:
            metrics = [
                *read_event_metrics(connection),
                *read_delivery_metrics(connection),
                *read_other_metrics(connection),
            ]
        yield from metrics


def read_event_metrics(connection: Connection) -> Iterator[Metric]:
    """Yield the metrics of receipts, their processing, and sources."""
    backlog = stats.get_receipt_backlog(connection)
    yield GaugeMetricFamily("tidings_receipts_pending", "Receipts that wait to be processed", backlog.pending)
    yield GaugeMetricFamily(
        "tidings_receipts_oldest_pending_age_seconds",
        "Seconds since the oldest waiting receipt became due",
        backlog.oldest_pending_age_seconds,
    )
    yield gauge("tidings_receipts_parked", "Receipts that are set aside", "state", backlog.parked)
    set_aside = CounterMetricFamily(
        "tidings_events_set_aside", "Authentic events that changed nothing", labels=["source", "reason"]
    )
    for source, reason, count in stats.count_set_aside(connection):
        set_aside.add_metric([source, reason], count)
    yield set_aside
    yield GaugeMetricFamily("tidings_sources", "Active sources", backlog.sources)
    events = CounterMetricFamily("tidings_events", "Events that were stored", labels=["source", "type"])
    for labels, number in stats.count_events(connection).items():
        events.add_metric(labels, number)
    yield events
    yield histogram(
        "tidings_processing_latency_seconds",
        "From the arrival of a webhook to the commit of its states",
        *metric_store.read_histogram(connection, Total.PROCESSING_LATENCY),
    )
    times = {source: at.timestamp() for source, at in stats.find_last_events(connection).items()}
    yield gauge(
        "tidings_source_last_event_timestamp_seconds", "When the source's last event was stored", "source", times
    )


def read_delivery_metrics(connection: Connection) -> Iterator[Metric]:
    """Yield the metrics of deliveries and of the change log."""
    pending, overdue_seconds, not_followed = stats.get_delivery_backlog(connection)
    yield GaugeMetricFamily("tidings_deliveries_pending", "Deliveries that are not finished", pending)
    yield GaugeMetricFamily(
        "tidings_deliveries_overdue_seconds",
        "Seconds since the oldest delivery became due that no pause, circuit breaker or rate limit holds back",
        overdue_seconds,
    )
    yield GaugeMetricFamily(
        "tidings_changes_not_followed", "Changes without deliveries yet, counted up to 100,000", not_followed
    )
    counts = metric_store.read_counts(connection, Total.DELIVERIES)
    attempts = CounterMetricFamily("tidings_deliveries", "Attempts to deliver, by their result", labels=["result"])
    for result in (DeliveryStatus.DELIVERED, DeliveryStatus.RETRY, DeliveryStatus.DEAD):
        attempts.add_metric([result], counts.get((0, result), 0))
    yield attempts
    yield histogram(
        "tidings_delivery_latency_seconds",
        "From a change to the 2xx of a subscriber",
        *metric_store.read_histogram(connection, Total.DELIVERY_LATENCY),
    )
    yield GaugeMetricFamily(
        "tidings_circuit_breakers_open",
        "Subscriptions whose endpoint is not called for a while",
        stats.count_open_circuit_breakers(connection),
    )
    yield GaugeMetricFamily(
        "tidings_change_feed_lag_seconds",
        "Age of the oldest change that the feed does not show, because an older transaction is open",
        stats.get_feed_lag_seconds(connection),
    )


def read_other_metrics(connection: Connection) -> Iterator[Metric]:
    """Yield the metrics of the broker, alerts, jobs, processes, and the database."""
    yield GaugeMetricFamily(
        "tidings_broker_up",
        "1, or 0 if workers found in the last minute that the broker refuses messages or delivers none",
        float(periodic.find_problem(connection) is None),
    )
    yield gauge("tidings_alerts_firing", "Alerts that fire", "severity", stats.count_firing_alerts(connection))
    yield GaugeMetricFamily(
        "tidings_oldest_transaction_age_seconds",
        "Age of the database server's oldest transaction that has written",
        float(stats.find_oldest_transaction(connection).seconds),
    )
    yield gauge("tidings_jobs", "Stored jobs", "state", stats.count_jobs(connection))
    active = {role: at.timestamp() if at else 0.0 for role, at in stats.find_role_activity(connection).items()}
    yield gauge(
        "tidings_role_last_activity_timestamp_seconds",
        "When a process of this role worked last; 0 if none ever did",
        "role",
        active,
    )


def gauge(name: str, description: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge with one label."""
    family = GaugeMetricFamily(name, description, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def histogram(name: str, description: str, buckets: Sequence[tuple[float, float]], total: float) -> Metric:
    """Return a histogram: the upper bound and the cumulated number of each bucket, and the sum."""
    shown = [("+Inf" if bound == math.inf else str(bound), number) for bound, number in buckets]
    return HistogramMetricFamily(name, description, buckets=shown, sum_value=total)


def register(app: Flask, deps: Deps) -> None:
    """Add /healthz, /readyz and /metrics. None of them needs an API key."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Gauges(deps.engine))
    expected = migrate.head()

    app.add_url_rule("/healthz", view_func=liveness)

    @app.get("/readyz")
    def ready() -> Response:
        try:
            with deps.engine.begin() as connection:
                revision = migrate.revision(connection)
        except SQLAlchemyError:
            return Response("the database cannot be reached\n", status=503, content_type="text/plain")
        if revision != expected:
            problem = f"the database is at revision {revision}, not {expected}: run `tidings migrate`\n"
            return Response(problem, status=503, content_type="text/plain")
        return Response("ready\n", content_type="text/plain")

    @app.get("/metrics")
    def prometheus_metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
