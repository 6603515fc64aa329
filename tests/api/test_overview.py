"""Statistics for people and for Prometheus, and the readiness of the process."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.operations import stats
from tests.support.system import System, mailchannels_event


def test_the_figures_count_what_waits_and_what_came(system: System) -> None:
    system.create_source()
    now = datetime.now(UTC)
    system.process_events(
        mailchannels_event("delivered", "a@example.net"), mailchannels_event("open", "a@example.net"), at=now
    )
    system.process_events(mailchannels_event("open", "b@example.net"), at=now - timedelta(hours=3))
    system.queue_body(b"[]", at=now - timedelta(seconds=90))
    found = system.get("/v1/stats")
    assert found["receipts"] == {"pending": 1, "unverified": 0, "rejected": 0, "dead": 0}
    assert 80 < found["oldest_pending_age_seconds"] < 200
    assert found["sources"] == 1
    assert found["events"]["last_hour"]["by_type"] == {"delivered": 1, "opened": 1}
    assert found["events"]["last_day"]["by_type"] == {"delivered": 1, "opened": 2}
    assert found["events"]["last_hour"]["complete"] is True


def test_too_many_events_to_count_are_said_to_be_so(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_EVENTS", 2)
    system.create_source()
    system.process_events(
        *(mailchannels_event("open", "a@example.net", second=second) for second in range(3)), at=datetime.now(UTC)
    )
    found = system.get("/v1/stats")["events"]["last_hour"]
    assert (found["complete"], found["by_type"]) == (False, {"opened": 2})


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
