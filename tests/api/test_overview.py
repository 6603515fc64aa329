"""Statistics for people and for Prometheus, and the readiness of the process."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg

from shared.counters import metric_store
from shared.vocabulary import SetAsideReason
from tests.support.alerts import fire
from tests.support.http_sink import http_sink
from tests.support.system import HANDLE, System, mailchannels_event
from workers import process_receipts


def test_the_figures_count_what_waits_and_what_came(system: System) -> None:
    system.create_source()
    now = datetime.now(UTC)
    recent, earlier = int(now.timestamp()), int((now - timedelta(hours=3)).timestamp())
    events = (
        mailchannels_event("delivered", "a@example.net", timestamp=recent),
        mailchannels_event("open", "a@example.net", timestamp=recent),
        mailchannels_event("open", "b@example.net", timestamp=earlier),
    )
    system.queue_body(json.dumps([{"customer_handle": HANDLE, **event} for event in events]).encode(), at=now)
    process_receipts.process_due(system.ctx)
    system.queue_body(b"[]", at=now - timedelta(seconds=90))
    found = system.get("/v1/stats")
    assert found["receipts"] == {"pending": 1, "unverified": 0, "rejected": 0, "dead": 0}
    assert 80 < found["oldest_pending_age_seconds"] < 200
    assert found["sources"] == 1
    assert found["events"]["last_hour"]["by_type"] == {"delivered": 1, "opened": 1}
    assert found["events"]["last_day"]["by_type"] == {"delivered": 1, "opened": 2}


def test_gauges_are_computed_from_the_database(system: System) -> None:
    system.create_source()
    system.queue_body(b"[]", at=datetime.now(UTC) - timedelta(seconds=90))
    answer = system.client.get("/metrics")
    assert answer.content_type.startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert lines["tidings_receipts_pending"] == "1.0"
    assert float(lines["tidings_receipts_oldest_pending_age_seconds"]) > 80
    assert lines['tidings_receipts_parked{state="dead"}'] == "0.0"
    assert lines["tidings_sources"] == "1.0"


def test_events_that_were_set_aside_are_counted_by_their_reason(system: System) -> None:
    source = system.add_source("main", "mailchannels", {"customer_handles": ["acct"], "public_keys": {}})
    right, foreign = (
        mailchannels_event("delivered", "ann@example.net", customer_handle=handle) for handle in ("acct", "stranger")
    )
    new, unreadable = {**right, "event": "new"}, {**right, "request_id": {"a": 1}}
    body = json.dumps([right, foreign, {**foreign, "event": "open"}, new, unreadable]).encode()
    system.store_receipt(source, body)
    process_receipts.process_due(system.ctx)
    lines = dict(line.rsplit(" ", 1) for line in system.client.get("/metrics").text.splitlines())
    found = {
        reason: lines.get(f'tidings_events_set_aside_total{{reason="{reason}",source="main"}}')
        for reason in SetAsideReason
    }
    assert found == {"other_account": "2.0", "no_tenant": None, "unreadable": "1.0", "unknown_kind": "1.0"}


def test_gauges_count_deliveries_that_are_due(delivery_system: System) -> None:
    def metrics() -> dict[str, float]:
        text = delivery_system.client.get("/metrics").text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("tidings_"))
        return {name: float(value) for name, value in lines}

    subscription_id = delivery_system.insert_subscription()
    delivery_system.log_change()
    assert metrics()["tidings_changes_not_followed"] == 1
    delivery_system.fan_out()
    delivery_system.execute("UPDATE pending_deliveries SET available_at = now() - interval '90 s'")
    assert metrics()["tidings_changes_not_followed"] == 0
    assert metrics()["tidings_deliveries_pending"] == 1
    assert 80 < metrics()["tidings_deliveries_overdue_seconds"] < 300
    delivery_system.update_subscription(subscription_id, state="paused")
    assert metrics()["tidings_deliveries_overdue_seconds"] == 0


def test_readiness_is_a_database_at_the_right_revision(system: System) -> None:
    assert system.client.get("/healthz").status_code == 200
    assert system.client.get("/readyz").status_code == 200
    ((revision,),) = system.execute("SELECT version_num FROM alembic_version")
    system.execute("UPDATE alembic_version SET version_num = '0000'")
    answer = system.client.get("/readyz")
    system.execute("UPDATE alembic_version SET version_num = %(revision)s", revision=revision)
    assert answer.status_code == 503
    assert "tidings migrate" in answer.text


def exported(system: System) -> dict[str, float]:
    """Return the value of every series of the API's metrics."""
    lines = [line for line in system.client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_metrics_of_workers_and_deliverers_are_exported(delivery_system: System) -> None:
    system = delivery_system
    system.create_source()
    system.ctx.observations.flush(system.engine)  # what earlier tests of this process observed
    system.execute("TRUNCATE metric_totals")
    with http_sink() as sink:
        system.insert_subscription(sink.url)
        now = datetime.now(UTC)
        body = msgspec.json.encode([{"customer_handle": HANDLE, **mailchannels_event("delivered", "a@example.net")}])
        for _ in range(2):  # the second one repeats the event of the first
            system.queue_body(body, at=now - timedelta(seconds=3))
        process_receipts.process_due(system.ctx)
        system.fan_out()
        system.deliver()
        system.ctx.observations.flush(system.engine)
    found = exported(system)
    assert found['tidings_events_total{source="main",type="delivered"}'] == 1
    assert found["tidings_processing_latency_seconds_count"] == 2
    assert found['tidings_processing_latency_seconds_bucket{le="2.5"}'] == 0
    assert found["tidings_processing_latency_seconds_sum"] >= 6
    assert found['tidings_deliveries_total{result="delivered"}'] == 1
    assert found["tidings_delivery_latency_seconds_count"] == 1
    assert found['tidings_source_last_event_timestamp_seconds{source="main"}'] >= now.timestamp()


def test_conditions_of_the_installation_are_exported(system: System) -> None:
    with system.engine.begin() as connection:
        fire(connection, severity="critical")
        metric_store.add(connection, {(metric_store.Metric.ACTIVITY, 0, "receiver"): 1})
    subscription_id = system.insert_subscription()
    system.execute(
        "INSERT INTO endpoint_health (subscription_id, open_until) VALUES (%(id)s, now() + interval '1 h')",
        id=subscription_id,
    )
    found = exported(system)
    assert found['tidings_alerts_firing{severity="critical"}'] == 1
    assert found["tidings_circuit_breakers_open"] == 1
    assert found['tidings_role_last_activity_timestamp_seconds{role="receiver"}'] > 0
    assert found['tidings_role_last_activity_timestamp_seconds{role="beat"}'] == 0
    assert found['tidings_jobs{state="failed"}'] == 0
    assert found["tidings_change_feed_lag_seconds"] == 0


def test_an_open_transaction_and_the_changes_behind_it_are_exported(system: System) -> None:
    with psycopg.connect(system.database_url) as blocking:
        blocking.execute("SELECT pg_current_xact_id()")
        system.log_change()
        first = exported(system)
        assert first["tidings_change_feed_lag_seconds"] > 0
        assert exported(system)["tidings_oldest_transaction_age_seconds"] > first["tidings_change_feed_lag_seconds"]
    assert exported(system)["tidings_change_feed_lag_seconds"] == 0
