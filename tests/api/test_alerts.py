"""Alerts: found, looked at, acknowledged; the rules they follow; and the channels that people are told by."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection
from standardwebhooks import Webhook

from shared.db import rules_in_force
from shared.http import standard_webhooks
from shared.notifications import apprise, channels, rendering
from shared.notifications import channel_store as stored
from shared.notifications.base import Attempt
from shared.vocabulary import AlertKind
from tests import sinks, telling
from tests.api.house import House
from tests.api.test_openapi import agrees
from tests.sinks import HttpSink

RULE = {"name": "tenants", "kind": "rate", "rate": "bounce", "per": "tenant", "warning": 3, "critical": 8}
SECRET = "hunter2-hunter2-hunter2"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with sinks.http_sink() as opened:
        yield opened


def fire(house: House, subject: str = "main", **more: Any) -> UUID:
    with house.engine.begin() as connection:
        return telling.fire(connection, subject, **more)


def webhook(house: House, url: str, name: str = "cli", **more: Any) -> dict[str, Any]:
    answer = house.call("POST", "/v1/alert-channels", {"name": name, "kind": "webhook", "url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


# Alerts


def test_alerts_come_newest_first_and_can_be_picked(house: House) -> None:
    source = house.source("shop")
    with house.engine.begin() as connection:
        first = telling.fire(connection, "a", source_id=source)
        second = telling.fire(
            connection, "b", rule="silence", severity="critical", at=telling.BEGIN + timedelta(hours=1)
        )
        third = telling.fire(connection, "c", at=telling.BEGIN + timedelta(hours=2))
        telling.resolve(connection, third, at=telling.BEGIN + timedelta(hours=3))

    def found(**query: Any) -> list[str]:
        return [alert["id"] for alert in house.items("/v1/alerts", limit=1, **query)]

    assert found() == [str(third), str(second), str(first)]
    assert found(state="firing") == [str(second), str(first)]
    assert found(state="resolved") == [str(third)]
    assert found(severity="critical") == [str(second)]
    assert found(rule="silence") == [str(second)]
    assert found(source="shop") == [str(first)]
    assert found(source="nobody") == []
    for wrong in ({"state": "odd"}, {"severity": "odd"}, {"color": "red"}):
        assert house.call("GET", "/v1/alerts", **wrong).status_code == 422


def test_an_alert_is_shown_with_its_history_and_who_was_told(house: House, sink: HttpSink) -> None:
    webhook(house, sink.url)
    alert_id = fire(house, source_id=house.source("shop"))
    with house.engine.begin() as connection:
        telling.escalate(connection, alert_id)
    found = house.get(f"/v1/alerts/{alert_id}")
    assert (found["rule"], found["kind"], found["severity"], found["state"]) == (
        "bounces",
        "rate",
        "critical",
        "firing",
    )
    assert (found["source"], found["started_at"]) == ("shop", "2026-01-01T12:00:00Z")
    assert found["next_step"] == rendering.NEXT_STEPS[AlertKind.RATE]
    assert [(step["step"], step["severity"]) for step in found["steps"]] == [
        ("fired", "warning"),
        ("escalated", "critical"),
    ]
    assert found["steps"][0]["numbers"] == {"bounced": 11, "ended": 200, "percent": 5.5}
    assert [(told["channel"], told["step"], told["state"], told["attempts"]) for told in found["notices"]] == [
        ("cli", "fired", "pending", 0),
        ("cli", "escalated", "pending", 0),
    ]
    assert found["notices"][0]["next_attempt_at"]
    assert found["notices"][0]["message_id"] is None
    assert house.call("GET", f"/v1/alerts/{uuid4()}").status_code == 404


def test_who_acknowledges_first_stays(house: House) -> None:
    alert_id = fire(house)
    path = f"/v1/alerts/{alert_id}/ack"
    assert house.get(f"/v1/alerts/{alert_id}")["acknowledged_at"] is None
    first = house.call("POST", path).get_json()
    assert first["acknowledged_at"]
    assert first["acknowledged_by"] == "TIDINGS_ADMIN_KEY"
    again = house.call("POST", path)
    assert (again.status_code, again.get_json()) == (200, first)
    assert [step["step"] for step in house.get(f"/v1/alerts/{alert_id}")["steps"]] == ["fired", "acknowledged"]
    with house.engine.begin() as connection:
        telling.resolve(connection, alert_id)
    assert house.call("POST", path).status_code == 200
    assert house.call("POST", f"/v1/alerts/{uuid4()}/ack").status_code == 404


def test_what_is_over_and_was_not_acknowledged_never_is(house: House) -> None:
    alert_id = fire(house)
    with house.engine.begin() as connection:
        telling.resolve(connection, alert_id)
    assert house.call("POST", f"/v1/alerts/{alert_id}/ack").status_code == 409


@pytest.mark.parametrize("kind", AlertKind)
def test_every_kind_of_rule_says_what_to_do(kind: AlertKind) -> None:
    assert kind in rendering.NEXT_STEPS


def test_answers_have_exactly_the_documented_fields(house: House, sink: HttpSink) -> None:
    webhook(house, sink.url)
    alert_id = fire(house)
    schemas = house.client.get("/openapi.json").get_json()["components"]["schemas"]
    agrees(house.get("/v1/alerts")["items"][0], schemas["Alert"], schemas)
    agrees(house.get(f"/v1/alerts/{alert_id}"), schemas["WholeAlert"], schemas)
    agrees(house.get("/v1/alert-channels")["items"][0], schemas["Channel"], schemas)


# Rules


def test_rules_of_the_file_and_of_the_api_are_listed_together(house: House) -> None:
    made = house.call("POST", "/v1/alert-rules", RULE)
    assert made.status_code == 201
    assert made.headers["Location"] == "/v1/alert-rules/tenants"
    rules = house.items("/v1/alert-rules", limit=3)
    assert [rule["name"] for rule in rules] == sorted(rule["name"] for rule in rules)
    by_name = {rule["name"]: rule for rule in rules}
    assert by_name["bounce-rate"]["origin"] == "file"
    mine = by_name["tenants"]
    assert (mine["origin"], mine["in_force"], mine["created_by"]) == ("api", True, "TIDINGS_ADMIN_KEY")
    assert (mine["rate"], mine["per"], mine["warning"], mine["critical"]) == ("bounce", "tenant", 3.0, 8.0)
    assert mine["created_at"].endswith("Z")


def test_a_rule_is_replaced_changed_and_removed(house: House) -> None:
    path = "/v1/alert-rules/tenants"
    assert house.call("PUT", path, {**RULE, "name": "ignored"}).status_code == 201
    shown = house.get(path)
    assert shown["name"] == "tenants"
    replaced = house.call("PUT", path, {**shown, "warning": 4})  # it can be sent back as it was shown
    assert (replaced.status_code, replaced.get_json()["warning"]) == (200, 4.0)
    changed = house.call("PATCH", path, {"enabled": False, "per": None}).get_json()
    assert (changed["enabled"], changed["in_force"], changed["per"], changed["warning"]) == (
        False,
        False,
        "source",
        4.0,
    )
    assert house.call("DELETE", path).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert house.call(method, path, None if method == "GET" else {}).status_code == 404


def test_a_name_is_taken_once(house: House) -> None:
    house.call("POST", "/v1/alert-rules", RULE)
    answer = house.call("POST", "/v1/alert-rules", {**RULE, "warning": 1})
    assert answer.status_code == 409
    assert house.get("/v1/alert-rules/tenants")["warning"] == 3.0


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
def test_a_wrong_field_of_a_rule_is_named(still_house: House, body: dict[str, Any], field: str) -> None:
    answer = still_house.call("POST", "/v1/alert-rules", {**RULE, **body})
    assert answer.status_code == 422, answer.text
    assert list(answer.get_json()["errors"]) == [field]
    assert still_house.call("GET", "/v1/alert-rules/tenants").status_code == 404


def test_without_a_kind_or_a_body_nothing_is_made(still_house: House) -> None:
    assert "kind" in still_house.call("POST", "/v1/alert-rules", {"name": "x"}).get_json()["errors"]
    assert still_house.call("POST", "/v1/alert-rules").status_code == 422


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_the_rules_of_the_file_are_changed_in_the_file(still_house: House, method: str) -> None:
    body = None if method == "DELETE" else {**RULE, "name": "bounce-rate"}
    answer = still_house.call(method, "/v1/alert-rules/bounce-rate", body)
    assert answer.status_code == 409
    assert "cannot be changed over the API" in answer.get_json()["detail"]
    assert still_house.call("POST", "/v1/alert-rules", {**RULE, "name": "bounce-rate"}).status_code == 409


def test_a_rule_whose_name_the_file_takes_is_not_in_force_and_can_be_removed(house: House) -> None:
    house.call("POST", "/v1/alert-rules", RULE)

    def accept(connection: Connection) -> None:
        rules_in_force.keep(connection, "/etc/rules.yaml", "alerts: [{name: tenants, kind: pending_age, warning: 60 }]")

    with house.engine.begin() as connection:
        accept(connection)
    try:
        both = [(rule["origin"], rule["in_force"]) for rule in house.items("/v1/alert-rules", limit=1)]
        assert both == [("api", False), ("file", True)]
        assert house.get("/v1/alert-rules/tenants")["kind"] == "pending_age"
        assert "/etc/rules.yaml" in house.call("PUT", "/v1/alert-rules/tenants", RULE).get_json()["detail"]
        assert house.call("DELETE", "/v1/alert-rules/tenants").status_code == 204
        assert house.call("DELETE", "/v1/alert-rules/tenants").status_code == 409
    finally:
        house.execute("DELETE FROM rules_in_force")


# Channels


def test_a_webhook_is_made_with_a_secret_that_is_shown_once(house: House, sink: HttpSink) -> None:
    made = webhook(house, f"{sink.url}/hooks/{SECRET}?token={SECRET}")
    standard_webhooks.check_secret(made["secret"])
    assert made["url"] == f"{sink.url}/••••"
    answers = [
        house.call("GET", "/v1/alert-channels"),
        house.call("GET", "/v1/alert-channels/ops"),
        house.call("PATCH", "/v1/alert-channels/ops", {"least_severity": "critical"}),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert made["secret"] not in answer.text
        assert SECRET not in answer.text
    assert answers[2].get_json()["least_severity"] == "critical"
    assert house.execute("SELECT 1 FROM alert_channels WHERE position('hunter2' in encode(target, 'escape')) > 0") == []


def test_a_secret_can_be_brought_along(house: House, sink: HttpSink) -> None:
    secret = standard_webhooks.new_secret()
    assert webhook(house, sink.url, secret=secret)["secret"] == secret
    house.call("POST", "/v1/alert-channels/ops/test")
    (request,) = sink.received
    Webhook(secret).verify(request.body, dict(request.headers))


def test_a_new_secret_signs_beside_the_old_one_for_a_day(house: House, sink: HttpSink) -> None:
    old = webhook(house, sink.url)["secret"]
    new = house.call("POST", "/v1/alert-channels/ops/rotate-secret").get_json()["secret"]
    newest = house.call("POST", "/v1/alert-channels/ops/rotate-secret").get_json()["secret"]
    house.call("POST", "/v1/alert-channels/ops/test")
    (request,) = sink.received
    for secret in (new, newest):
        Webhook(secret).verify(request.body, dict(request.headers))
    assert request.headers["webhook-signature"].count("v1,") == 2
    assert old not in (new, newest)
    with house.engine.begin() as connection:
        row = stored.find(connection, "cli")
    assert row is not None
    message = rendering.trial("cli", message_id="x", now=telling.BEGIN)
    later = Attempt(at=telling.BEGIN + timedelta(days=36500), deadline_seconds=5)
    channels.tell(row, house.vault, message, later)
    assert sink.received[1].headers["webhook-signature"].count("v1,") == 1


def test_a_test_tells_what_came_back(house: House, sink: HttpSink) -> None:
    webhook(house, sink.url)
    good = house.call("POST", "/v1/alert-channels/ops/test").get_json()
    assert good == {"ok": True, "detail": "answered 200"}
    assert sink.received[0].json["type"] == "alert.test"
    sink.then(sinks.answer(401))
    bad = house.call("POST", "/v1/alert-channels/ops/test").get_json()
    assert bad == {"ok": False, "detail": f"{sink.url} answered 401"}


def test_a_test_that_works_has_told_soon_what_could_not_be_told(house: House, sink: HttpSink) -> None:
    webhook(house, sink.url)
    fire(house)
    house.execute("UPDATE alert_channels SET rests_until = now() + interval '1 h'")
    house.execute("UPDATE alert_notices SET available_at = now() + interval '1 h'")
    waits = "SELECT rests_until IS NULL, available_at <= now() FROM alert_channels, alert_notices"
    sink.then(sinks.answer(500))
    house.call("POST", "/v1/alert-channels/ops/test")
    assert [tuple(row) for row in house.execute(waits)] == [(False, False)]
    house.call("POST", "/v1/alert-channels/ops/test")
    assert [tuple(row) for row in house.execute(waits)] == [(True, True)]


def test_apprise_is_tried_for_real(house: House, sink: HttpSink) -> None:
    url = sink.url.replace("http", "json") + f"/{SECRET}"
    answer = house.call("POST", "/v1/alert-channels", {"name": "chat", "kind": "apprise", "url": url})
    assert (answer.status_code, answer.get_json()["secret"]) == (201, None)
    assert answer.get_json()["url"] == "json://••••"
    assert house.call("POST", "/v1/alert-channels/chat/test").get_json()["ok"] is True
    assert "test of the channel chat" in sink.received[0].json["title"]
    sink.always = sinks.answer(500)
    bad = house.call("POST", "/v1/alert-channels/chat/test")
    assert bad.get_json()["ok"] is False
    assert "error=500" in bad.get_json()["detail"]
    assert SECRET not in bad.text
    assert house.call("POST", "/v1/alert-channels/chat/rotate-secret").status_code == 409


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
def test_a_wrong_field_of_a_channel_is_named(still_house: House, body: dict[str, Any], field: str) -> None:
    whole = {"name": "cli", "kind": "webhook", "url": "https://hooks.example.com/x", **body}
    answer = still_house.call("POST", "/v1/alert-channels", whole)
    assert answer.status_code == 422, answer.text
    assert list(answer.get_json()["errors"]) == [field]
    assert still_house.get("/v1/alert-channels")["items"] == []


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
def test_apprise_may_neither_read_files_nor_talk_to_the_machine(still_house: House, url: str) -> None:
    answer = still_house.call("POST", "/v1/alert-channels", {"name": "chat", "kind": "apprise", "url": url})
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


def test_what_apprise_could_not_use_is_said_without_what_is_secret(still_house: House) -> None:
    url = f"discord://{SECRET}/?x={SECRET}"
    answer = still_house.call("POST", "/v1/alert-channels", {"name": "chat", "kind": "apprise", "url": url})
    assert "none that apprise can use" in answer.get_json()["errors"]["url"][0]
    assert SECRET not in answer.text


def test_without_apprise_a_sentence_says_how_to_install_it(
    still_house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apprise.py").write_text("raise ModuleNotFoundError('no apprise here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    body = {"name": "chat", "kind": "apprise", "url": "json://127.0.0.1/"}
    errors = still_house.call("POST", "/v1/alert-channels", body).get_json()["errors"]
    assert "pip install 'tidings[apprise]'" in errors["kind"][0]


def test_a_channel_is_changed_and_told_what_it_could_not_be_told(house: House, sink: HttpSink) -> None:
    webhook(house, "http://127.0.0.1:1/")
    fire(house)
    house.execute("UPDATE alert_channels SET rests_until = now() + interval '1 h'")
    assert house.call("PATCH", "/v1/alert-channels/ops", {"url": "nowhere"}).status_code == 422
    answer = house.call("PATCH", "/v1/alert-channels/ops", {"url": sink.url})
    assert answer.get_json()["url"] == sink.url
    assert house.execute("SELECT rests_until FROM alert_channels")[0][0] is None
    assert house.call("POST", "/v1/alert-channels/ops/test").get_json()["ok"] is True


def test_channels_come_in_pages_by_name_and_each_name_is_there_once(house: House, sink: HttpSink) -> None:
    for name in ("c", "a", "b"):
        webhook(house, sink.url, name)
    again = house.call("POST", "/v1/alert-channels", {"name": "a", "kind": "webhook", "url": sink.url})
    assert again.status_code == 409
    assert [channel["name"] for channel in house.items("/v1/alert-channels", limit=2)] == ["a", "b", "c"]


def test_a_removed_channel_is_gone(house: House, sink: HttpSink) -> None:
    webhook(house, sink.url)
    alert_id = fire(house)
    assert house.call("DELETE", "/v1/alert-channels/ops").status_code == 204
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate-secret")):
        body = {"url": sink.url} if method == "PATCH" else None
        assert house.call(method, f"/v1/alert-channels/ops{path}", body).status_code == 404
    (told,) = house.get(f"/v1/alerts/{alert_id}")["notices"]
    assert (told["state"], told["last_error"]) == ("dead", "the channel was removed")


def test_a_channel_whose_secrets_cannot_be_opened_says_so(house: House, sink: HttpSink) -> None:
    webhook(house, sink.url)
    house.execute("UPDATE alert_channels SET target = 'nonsense'")
    (found,) = house.get("/v1/alert-channels")["items"]
    assert "TIDINGS_SECRET_KEYS" in found["problem"]
    assert house.call("PATCH", "/v1/alert-channels/ops", {"url": sink.url}).status_code == 409
    assert house.call("POST", "/v1/alert-channels/ops/rotate-secret").status_code == 409
    assert house.call("POST", "/v1/alert-channels/ops/test").get_json()["ok"] is False
