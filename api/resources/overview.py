"""Statistics for people, gauges for Prometheus, and the health checks of this process."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask, Response
from marshmallow import Schema, fields
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from api.core.auth import TenantAccess
from api.core.fields import Instant
from api.core.resource import Deps, Resource, answers
from shared.http.errors import liveness
from shared.jobs import periodic
from shared.operations import stats
from shared.postgres import migrate

_PERIODS = {"last_hour": timedelta(hours=1), "last_day": timedelta(days=1)}


class RecentEvents(Schema):
    """Events by type since a time."""

    since = Instant()
    complete = fields.Boolean(
        metadata={
            "description": "False if there were too many; then only the newest are counted, from a later `since`."
        }
    )
    by_type = fields.Dict(keys=fields.String(), values=fields.Integer())


class Statistics(Schema):
    """The figures that the console shows."""

    receipts = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "Unprocessed receipts by state."},
    )
    oldest_pending_age_seconds = fields.Float()
    sources = fields.Integer()
    events = fields.Dict(keys=fields.String(), values=fields.Nested(RecentEvents))


class Overview(Resource):
    """Statistics for people."""

    rule = "/v1/stats"
    tenancy = TenantAccess.CLOSED

    @answers(200, Statistics)
    def get(self) -> dict[str, Any]:
        """Show the numbers of waiting receipts, sources and recent events."""
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            queue = stats.get_receipt_backlog(connection)
            recent = {name: stats.count_recent_events(connection, now, period) for name, period in _PERIODS.items()}
        return {
            "receipts": {"pending": queue.pending, **queue.parked},
            "oldest_pending_age_seconds": queue.oldest_pending_age_seconds,
            "sources": queue.sources,
            "events": recent,
        }


class Gauges:
    """Gauges computed from the database on request, so that every process reports the same."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        with self._engine.begin() as connection:
            queue = stats.get_receipt_backlog(connection)
            deliveries_pending, overdue_seconds, not_followed = stats.get_delivery_backlog(connection)
            broker_problem = periodic.find_problem(connection)
        yield GaugeMetricFamily("tidings_receipts_pending", "Receipts that wait to be processed", queue.pending)
        yield GaugeMetricFamily(
            "tidings_receipts_oldest_pending_age_seconds",
            "Seconds since the oldest waiting receipt became due",
            queue.oldest_pending_age_seconds,
        )
        parked = GaugeMetricFamily("tidings_receipts_parked", "Receipts that are set aside", labels=["state"])
        for state, count in queue.parked.items():
            parked.add_metric([state], count)
        yield parked
        yield GaugeMetricFamily("tidings_sources", "Active sources", queue.sources)
        yield GaugeMetricFamily("tidings_deliveries_pending", "Deliveries that are not finished", deliveries_pending)
        yield GaugeMetricFamily(
            "tidings_deliveries_overdue_seconds",
            "Seconds since the oldest delivery became due that no pause, circuit breaker or rate limit holds back",
            overdue_seconds,
        )
        yield GaugeMetricFamily(
            "tidings_changes_not_followed",
            "Changes without deliveries yet, counted up to 100,000",
            not_followed,
        )
        yield GaugeMetricFamily(
            "tidings_broker_up",
            "1, or 0 if workers found in the last minute that the broker refuses messages or delivers none",
            float(broker_problem is None),
        )


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
    def measured() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


RESOURCES = (Overview,)
