"""`tidings alerts`: list what fires, acknowledge it, and configure notification channels."""

import json
import uuid
from collections.abc import Iterator
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from tests.support import alerts, http_sink
from tests.support.command_line import Commands
from tests.support.http_sink import HttpSink


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as opened:
        yield opened


def fire(commands: Commands, subject: str = "main", **more: str) -> UUID:
    with commands.system.engine.begin() as connection:
        return alerts.fire(connection, subject, **more)  # type: ignore[arg-type]


def test_what_fires_is_listed_and_what_is_over_only_when_asked_for(commands: Commands) -> None:
    assert "No matching alert fires" in commands.run("alerts", "list")
    firing, over = fire(commands, "one", severity="critical"), fire(commands, "two", rule="[odd] rule")
    with commands.system.engine.begin() as connection:
        alerts.resolve(connection, over)
    listed = commands.run("alerts", "list")
    assert str(firing) in listed
    assert "5.5 % of the mail of one bounced." in listed
    assert str(over) not in listed
    both = commands.run("alerts", "list", "--all")
    assert str(over) in both
    assert "[odd] rule" in both
    assert [alert["id"] for alert in json.loads(commands.run("alerts", "list", "--json"))] == [str(firing)]
    assert "No matching alert fires" in commands.run("alerts", "list", "--severity", "warning")


def test_an_alert_is_shown_with_the_next_step_and_its_notifications(commands: Commands, sink: HttpSink) -> None:
    commands.run("alerts", "channels", "add", "ops", sink.url)
    alert_id = fire(commands)
    shown = commands.run("alerts", "show", str(alert_id))
    for words in ("5.5 % of the mail of main bounced.", "What to do: ", "percent 5.5", "fired", "ops", "pending"):
        assert words in shown
    whole = json.loads(commands.run("alerts", "show", str(alert_id), "--json"))
    assert [step["step"] for step in whole["steps"]] == ["fired"]
    assert [notice["channel"] for notice in whole["notices"]] == ["ops"]


def test_an_alert_without_notifications_says_so(commands: Commands) -> None:
    assert "Nobody was notified" in commands.run("alerts", "show", str(fire(commands)))


def test_somebody_says_that_they_are_at_it(commands: Commands) -> None:
    alert_id = fire(commands)
    said = commands.run("alerts", "ack", str(alert_id))
    assert "Acknowledged by " in said
    assert commands.run("alerts", "ack", str(alert_id)) == said
    assert "command line" in commands.run("alerts", "show", str(alert_id))
    over = fire(commands, "two")
    with commands.system.engine.begin() as connection:
        alerts.resolve(connection, over)
    assert "is resolved" in commands.run("alerts", "ack", str(over), code=2)
    (entry,) = commands.system.get("/v1/audit", action="alert.acknowledged")["items"]
    assert entry["object"] == f"alert:{alert_id}"


@pytest.mark.parametrize("command", ["show", "ack"])
def test_an_unknown_alert_is_said_so(commands: Commands, command: str) -> None:
    assert "There is no alert" in commands.run("alerts", command, str(uuid.uuid4()), code=2)
    assert "There is no alert '5'; give an id or its first digits" in commands.run("alerts", command, "5", code=2)


def test_an_alert_is_named_by_the_beginning_of_its_id(commands: Commands) -> None:
    one, two = fire(commands, "one"), fire(commands, "two")
    shared = str(one)[:8]  # of the time, which is the same
    assert str(two).startswith(shared)
    assert "5.5 % of the mail of one" in commands.run("alerts", "show", str(one)[:-3])
    refused = commands.run("alerts", "ack", shared, code=2)
    assert "is not one alert but several" in refused
    assert str(one) in refused


def test_a_list_fits_80_columns_without_cutting_an_id(commands: Commands) -> None:
    alert_id = fire(commands, summary=" ".join(["The bounce rate is too high."] * 9))
    listed = Commands(commands.system, commands.settings | {"COLUMNS": "80"}).run("alerts", "list")
    assert str(alert_id) in listed
    assert max(map(len, listed.splitlines())) <= 80


def test_rules_are_listed_with_where_they_come_from(commands: Commands) -> None:
    body = {"name": "old-receipts", "kind": "pending_age", "warning": 60}
    assert commands.system.call("POST", "/v1/alert-rules", body).status_code == 201
    listed = commands.run("alerts", "rules")
    assert "bounce-rate" in listed
    assert "the defaults" in listed
    assert "warning 60; from the API" in listed
    (mine,) = [rule for rule in json.loads(commands.run("alerts", "rules", "--json")) if rule["name"] == "old-receipts"]
    assert (mine["warning"], mine["from"], mine["enabled"]) == (60, "the API", True)


def test_a_webhook_is_made_tried_rotated_and_removed(commands: Commands, sink: HttpSink) -> None:
    assert "nobody is notified" in commands.run("alerts", "channels", "list")
    made = commands.run("alerts", "channels", "add", "ops", f"{sink.url}/secret-path", "--least", "critical")
    old = made.splitlines()[0]
    listed = commands.run("alerts", "channels", "list")
    assert f"{sink.url}/••••" in listed
    assert "critical" in listed
    new = commands.run("alerts", "channels", "rotate-secret", "ops").splitlines()[0]
    assert "answered 200" in commands.run("alerts", "channels", "test", "ops")
    (request,) = sink.received
    for secret in (old, new):
        Webhook(secret).verify(request.body, dict(request.headers))
    sink.then(http_sink.answer(500))
    assert "answered 500" in commands.run("alerts", "channels", "test", "ops", code=1)
    assert "Aborted" in commands.run("alerts", "channels", "remove", "ops", says="n\n", code=1)
    commands.run("alerts", "channels", "remove", "ops", "--yes")
    assert commands.run("alerts", "channels", "list", "--json").strip() == "[]"


def test_what_is_no_web_address_is_apprises_and_need_not_be_typed(commands: Commands, sink: HttpSink) -> None:
    url = sink.url.replace("http", "json") + "/very-secret"
    commands.run("alerts", "channels", "add", "chat", "-", says=f"{url}\n")
    listed = commands.run("alerts", "channels", "list")
    assert "json://••••" in listed
    assert "very-secret" not in listed
    commands.run("alerts", "channels", "test", "chat")
    assert "test of the channel chat" in sink.received[0].json["title"]


def test_a_failing_channel_is_seen_in_the_list(commands: Commands) -> None:
    commands.run("alerts", "channels", "add", "ops", "http://127.0.0.1:1/")
    commands.system.execute("UPDATE alert_channels SET failing_since = now(), failures = 3, last_error = 'nobody home'")
    assert "nobody home" in commands.run("alerts", "channels", "list")
    commands.system.execute("UPDATE alert_channels SET target = 'nonsense'")
    assert "TIDINGS_SECRET_KEYS" in commands.run("alerts", "channels", "list")


def test_wrong_channels_are_refused_in_a_sentence(commands: Commands) -> None:
    def add(name: str, url: str, code: int = 2) -> str:
        return commands.run("alerts", "channels", "add", name, url, code=code)

    assert "url must not be a file:// URL" in add("x", "file:///etc/passwd")
    assert "name must be 1 to 63" in add("On Call", "https://example.com/")
    add("ops", "https://example.com/", code=0)
    assert "already" in add("ops", "https://example.com/")
    for words in (("remove", "x", "--yes"), ("test", "x"), ("rotate-secret", "x")):
        assert "no channel called 'x'" in commands.run("alerts", "channels", *words, code=2)


def test_an_alert_is_muted_until_a_time(commands: Commands) -> None:
    alert_id = fire(commands)
    assert f"Muted {alert_id} until " in commands.run("alerts", "mute", str(alert_id), "--hours", "2")
    assert "muted until" in commands.run("alerts", "show", str(alert_id))
    assert "; muted until" in commands.run("alerts", "list").replace("    muted", "; muted")
    assert "notified of" in commands.run("alerts", "unmute", str(alert_id))
    assert "muted until" not in commands.run("alerts", "list")
    assert "must be in the future" in commands.run("alerts", "mute", str(alert_id), "--until", "2026-01-01", code=2)
    assert "such as 12:00 (the next one)" in commands.run("alerts", "mute", str(alert_id), "--until", "noon", code=2)
    assert "either --hours or --until" in commands.run("alerts", "mute", str(alert_id), code=2)
    assert [step["step"] for step in json.loads(commands.run("alerts", "show", str(alert_id), "--json"))["steps"]] == [
        "fired",
        "muted",
        "unmuted",
    ]
    with commands.system.engine.begin() as connection:
        alerts.resolve(connection, alert_id)
    assert "is resolved" in commands.run("alerts", "mute", str(alert_id), "--hours", "1", code=2)


def test_a_channel_is_limited_to_sources_that_exist(commands: Commands) -> None:
    commands.system.create_source("shop")
    refused = commands.run("alerts", "channels", "add", "ops", "http://127.0.0.1:1/", "--source", "shp", code=2)
    assert "sources has 'shp', which is not a source. Did you mean 'shop'?" in refused
    commands.run("alerts", "channels", "add", "ops", "http://127.0.0.1:1/", "--source", "shop", "--rule", "bounces")
    assert "only sources shop; rules bounces" in commands.run("alerts", "channels", "list")
    changed = commands.system.call("PATCH", "/v1/alert-channels/ops", {"sources": None}).get_json()
    assert (changed["sources"], changed["rules"]) == (None, ["bounces"])
