"""Figures: an overview for people, gauges for Prometheus, and whether this process can work."""

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
from shared.operations import stats
from shared.operations.stats import Outgoing, Queue
from shared.postgres import migrate

_PASTS = {"last_hour": timedelta(hours=1), "last_day": timedelta(days=1)}


class RecentEvents(Schema):
    """Events by type since a moment."""

    since = Instant()
    complete = fields.Boolean(
        metadata={"description": "False where there were too many to count: then only the newest were, since later."}
    )
    by_type = fields.Dict(keys=fields.String(), values=fields.Integer())


class Statistics(Schema):
    """What the console shows."""

    receipts = fields.Dict(
        keys=fields.String(), values=fields.Integer(), metadata={"description": "Those that wait, by state."}
    )
    oldest_pending_age_seconds = fields.Float()
    sources = fields.Integer()
    events = fields.Dict(keys=fields.String(), values=fields.Nested(RecentEvents))


class Overview(Resource):
    """Figures for people."""

    rule = "/v1/stats"
    tenancy = TenantAccess.CLOSED

    @answers(200, Statistics)
    def get(self) -> dict[str, Any]:
        """Show how much there is of what."""
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            queue = stats.queue(connection)
            recent = {name: stats.recent_events(connection, now, past) for name, past in _PASTS.items()}
        return {
            "receipts": {"pending": queue.pending, **queue.parked},
            "oldest_pending_age_seconds": queue.oldest_pending_age_seconds,
            "sources": queue.sources,
            "events": recent,
        }


class Gauges:
    """Computed from the database when asked for, so that every process tells the same."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, as Prometheus wants them."""
        with self._engine.begin() as connection:
            queue, outgoing = stats.queue(connection), stats.outgoing(connection)
        yield from _gauges(queue)
        yield from _gauges_of_deliveries(outgoing)


def _gauges(queue: Queue) -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily("tidings_receipts_pending", "Receipts that wait to be processed", queue.pending)
    yield GaugeMetricFamily(
        "tidings_receipts_oldest_pending_age_seconds",
        "How long the longest-waiting receipt has been due",
        queue.oldest_pending_age_seconds,
    )
    parked = GaugeMetricFamily("tidings_receipts_parked", "Receipts that are set aside", labels=["state"])
    for state, count in queue.parked.items():
        parked.add_metric([state], count)
    yield parked
    yield GaugeMetricFamily("tidings_sources", "Sources in service", queue.sources)


def _gauges_of_deliveries(outgoing: Outgoing) -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily("tidings_deliveries_pending", "Deliveries that are yet to be made", outgoing.pending)
    yield GaugeMetricFamily(
        "tidings_deliveries_overdue_seconds",
        "How long a delivery has been due that nothing holds back: no pause, breaker or rate",
        outgoing.overdue_seconds,
    )
    yield GaugeMetricFamily(
        "tidings_changes_not_followed",
        "Changes of which no deliveries were made yet, counted up to 100,000",
        outgoing.not_followed,
    )


def register(app: Flask, deps: Deps) -> None:
    """Add what whoever runs the API asks: /healthz, /readyz and /metrics. None of them needs a key."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Gauges(deps.engine))
    expected = migrate.head()

    @app.get("/healthz")
    def alive() -> Response:
        return Response("alive\n", content_type="text/plain")

    @app.get("/readyz")
    def ready() -> Response:
        problem = _unready(deps.engine, expected)
        return Response(f"{problem or 'ready'}\n", status=503 if problem else 200, content_type="text/plain")

    @app.get("/metrics")
    def measured() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _unready(engine: Engine, expected: str | None) -> str | None:
    try:
        with engine.begin() as connection:
            revision = migrate.revision(connection)
    except SQLAlchemyError:
        return "the database cannot be reached"
    if revision != expected:
        return f"the database is at revision {revision}, not {expected}: run `tidings migrate`"
    return None


RESOURCES = (Overview,)
