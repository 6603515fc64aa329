"""The commands that list what the API lists: the same filters, the same items, and ids that are never cut."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.main import COMMANDS
from shared import ids
from shared.counters import store as counters
from shared.receipts.store import Refusal, record_refusals
from tests.support.command_line import Commands
from tests.support.system import HANDLE, mailchannels_event
from workers import process_receipts

ANN, BOB = "ann@example.net", "bob@example.net"
REASON = "550 5.1.1 no [such] user \x1b[31m\u202e"
PATHS = {name: f"/v1/{name}" for name in ("messages", "events", "receipts", "refusals", "changes", "audit")}


@pytest.fixture
def populated(commands: Commands) -> Commands:
    """One message that reached Ann and bounced for Bob, one refusal, and the entries of the audit log."""
    system = commands.system
    system.create_source()
    system.process_events(
        mailchannels_event("processed", ANN, BOB, smtp_id="<m1@shop.example>"),
        mailchannels_event("delivered", ANN, second=5),
        mailchannels_event("hard-bounced", BOB, second=7, status="550", reason=REASON),
        at=datetime.now(UTC),
    )
    at = datetime.now(UTC)
    refusal = Refusal(
        id=ids.receipt_id(at),
        source="main",
        refused_at=at,
        status_code=401,
        reason="bad_signature",
        detail="No key\n\x1b[2J",
        remote_ip="192.0.2.1",
        headers="{}",
        bytes=5,
    )
    with system.engine.begin() as connection:
        record_refusals(connection, [refusal])
    return commands


@pytest.mark.parametrize("name", PATHS)
def test_json_has_the_items_of_the_api_one_a_line(populated: Commands, name: str) -> None:
    listed = [json.loads(line) for line in populated.run(name, "--json").splitlines()]
    assert listed == populated.system.get(PATHS[name])["items"]
    assert listed


@pytest.mark.parametrize("name", PATHS)
def test_every_filter_of_the_api_is_an_option(commands: Commands, name: str) -> None:
    document = commands.system.get("/openapi.json")
    parameters = {one["name"] for one in document["paths"][PATHS[name]]["get"]["parameters"] if one["in"] == "query"}
    shown = commands.run(name, "--help")
    for parameter in parameters - {"wait"}:
        assert f"--{parameter.replace('_', '-')} " in shown


@pytest.mark.parametrize("name", PATHS)
def test_ids_are_whole_at_80_columns_and_foreign_text_is_shown(populated: Commands, name: str) -> None:
    narrow = Commands(populated.system, {**populated.settings, "COLUMNS": "80"})
    output = narrow.run(name)
    for item in populated.system.get(PATHS[name])["items"]:
        assert item["id"] in output
    assert "\x1b" not in output
    assert "\u202e" not in output


def test_filters_choose_what_the_api_chooses(populated: Commands) -> None:
    assert "[such] user \\x1b[31m\\u202e" in populated.run(
        "messages", "--recipient", BOB.upper(), "--status", "bounced"
    )
    assert "No such messages" in populated.run("messages", "--recipient", ANN, "--status", "bounced")
    assert [
        json.loads(line)["type"] for line in populated.run("events", "--type", "bounced", "--json").splitlines()
    ] == ["bounced"]
    assert "No such events" in populated.run("events", "--until", "2026-01-01")
    assert "No such receipts" in populated.run("receipts", "--set-aside")
    assert "message.bounced" in populated.run("changes", "--types", "message.bounced")
    assert "source.created" in populated.run("audit", "--object", "source")


def test_a_message_is_named_by_the_beginning_of_its_id(populated: Commands) -> None:
    (message,) = populated.system.get("/v1/messages")["items"]
    assert message["id"] in populated.run("messages", "--message-id", message["id"][:13])
    assert message["id"] in populated.run("changes", "--message-id", message["id"][:13])


def test_a_beginning_of_several_ids_is_refused_with_some_of_them(populated: Commands) -> None:
    populated.system.process_events(mailchannels_event("processed", ANN, request_id="r2"), at=datetime.now(UTC))
    listed = [one["id"] for one in populated.system.get("/v1/messages")["items"]]
    output = populated.run("messages", "--message-id", listed[0][:4], code=2)
    assert "several" in output
    assert all(one in output for one in listed)


def test_a_limit_crosses_pages_and_the_rest_follows_a_cursor(populated: Commands) -> None:
    for number in range(520):
        with populated.system.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO audit_log (id, at, actor, action, object) VALUES (%s, now(), 'key:x', 'job.asked', %s)",
                (ids.receipt_id(datetime.now(UTC)), f"job:{number}"),
            )
    whole = populated.run("audit", "--actor", "key:x", "--json", "--limit", "1000").splitlines()
    assert len(whole) == 520
    assert len(populated.run("audit", "--actor", "key:x", "--json", "--limit", "510").splitlines()) == 510
    shown = populated.run("audit", "--actor", "key:x", "--limit", "2").splitlines()
    cursor = shown[-1].rpartition(" ")[2]
    (third,) = populated.run("audit", "--actor", "key:x", "--json", "--limit", "1", "--cursor", cursor).splitlines()
    assert third == whole[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("changes", "--types", "message.bonced"), "--types: 'message.bonced' is not a type of change. Did you mean"),
        (("changes", "--recipient-domain", "a b"), "--recipient-domain"),
        (("messages", "--source", ""), "--source: "),
        (("events", "--cursor", "x"), "The cursor is not valid for this list"),
        (("messages", "--status", "bonced"), "'bonced' is not one of"),
        (("messages", "--source", "shpo"), "There is no source called 'shpo'. Did you mean 'shop'?"),
        (("changes", "--sources", "shop, shpo"), "There is no source called 'shpo'. Did you mean 'shop'?"),
        (("trace", "--source", "shpo", "--recipient", "a@x.example"), "Did you mean 'shop'?"),
        (("alerts", "list", "--source", "shpo"), "Did you mean 'shop'?"),
        (("suppressions", "list", "--source", "shpo"), "Did you mean 'shop'?"),
        (("diagnose", "--source", "shpo", "--recipient", "a@x.example"), "Did you mean 'shop'?"),
        (("changes", "--message-id", "x"), "--message-id: "),
    ],
)
def test_a_wrong_value_is_refused_with_its_option(commands: Commands, words: tuple[str, ...], sentence: str) -> None:
    commands.system.create_source("shop")
    assert sentence in commands.run(*words, code=2)


@pytest.mark.parametrize("value", [r'"\ud800"', "1e400", "9" * 5000])
def test_json_that_strict_parsers_refuse_is_listed(commands: Commands, value: str) -> None:
    commands.system.create_source()
    event = f'{{"event": "delivered", "customer_handle": "acct", "request_id": "odd", "odd": {value}}}'
    commands.system.process_receipt(commands.system.queue_body(f"[{event}]".encode()))
    assert "delivered" in commands.run("events")
    assert '"odd"' in commands.run("events", "--json")
    assert "delivered" in commands.run("diagnose", "--request-id", "odd")


def test_a_deleted_source_and_refusals_of_any_name_can_be_listed(commands: Commands) -> None:
    commands.system.create_source("shop")
    commands.system.call("DELETE", "/v1/sources/shop")
    assert commands.run("messages", "--source", "shop", "--json") == ""
    assert commands.run("refusals", "--source", "nobody", "--json") == ""


def test_the_figures_are_those_of_the_api(populated: Commands) -> None:
    system, now = populated.system, datetime.now(UTC)
    events = [mailchannels_event(kind, ANN, timestamp=int(now.timestamp())) for kind in ("delivered", "hard-bounced")]
    system.queue_body(json.dumps([{"customer_handle": HANDLE, **event} for event in events]).encode(), at=now)
    process_receipts.process_due(system.ctx)
    assert json.loads(populated.run("stats", "--json"))["sources"] == 1
    assert "1 bounced, 1 delivered" in populated.run("stats")


def test_a_measure_over_time_is_that_of_the_api(populated: Commands) -> None:
    with populated.system.engine.begin() as connection:
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        counters.add_by_minute(connection, {(counters.EVERYTHING, minute, 1, "opened"): 1})
    words = ("stats", "--measure", "events", "--by", "type")
    found = json.loads(populated.run(*words, "--bucket", "hour", "--json"))
    assert {one["name"]: sum(one["values"]) for one in found["series"]} == {"opened": 1}
    output = populated.run(*words)
    assert "1 opened" in output
    assert "in 24 buckets" in output
    assert "in 24 buckets" in populated.run("stats", "--measure", "complained")
    assert "--by needs --measure: one of received, " in populated.run("stats", "--by", "type", code=2)
    assert "--since" in populated.run("stats", "--measure", "events", "--since", "2001-01-01", code=2)


@pytest.mark.parametrize("name", [*PATHS, "stats"])
def test_a_list_needs_no_secret_key(populated: Commands, name: str) -> None:
    without = Commands(populated.system, {**populated.settings, "TIDINGS_SECRET_KEYS": ""})
    without.run(name)


def test_an_unreachable_database_is_named(commands: Commands) -> None:
    away = Commands(commands.system, {"TIDINGS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"})
    assert "cannot be reached" in away.run("messages", code=2)


def test_the_help_names_every_list_without_importing_the_api() -> None:
    program = "import sys, cli.main; cli.main.main(['--help'], standalone_mode=False); sys.exit('api' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert all(name in found.stdout for name in [*PATHS, *COMMANDS])
