"""Alerts over the API: listed, acknowledged; alert rules; notification channels."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection
from standardwebhooks import Webhook

from shared.alerts import kinds
from shared.http import standard_webhooks
from shared.notifications import apprise, channels, rendering
from shared.notifications import store as stored
from shared.rules import store
from shared.vocabulary import AlertKind
from tests.api.test_openapi import agrees
from tests.support import alerts, http_sink
from tests.support.http_sink import HttpSink
from tests.support.system import System

RULE = {"name": "tenants", "kind": "rate", "rate": "bounce", "per": "tenant", "warning": 3, "critical": 8}
SECRET = "hunter2-hunter2-hunter2"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as opened:
        yield opened


def fire(system: System, subject: str = "main", **more: Any) -> UUID:
    with system.engine.begin() as connection:
        return alerts.fire(connection, subject, **more)


def webhook(system: System, url: str, name: str = "ops", **more: Any) -> dict[str, Any]:
    answer = system.call("POST", "/v1/alert-channels", {"name": name, "kind": "webhook", "url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


# Alerts


def test_alerts_come_newest_first_and_can_be_picked(system: System) -> None:
    source = system.create_source("shop")
    with system.engine.begin() as connection:
        first = alerts.fire(connection, "a", source_id=source)
        second = alerts.fire(connection, "b", rule="silence", severity="critical", at=alerts.BEGIN + timedelta(hours=1))
        third = alerts.fire(connection, "c", at=alerts.BEGIN + timedelta(hours=2))
        alerts.resolve(connection, third, at=alerts.BEGIN + timedelta(hours=3))

    def found(**query: Any) -> list[str]:
        return [alert["id"] for alert in system.list_items("/v1/alerts", limit=1, **query)]

    assert found() == [str(third), str(second), str(first)]
    assert found(state="firing") == [str(second), str(first)]
    assert found(state="resolved") == [str(third)]
    assert found(severity="critical") == [str(second)]
    assert found(rule="silence") == [str(second)]
    assert found(source="shop") == [str(first)]
    for wrong in ({"state": "odd"}, {"severity": "odd"}, {"color": "red"}):
        assert system.call("GET", "/v1/alerts", **wrong).status_code == 422


def test_an_alert_is_shown_with_its_history_and_its_notifications(system: System, sink: HttpSink) -> None:
    webhook(system, sink.url)
    alert_id = fire(system, source_id=system.create_source("shop"))
    with system.engine.begin() as connection:
        alerts.escalate(connection, alert_id)
    found = system.get(f"/v1/alerts/{alert_id}")
    assert (found["rule"], found["kind"], found["severity"], found["state"]) == (
        "bounces",
        "rate",
        "critical",
        "firing",
    )
    assert (found["source"], found["started_at"]) == ("shop", "2026-01-01T12:00:00Z")
    assert found["next_step"] == kinds.next_step(AlertKind.RATE, source="shop")
    assert [(step["step"], step["severity"]) for step in found["steps"]] == [
        ("fired", "warning"),
        ("escalated", "critical"),
    ]
    assert found["steps"][0]["numbers"] == {"bounced": 11, "ended": 200, "percent": 5.5}
    assert [
        (notice["channel"], notice["step"], notice["state"], notice["attempts"]) for notice in found["notices"]
    ] == [
        ("ops", "fired", "pending", 0),
        ("ops", "escalated", "pending", 0),
    ]
    assert found["notices"][0]["next_attempt_at"]
    assert found["notices"][0]["message_id"] is None
    assert system.call("GET", f"/v1/alerts/{uuid4()}").status_code == 404


def test_the_first_acknowledgement_stays(system: System) -> None:
    alert_id = fire(system)
    path = f"/v1/alerts/{alert_id}/ack"
    assert system.get(f"/v1/alerts/{alert_id}")["acknowledged_at"] is None
    first = system.call("POST", path).get_json()
    assert first["acknowledged_at"]
    assert first["acknowledged_by"] == "TIDINGS_ADMIN_KEY"
    again = system.call("POST", path)
    assert (again.status_code, again.get_json()) == (200, first)
    assert [step["step"] for step in system.get(f"/v1/alerts/{alert_id}")["steps"]] == ["fired", "acknowledged"]
    with system.engine.begin() as connection:
        alerts.resolve(connection, alert_id)
    assert system.call("POST", path).status_code == 200
    assert system.call("POST", f"/v1/alerts/{uuid4()}/ack").status_code == 404


def test_an_alert_is_muted_and_unmuted(system: System) -> None:
    alert_id = fire(system)
    path, until = f"/v1/alerts/{alert_id}", (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    muted = system.call("POST", f"{path}/mute", {"until": until.isoformat()}).get_json()
    assert (muted["muted_until"], muted["muted_by"]) == (f"{until:%Y-%m-%dT%H:%M:%SZ}", "TIDINGS_ADMIN_KEY")
    assert system.call("POST", f"{path}/unmute").get_json()["muted_until"] is None
    refused = system.call("POST", f"{path}/mute", {"until": "2026-01-01T00:00:00Z"})
    assert refused.status_code == 422
    assert "until must be in the future" in refused.text
    assert system.call("POST", f"/v1/alerts/{uuid4()}/unmute").status_code == 404
    with system.engine.begin() as connection:
        alerts.resolve(connection, alert_id)
    assert system.call("POST", f"{path}/mute", {"until": until.isoformat()}).status_code == 409


def test_a_resolved_alert_can_no_longer_be_acknowledged(system: System) -> None:
    alert_id = fire(system)
    with system.engine.begin() as connection:
        alerts.resolve(connection, alert_id)
    assert system.call("POST", f"/v1/alerts/{alert_id}/ack").status_code == 409


@pytest.mark.parametrize("kind", AlertKind)
def test_every_kind_of_rule_says_what_to_do(kind: AlertKind) -> None:
    assert kind in kinds.KINDS


def test_answers_have_exactly_the_documented_fields(system: System, sink: HttpSink) -> None:
    webhook(system, sink.url)
    alert_id = fire(system)
    schemas = system.client.get("/openapi.json").get_json()["components"]["schemas"]
    agrees(system.get("/v1/alerts")["items"][0], schemas["Alert"], schemas)
    agrees(system.get(f"/v1/alerts/{alert_id}"), schemas["WholeAlert"], schemas)
    agrees(system.get("/v1/alert-channels")["items"][0], schemas["Channel"], schemas)


# Rules


def test_rules_of_the_file_and_of_the_api_are_listed_together(system: System) -> None:
    made = system.call("POST", "/v1/alert-rules", RULE)
    assert made.status_code == 201
    assert made.headers["Location"] == "/v1/alert-rules/tenants"
    rules = system.list_items("/v1/alert-rules", limit=3)
    assert [rule["name"] for rule in rules] == sorted(rule["name"] for rule in rules)
    by_name = {rule["name"]: rule for rule in rules}
    assert by_name["bounce-rate"]["origin"] == "file"
    mine = by_name["tenants"]
    assert (mine["origin"], mine["in_force"], mine["created_by"]) == ("api", True, "TIDINGS_ADMIN_KEY")
    assert (mine["rate"], mine["per"], mine["warning"], mine["critical"]) == ("bounce", "tenant", 3.0, 8.0)
    assert mine["created_at"].endswith("Z")


def test_a_rule_is_replaced_changed_and_removed(system: System) -> None:
    path = "/v1/alert-rules/tenants"
    assert system.call("PUT", path, {**RULE, "name": "ignored"}).status_code == 201
    shown = system.get(path)
    assert shown["name"] == "tenants"
    replaced = system.call("PUT", path, {**shown, "warning": 4})  # it can be sent back as it was shown
    assert (replaced.status_code, replaced.get_json()["warning"]) == (200, 4.0)
    changed = system.call("PATCH", path, {"enabled": False, "per": None}).get_json()
    assert (changed["enabled"], changed["in_force"], changed["per"], changed["warning"]) == (
        False,
        False,
        "source",
        4.0,
    )
    assert system.call("DELETE", path).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert system.call(method, path, None if method == "GET" else {}).status_code == 404


def test_a_name_is_taken_once(system: System) -> None:
    system.call("POST", "/v1/alert-rules", RULE)
    answer = system.call("POST", "/v1/alert-rules", {**RULE, "warning": 1})
    assert answer.status_code == 409
    assert system.get("/v1/alert-rules/tenants")["warning"] == 3.0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "weather"}, "kind"),
        ({"window_minutes": 0}, "window_minutes"),
        ({"window_minutes": "long"}, "window_minutes"),
        ({"rate": "odd"}, "rate"),
        ({"warning": 8, "critical": 5}, "critical"),
        ({"colour": "red"}, "colour"),
        ({"name": "with blanks"}, "name"),
        ({"name": None}, "name"),
    ],
)
def test_a_wrong_field_of_a_rule_is_named(shared_system: System, body: dict[str, Any], field: str) -> None:
    answer = shared_system.call("POST", "/v1/alert-rules", {**RULE, **body})
    assert answer.status_code == 422, answer.text
    assert list(answer.get_json()["errors"]) == [field]
    assert shared_system.call("GET", "/v1/alert-rules/tenants").status_code == 404


def test_a_rule_is_for_sources_that_exist(system: System) -> None:
    """With a misspelled source it would never fire."""
    system.create_source("shop")
    path = "/v1/alert-rules/tenants"
    refused = [
        system.call("POST", "/v1/alert-rules", {**RULE, "sources": ["shop", "shpo"]}),
        system.call("PUT", path, {**RULE, "sources": ["shpo"]}),
    ]
    assert system.call("PUT", path, {**RULE, "sources": ["shop"]}).status_code == 201
    refused.append(system.call("PATCH", path, {"sources": ["shop", "shpo"]}))
    for answer in refused:
        assert answer.status_code == 422, answer.text
        assert "'shpo', which is not a source. Did you mean 'shop'?" in answer.get_json()["errors"]["sources"][0]
    system.call("DELETE", "/v1/sources/shop")
    assert system.call("PATCH", path, {"warning": 2}).status_code == 200


def test_without_a_kind_or_a_body_nothing_is_made(shared_system: System) -> None:
    assert "kind" in shared_system.call("POST", "/v1/alert-rules", {"name": "x"}).get_json()["errors"]
    assert shared_system.call("POST", "/v1/alert-rules").status_code == 422


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_the_rules_of_the_file_are_changed_in_the_file(shared_system: System, method: str) -> None:
    body = None if method == "DELETE" else {**RULE, "name": "bounce-rate"}
    answer = shared_system.call(method, "/v1/alert-rules/bounce-rate", body)
    assert answer.status_code == 409
    assert "cannot be changed through the API" in answer.get_json()["detail"]
    assert shared_system.call("POST", "/v1/alert-rules", {**RULE, "name": "bounce-rate"}).status_code == 409


def test_a_rule_whose_name_the_file_takes_is_not_in_force_and_can_be_removed(system: System) -> None:
    system.call("POST", "/v1/alert-rules", RULE)

    def accept(connection: Connection) -> None:
        text = "alerts: [{name: tenants, kind: pending_age, warning: 60 }]"
        store.store_accepted(connection, "/etc/rules.yaml", text)

    with system.engine.begin() as connection:
        accept(connection)
    try:
        both = [(rule["origin"], rule["in_force"]) for rule in system.list_items("/v1/alert-rules", limit=1)]
        assert both == [("api", False), ("file", True)]
        assert system.get("/v1/alert-rules/tenants")["kind"] == "pending_age"
        assert "/etc/rules.yaml" in system.call("PUT", "/v1/alert-rules/tenants", RULE).get_json()["detail"]
        assert system.call("DELETE", "/v1/alert-rules/tenants").status_code == 204
        assert system.call("DELETE", "/v1/alert-rules/tenants").status_code == 409
    finally:
        system.execute("DELETE FROM rules_in_force")


# Channels


def test_a_webhook_is_made_with_a_secret_that_is_shown_once(system: System, sink: HttpSink) -> None:
    made = webhook(system, f"{sink.url}/hooks/{SECRET}?token={SECRET}")
    standard_webhooks.check_secret(made["secret"])
    assert made["url"] == f"{sink.url}/••••"
    answers = [
        system.call("GET", "/v1/alert-channels"),
        system.call("GET", "/v1/alert-channels/ops"),
        system.call("PATCH", "/v1/alert-channels/ops", {"least_severity": "critical"}),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert made["secret"] not in answer.text
        assert SECRET not in answer.text
    assert answers[2].get_json()["least_severity"] == "critical"
    assert (
        system.execute("SELECT 1 FROM alert_channels WHERE position('hunter2' in encode(target, 'escape')) > 0") == []
    )


def test_a_secret_can_be_brought_along(system: System, sink: HttpSink) -> None:
    secret = standard_webhooks.new_secret()
    assert webhook(system, sink.url, secret=secret)["secret"] == secret
    system.call("POST", "/v1/alert-channels/ops/test")
    (request,) = sink.received
    Webhook(secret).verify(request.body, dict(request.headers))


def test_a_new_secret_signs_beside_the_old_one_for_a_day(system: System, sink: HttpSink) -> None:
    old = webhook(system, sink.url)["secret"]
    new = system.call("POST", "/v1/alert-channels/ops/rotate-secret").get_json()["secret"]
    newest = system.call("POST", "/v1/alert-channels/ops/rotate-secret").get_json()["secret"]
    system.call("POST", "/v1/alert-channels/ops/test")
    (request,) = sink.received
    for secret in (new, newest):
        Webhook(secret).verify(request.body, dict(request.headers))
    assert request.headers["webhook-signature"].count("v1,") == 2
    assert old not in (new, newest)
    with system.engine.begin() as connection:
        row = stored.get_channel(connection, "ops")
    assert row is not None
    message = rendering.render_test("ops", message_id="x", now=alerts.BEGIN)
    later = alerts.BEGIN + timedelta(days=36500)
    channels.send(row, system.vault, message, now=later, deadline_seconds=5)
    assert sink.received[1].headers["webhook-signature"].count("v1,") == 1


def test_a_test_of_a_channel_shows_the_response(system: System, sink: HttpSink) -> None:
    webhook(system, sink.url)
    good = system.call("POST", "/v1/alert-channels/ops/test").get_json()
    assert good == {"ok": True, "detail": "answered 200"}
    assert sink.received[0].json["type"] == "alert.test"
    sink.then(http_sink.answer(401))
    bad = system.call("POST", "/v1/alert-channels/ops/test").get_json()
    assert bad == {"ok": False, "detail": f"{sink.url} answered 401"}


def test_a_successful_test_of_a_channel_makes_its_failed_notifications_due(system: System, sink: HttpSink) -> None:
    webhook(system, sink.url)
    fire(system)
    system.execute("UPDATE alert_channels SET rests_until = now() + interval '1 h'")
    system.execute("UPDATE alert_notices SET available_at = now() + interval '1 h'")
    waits = "SELECT rests_until IS NULL, available_at <= now() FROM alert_channels, alert_notices"
    sink.then(http_sink.answer(500))
    system.call("POST", "/v1/alert-channels/ops/test")
    assert [tuple(row) for row in system.execute(waits)] == [(False, False)]
    system.call("POST", "/v1/alert-channels/ops/test")
    assert [tuple(row) for row in system.execute(waits)] == [(True, True)]


def test_apprise_is_tried_for_real(system: System, sink: HttpSink) -> None:
    url = sink.url.replace("http", "json") + f"/{SECRET}"
    answer = system.call("POST", "/v1/alert-channels", {"name": "chat", "kind": "apprise", "url": url})
    assert (answer.status_code, answer.get_json()["secret"]) == (201, None)
    assert answer.get_json()["url"] == "json://••••"
    assert system.call("POST", "/v1/alert-channels/chat/test").get_json()["ok"] is True
    assert "test of the channel chat" in sink.received[0].json["title"]
    sink.always = http_sink.answer(500)
    bad = system.call("POST", "/v1/alert-channels/chat/test")
    assert bad.get_json()["ok"] is False
    assert "error=500" in bad.get_json()["detail"]
    assert SECRET not in bad.text
    assert system.call("POST", "/v1/alert-channels/chat/rotate-secret").status_code == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "On Call"}, "name"),
        ({"name": ""}, "name"),
        ({"kind": "pigeon"}, "kind"),
        ({"url": ""}, "url"),
        ({"url": "hooks.example.com"}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://example.com:99999/"}, "url"),
        ({"url": "http://[::1/"}, "url"),
        ({"url": "http://example.com/a b"}, "url"),
        ({"url": "http://example.com/\r\nX: y"}, "url"),
        ({"url": "http://ex\u00e4mple.com/"}, "url"),
        ({"url": "http://example.com/" + "a" * 3000}, "url"),
        ({"least_severity": "mild"}, "least_severity"),
        ({"secret": "whsec_short"}, "secret"),
        ({"colour": "red"}, "colour"),
        ({"kind": "apprise", "url": "json://127.0.0.1", "secret": standard_webhooks.new_secret()}, "secret"),
    ],
)
def test_a_wrong_field_of_a_channel_is_named(shared_system: System, body: dict[str, Any], field: str) -> None:
    whole = {"name": "ops", "kind": "webhook", "url": "https://hooks.example.com/x", **body}
    answer = shared_system.call("POST", "/v1/alert-channels", whole)
    assert answer.status_code == 422, answer.text
    assert list(answer.get_json()["errors"]) == [field]
    assert shared_system.get("/v1/alert-channels")["items"] == []


@pytest.mark.parametrize(
    "url",
    [
        "json://[::1/",
        *(f"{scheme}://x" for scheme in sorted(apprise.REFUSED_SCHEMES)),
        "SYSLOG://x",
        "https://example.com/x",
        "nosuchservice://x",
        "slack://",
        "mailto",
        "json://127.0.0.1/\n",
        "workflow://host/w/s/?template=/etc/passwd",
        "workflow://host/w/s/?%74emplate=/etc/passwd",
        "workflow://host/w/s/?Template=/etc/passwd",
        "fcm://project/device?a=b&keyfile=/etc/passwd",
        "json://127.0.0.1/?attach=file:///etc/passwd",
    ],
)
def test_apprise_may_neither_read_files_nor_talk_to_the_machine(shared_system: System, url: str) -> None:
    answer = shared_system.call("POST", "/v1/alert-channels", {"name": "chat", "kind": "apprise", "url": url})
    assert answer.status_code == 422, answer.text
    assert list(answer.get_json()["errors"]) == ["url"]


def test_the_process_of_apprise_itself_cannot_read_files(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{}")
    url = f"discord://1234567890/abcdefghijklmnop?template={tmp_path}/secrets.json"
    would = "import sys; from apprise import Apprise; sys.exit(Apprise.instantiate(sys.argv[1]) is None)"
    subprocess.run([sys.executable, "-c", would, url], check=True)
    request = {"action": "check", "url": url, "deadline_seconds": 20}
    done = subprocess.run(
        [sys.executable, "-m", "shared.notifications.apprise_process"],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
    )
    assert "Could not load Discord URL" in json.loads(done.stdout)["error"]


def test_what_apprise_could_not_use_is_said_without_what_is_secret(shared_system: System) -> None:
    url = f"discord://{SECRET}/?x={SECRET}"
    answer = shared_system.call("POST", "/v1/alert-channels", {"name": "chat", "kind": "apprise", "url": url})
    assert "not one that apprise can use" in answer.get_json()["errors"]["url"][0]
    assert SECRET not in answer.text


def test_without_apprise_a_sentence_says_how_to_install_it(
    shared_system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apprise.py").write_text("raise ModuleNotFoundError('no apprise here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    body = {"name": "chat", "kind": "apprise", "url": "json://127.0.0.1/"}
    errors = shared_system.call("POST", "/v1/alert-channels", body).get_json()["errors"]
    assert "pip install 'tidings[apprise]'" in errors["kind"][0]


def test_changing_a_channel_makes_its_failed_notifications_due(system: System, sink: HttpSink) -> None:
    webhook(system, "http://127.0.0.1:1/")
    fire(system)
    system.execute("UPDATE alert_channels SET rests_until = now() + interval '1 h'")
    assert system.call("PATCH", "/v1/alert-channels/ops", {"url": "nowhere"}).status_code == 422
    answer = system.call("PATCH", "/v1/alert-channels/ops", {"url": sink.url})
    assert answer.get_json()["url"] == sink.url
    assert system.execute("SELECT rests_until FROM alert_channels")[0][0] is None
    assert system.call("POST", "/v1/alert-channels/ops/test").get_json()["ok"] is True


def test_channels_come_in_pages_by_name_and_each_name_is_there_once(system: System, sink: HttpSink) -> None:
    for name in ("c", "a", "b"):
        webhook(system, sink.url, name)
    again = system.call("POST", "/v1/alert-channels", {"name": "a", "kind": "webhook", "url": sink.url})
    assert again.status_code == 409
    assert [channel["name"] for channel in system.list_items("/v1/alert-channels", limit=2)] == ["a", "b", "c"]


def test_a_removed_channel_is_gone(system: System, sink: HttpSink) -> None:
    webhook(system, sink.url)
    alert_id = fire(system)
    assert system.call("DELETE", "/v1/alert-channels/ops").status_code == 204
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate-secret")):
        body = {"url": sink.url} if method == "PATCH" else None
        assert system.call(method, f"/v1/alert-channels/ops{path}", body).status_code == 404
    (notice,) = system.get(f"/v1/alerts/{alert_id}")["notices"]
    assert (notice["state"], notice["last_error"]) == ("dead", "the channel was removed")


def test_a_channel_whose_secrets_cannot_be_opened_says_so(system: System, sink: HttpSink) -> None:
    webhook(system, sink.url)
    system.execute("UPDATE alert_channels SET target = 'nonsense'")
    (found,) = system.get("/v1/alert-channels")["items"]
    assert "TIDINGS_SECRET_KEYS" in found["problem"]
    assert system.call("PATCH", "/v1/alert-channels/ops", {"url": sink.url}).status_code == 409
    assert system.call("POST", "/v1/alert-channels/ops/rotate-secret").status_code == 409
    assert system.call("POST", "/v1/alert-channels/ops/test").get_json()["ok"] is False
