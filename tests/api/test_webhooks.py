"""The webhooks of the OpenAPI document: a schema for each type of change, and the real ones are as it says."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared import ids
from shared.alerts import store as alerts
from shared.alerts.policy import Step, Subject
from shared.alerts.store import Transition
from shared.events.event import Event
from shared.messages import store as messages
from shared.receipts import normalize
from shared.subscriptions.validation import TYPES
from shared.vocabulary import Classification, EventType, Severity
from tests.support import http_sink, openapi
from tests.support.http_sink import HttpSink
from tests.support.system import System
from workers import suppressions

ANN = "ann@example.net"
DOCUMENT = openapi.document()


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def list_faults(payload: dict[str, Any]) -> list[str]:
    """What is wrong with a webhook's body, by the schema of its type."""
    content = DOCUMENT["webhooks"][payload["type"]]["post"]["requestBody"]["content"]["application/json"]
    errors = openapi.validator(DOCUMENT, content["schema"]).iter_errors(payload)
    return [f"{error.json_path}: {error.message}" for error in errors]


def test_each_type_of_change_has_a_schema_and_an_example_that_follows_it() -> None:
    assert DOCUMENT["webhooks"].keys() == {*TYPES, "test"}
    for type_, methods in DOCUMENT["webhooks"].items():
        example = methods["post"]["requestBody"]["content"]["application/json"]["example"]
        assert example["type"] == type_
        assert list_faults(example) == []


def test_a_schema_says_what_a_type_is_about() -> None:
    examples = {
        type_: methods["post"]["requestBody"]["content"]["application/json"]["example"]
        for type_, methods in DOCUMENT["webhooks"].items()
    }
    for type_, other in (
        ("message.bounced", "suppression.added"),
        ("suppression.added", "message.bounced"),
        ("alert.firing", "suppression.added"),
    ):
        assert list_faults({**examples[other], "type": type_})
    incomplete = {name: value for name, value in examples["message.bounced"]["data"].items() if name != "status"}
    assert list_faults({**examples["message.bounced"], "data": incomplete})


@pytest.mark.parametrize("whole", [True, False], ids=["with all fields", "with the least fields"])
def test_what_is_sent_follows_the_schema_of_its_type(delivery_system: System, sink: HttpSink, whole: bool) -> None:
    system, now = delivery_system, datetime.now(UTC)
    made = system.create_subscription(sink.url)
    source_id = system.create_source()
    send_an_event_of_each_type(system, source_id, whole=whole)
    target = (
        {"address": ANN, "expires_at": (now + timedelta(hours=1)).isoformat()} if whole else {"domain": "example.org"}
    )
    assert system.call("POST", "/v1/suppressions", target).status_code == 201
    fire_and_resolve(system, source_id if whole else None, now)
    if whole:
        suppressions.expire_due(system.ctx, now + timedelta(hours=2))
        assert system.call("POST", "/v1/suppressions", {"address": ANN}).status_code == 201
        assert system.call("DELETE", f"/v1/suppressions/{ANN}").status_code == 200
    system.deliver()
    assert system.call("POST", f"/v1/subscriptions/{made['id']}/test").status_code == 200
    bodies = [received.json for received in sink.received]
    missing = set() if whole else {"suppression.removed", "suppression.expired"}
    assert {body["type"] for body in bodies} == {*TYPES, "test"} - missing
    assert {body["type"]: faults for body in bodies if (faults := list_faults(body))} == {}
    feed = system.get("/v1/changes", limit=500)["items"]
    assert {change["id"]: list_faults(change) for change in feed if list_faults(change)} == {}
    page = openapi.validator(DOCUMENT, DOCUMENT["components"]["schemas"]["Change"])
    assert [error.message for change in feed for error in page.iter_errors(change)] == []


def send_an_event_of_each_type(system: System, source_id: int, *, whole: bool) -> None:
    """Store an event of each type, as a worker does."""
    now = datetime.now(UTC)
    texts = ("sender", "subject", "request_id", "smtp_id", "provider_message_id", "tenant", "tag", "campaign",
             "remote_host", "url", "ip", "user_agent", "smtp_status", "enhanced_code", "reason", "problem")  # fmt: skip
    more: dict[str, Any] = dict.fromkeys(texts, "some text") if whole else {}
    if whole:
        more |= {"classification": Classification.MAILBOX_FULL, "metadata": {"a": 1}, "details": {"b": [2]}}
        more |= {"recipient": ANN, "occurred_at": now}
    receipt_id = system.queue_body(b"[]")
    events = [
        Event(type=kind, provider_object=b"{}", identity=str(uuid4()), message_key=f"m-{kind}", **more)
        for kind in EventType
    ]
    data = [normalize.write_data(normalize.read_fields(event, now), None) for event in events]
    rows = [
        normalize.make_row(source_id, receipt_id, position, now, event, data[position], None, None)
        for position, event in enumerate(events)
    ]
    with system.engine.begin() as connection:
        messages.apply(connection, rows)


def fire_and_resolve(system: System, source_id: int | None, now: datetime) -> None:
    """Let an alert fire and be resolved."""
    alert_id = str(ids.receipt_id(now))
    for step in (Step.FIRED, Step.RESOLVED):
        transition = Transition(
            alert_id=alert_id,
            step=step,
            rule="bounces",
            kind="rate",
            subject=Subject(name="main", source_id=source_id),
            severity=Severity.WARNING,
            summary="5.5 % bounced",
            numbers={"percent": 5.5},
        )
        with system.engine.begin() as connection:
            alerts.record(connection, [transition], now)


def test_a_test_delivery_sends_a_sample_of_any_type(delivery_system: System, sink: HttpSink) -> None:
    made = delivery_system.create_subscription(sink.url, ("alert.*",))
    path = f"/v1/subscriptions/{made['id']}/test"
    for type_ in ("test", *TYPES):
        assert delivery_system.call("POST", path, {"type": type_}).get_json()["status"] == "success"
    delivery_system.call("POST", path)
    bodies = [received.json for received in sink.received]
    assert [body["type"] for body in bodies] == ["test", *TYPES, "test"]
    for body in bodies:
        assert list_faults(body) == []
        assert body["id"].startswith("test-")
    refused = delivery_system.call("POST", path, {"type": "message.exploded"})
    assert refused.status_code == 422
    assert "message.bounced" in refused.get_json()["errors"]["type"][0]
