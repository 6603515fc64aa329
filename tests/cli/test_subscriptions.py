"""`tidings subscriptions`, `tidings deliveries` and `tidings diagnose --delivery`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks import Webhook

from tests.support import http_sink
from tests.support.command_line import Commands
from tests.support.databases import DatabasePool, Snapshot
from tests.support.http_sink import HttpSink
from tests.support.system import BEGIN, LOOPBACK, System, open_system


@pytest.fixture(scope="module")
def common(databases: DatabasePool) -> Iterator[tuple[System, Snapshot]]:
    with databases.database() as url, open_system(url, begin=BEGIN, egress_allow=LOOPBACK) as system:
        yield system, system.take_snapshot()


@pytest.fixture
def system(common: tuple[System, Snapshot]) -> Iterator[System]:
    system, snapshot = common
    yield system
    system.reset(snapshot)


@pytest.fixture
def commands(system: System) -> Commands:
    return Commands(system, system.environment)


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def add(commands: Commands, url: str, *words: str) -> tuple[str, str]:
    """The id and the secret of a new subscription."""
    output = commands.run("subscriptions", "add", url, "--type", "*", *words)
    return output.split()[2], output.split()[-1]


def show(commands: Commands, subscription_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(commands.run("subscriptions", "show", subscription_id))
    return found


class TestSubscriptions:
    def test_are_made_with_all_that_can_be_wished_for(self, commands: Commands, sink: HttpSink, tmp_path: Path) -> None:
        commands.system.create_source("main")
        (tmp_path / "token").write_text("hunter2\n")
        subscription_id, secret = add(
            commands, sink.url, "--type", "alert.*", "--name", "billing", "--source", "main", "--tenant", "acme",
            "--domain", "example.net", "--tag", "a", "--tag", "b", "--header", f"X-Token=@{tmp_path / 'token'}",
            "--payload", "cloudevents", "--timeout", "5", "--retries", "1,2", "--rate", "2.5", "--concurrency", "3",
            "--ordered",
            "--include-body-text",
        )  # fmt: skip
        shown = show(commands, subscription_id)
        assert secret.startswith("whsec_")
        wishes = {
            "name": "billing", "types": ["*", "alert.*"], "sources": ["main"], "tenant": "acme",
            "recipient_domains": ["example.net"], "tags": ["a", "b"], "payload": "cloudevents", "timeout_s": 5,
            "retry_schedule": [1, 2], "rate_per_second": 2.5, "concurrency": 3, "ordered": True,
            "include_body_text": True,
        }  # fmt: skip
        assert {name: shown[name] for name in wishes} == wishes
        commands.run("subscriptions", "test", subscription_id)
        assert sink.received[0].headers["x-token"] == "hunter2"

    def test_are_listed(self, commands: Commands) -> None:
        assert "no subscriptions" in commands.run("subscriptions", "list")
        subscription_id, secret = add(commands, "http://127.0.0.1:9/?token=hunter2")
        listed = commands.run("subscriptions", "list") + commands.run("subscriptions", "list", "--json")
        assert subscription_id in listed
        assert secret not in listed
        assert "hunter2" not in listed

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (("http://10.0.0.1/", "--type", "*"), "not a public address"),
            (("http://127.0.0.1:9/", "--type", "message.bonced"), "not a type of change"),
            (("http://127.0.0.1:9/", "--type", "*", "--timeout", "31"), "between 1 and 30"),
            (("http://127.0.0.1:9/", "--type", "*", "--header", "Host=x"), "Host cannot be set"),
            (("http://127.0.0.1:9/", "--type", "*", "--header", "X"), "NAME=VALUE"),
            (("http://127.0.0.1:9/", "--type", "*", "--header", "X=@/nowhere"), "cannot be read"),
            (("http://127.0.0.1:9/", "--type", "*", "--header", "X=@/dev/zero"), "larger than 256 KiB"),
            (("http://127.0.0.1:9/", "--type", "*", "--retries", "often"), "standard_webhooks"),
        ],
    )
    def test_are_refused_in_a_sentence(self, commands: Commands, words: tuple[str, ...], sentence: str) -> None:
        assert sentence in commands.run("subscriptions", "add", *words, code=2)

    def test_are_changed_as_far_as_is_said(self, commands: Commands, system: System) -> None:
        subscription_id, _ = add(
            commands, "http://127.0.0.1:9/", "--tag", "a", "--tenant", "acme", "--rate", "2", "--header", "X-One=1",
            "--header", "X-Two=2",
        )  # fmt: skip
        before = show(commands, subscription_id)
        said = commands.run(
            "subscriptions", "change", subscription_id, "--url", "http://127.0.0.1:9/?token=hunter2", "--type",
            "alert.*", "--tag", "", "--rate", "0", "--header", "X-One=", "--ordered", "--retries",
            "1,2",
        )  # fmt: skip
        after = show(commands, subscription_id)
        assert "types" in said
        assert {name: value for name, value in after.items() if before[name] != value} == {
            "url": "http://127.0.0.1:9/?••••",
            "types": ["alert.*"],
            "tags": [],
            "rate_per_second": None,
            "headers": {"X-Two": "••••"},
            "ordered": True,
            "retry_schedule": [1, 2],
            "version": 2,
            "updated_at": after["updated_at"],
        }
        (entry,) = system.list_items("/v1/audit", action="subscription.changed")
        assert entry["details"]["tags"] == {"before": ["a"], "after": []}
        assert "hunter2" not in str(entry)
        assert "Nothing changed" in commands.run("subscriptions", "change", subscription_id, "--unordered", "--ordered")
        assert "Give what to change" in commands.run("subscriptions", "change", subscription_id, code=2)
        for tenant in ("", "other"):  # its past deliveries would be shown to another
            said = commands.run("subscriptions", "change", subscription_id, "--tenant", tenant, code=2)
            assert "cannot be changed; it is 'acme'" in said

    def test_are_paused_and_resumed(self, commands: Commands, system: System) -> None:
        subscription_id, _ = add(commands, "http://127.0.0.1:9/")
        commands.run("subscriptions", "pause", subscription_id)
        assert show(commands, subscription_id)["state"] == "paused"
        assert "recover" not in commands.run("subscriptions", "resume", subscription_id)
        system.execute("UPDATE subscriptions SET state = 'disabled'")
        assert f"recover {subscription_id} --since" in commands.run("subscriptions", "resume", subscription_id)
        assert show(commands, subscription_id)["state"] == "active"

    def test_are_tried_out(self, commands: Commands, sink: HttpSink) -> None:
        subscription_id, secret = add(commands, sink.url)
        sink.then(http_sink.answer(204), http_sink.answer(401))
        assert "answered 204" in commands.run("subscriptions", "test", subscription_id)
        assert "Fix URL, auth" in commands.run("subscriptions", "test", subscription_id, code=1)
        Webhook(secret).verify(sink.received[0].body, dict(sink.received[0].headers))
        commands.run("subscriptions", "test", subscription_id, "--type", "message.bounced")
        assert sink.received[-1].json["data"]["event"]["type"] == "bounced"

    def test_get_another_secret(self, commands: Commands) -> None:
        subscription_id, secret = add(commands, "http://127.0.0.1:9/")
        assert "24 hours" in commands.run("subscriptions", "rotate", subscription_id)
        output = commands.run("subscriptions", "rotate", subscription_id, "--overlap", "0", "--scheme", "v1a")
        assert output.split()[-1].startswith("whpk_")
        assert secret not in output
        assert len(show(commands, subscription_id)["signing"]) == 1

    def test_are_removed(self, commands: Commands, system: System) -> None:
        subscription_id, _ = add(commands, "http://127.0.0.1:9/")
        assert "Aborted" in commands.run("subscriptions", "remove", subscription_id, says="n\n", code=1)
        commands.run("subscriptions", "remove", subscription_id, "--yes")
        assert "no subscriptions" in commands.run("subscriptions", "list")
        assert [job["kind"] for job in system.list_items("/v1/jobs")] == ["abandon_deliveries"]

    def test_recover_what_they_missed(self, commands: Commands, system: System, sink: HttpSink) -> None:
        name = system.log_change()
        system.deliver()
        subscription_id, _ = add(commands, sink.url)
        words = ("subscriptions", "recover", subscription_id, "--since", "2026-01-01")
        assert "1 of 1" not in commands.run(*words, "--dry-run")
        assert system.list_deliveries() == []
        assert "Deliver 1 changes?" in commands.run(*words, says="n\n", code=1)
        assert "done" in commands.run(*words, says="y\n")
        system.deliver()
        assert [received.id for received in sink.received] == [name]
        assert "done" in commands.run(*words)

    @pytest.mark.parametrize(
        "words",
        [
            ("show",),
            ("change", "--name", "x"),
            ("pause",),
            ("resume",),
            ("test",),
            ("rotate",),
            ("remove", "--yes"),
            ("recover", "--since", "2026-01-01"),
        ],
    )
    def test_that_are_unknown_are_said_to_be(self, commands: Commands, words: tuple[str, ...]) -> None:
        output = commands.run("subscriptions", words[0], str(uuid4()), *words[1:], code=2)
        assert "There is no subscription" in output


class TestDeliveries:
    @pytest.fixture
    def dead(self, commands: Commands, system: System, sink: HttpSink) -> str:
        """A delivery that is dead; and its endpoint is fixed."""
        add(commands, sink.url, "--name", "billing")
        sink.then(http_sink.answer(404, b"no such page"))
        system.log_change()
        system.deliver()
        return str(system.get_delivery()["id"])

    def test_are_listed(self, commands: Commands, system: System, dead: str) -> None:
        assert dead in commands.run("deliveries", "list")
        assert dead in commands.run("deliveries", "list", "--status", "dead", "--type", "message.bounced")
        assert "answered 404" in commands.run("deliveries", "list")
        assert "No such delivery" in commands.run("deliveries", "list", "--status", "retry")
        assert "There is no message '0000'" in commands.run("deliveries", "list", "--message-id", "0000", code=2)
        assert json.loads(commands.run("deliveries", "list", "--json"))[0]["id"] == dead
        assert dead in commands.run("deliveries", "list", "--subscription", system.get_delivery()["subscription"])

    def test_are_shown_with_their_attempts(self, commands: Commands, dead: str) -> None:
        output = commands.run("deliveries", "show", dead)
        for words in ("dead", "message.bounced", "billing", "http_status 404", "no such page", "then replay"):
            assert words in output
        sent = (
            "POST http://127.0.0.1",
            "webhook-id: ",
            "webhook-signature: ",
            '"type":"message.bounced"',
            "status 404",
        )
        for words in sent:
            assert words in output
        plain = json.loads(commands.run("deliveries", "show", dead, "--json"))
        assert (plain["attempts"], plain["attempts_made"][0]["http_status"]) == (1, 404)

    def test_show_whom_they_are_about_and_what_of_their_captures_was_cut(
        self, commands: Commands, system: System, sink: HttpSink
    ) -> None:
        system.create_source("inbox", "mailwebhook", signing_secrets={"key": "a secret of the route, long enough"})
        add(commands, sink.url, "--name", "billing")
        sink.then(http_sink.answer(404, b"x" * 9000))
        mail = {"message_id": "<1@shop.example>", "subject": "Your order", "from": "zoe@x.example"}
        body = {"schema": {"name": "mailwebhook.generic"}, "message": {**mail, "to": ["orders@shop.example"]}}
        system.process_receipt(system.queue_body(json.dumps(body).encode(), slug="inbox"))
        system.deliver()
        output = commands.run("deliveries", "show", str(system.get_delivery()["id"]))
        for words in ("orders@shop.example", "Your order", "1@shop.example", "truncated: more was received"):
            assert words in output

    def test_are_made_again_by_name(self, commands: Commands, system: System, sink: HttpSink, dead: str) -> None:
        commands.run("deliveries", "replay", dead)
        system.deliver()
        assert system.get_delivery()["status"] == "delivered"
        assert len(sink.received) == 2

    @pytest.mark.usefixtures("dead")
    def test_are_made_again_by_what_they_are(self, commands: Commands, system: System) -> None:
        assert "to deliver  0" in commands.run("deliveries", "replay", "--type", "message.sent")
        assert "to deliver  1" in commands.run("deliveries", "replay", "--status", "dead", "--dry-run")
        assert system.get_delivery()["status"] == "dead"
        assert "Aborted" in commands.run("deliveries", "replay", "--status", "dead", says="n\n", code=1)
        assert "done" in commands.run("deliveries", "replay", "--since", "2026-01-01", "--yes")
        assert system.get_delivery()["status"] == "pending"

    def test_that_wait_are_named_where_none_is_dead(self, commands: Commands, system: System, sink: HttpSink) -> None:
        add(commands, sink.url, "--name", "billing")
        sink.then(http_sink.answer(503), http_sink.answer(503))
        system.log_change()
        system.deliver()
        assert system.get_delivery()["status"] == "retry"
        for words in (["--dry-run"], []):
            output = commands.run("deliveries", "replay", "--status", "dead", *words)
            assert "to deliver  0" in output
            assert "1 delivery waits (retry) for " in output
            assert "(until 20" in output
            assert "`tidings deliveries list --status retry`" in output

    def test_are_not_made_again_by_mistake(self, commands: Commands, dead: str) -> None:
        assert "Give ids of deliveries" in commands.run("deliveries", "replay", code=2)
        assert "not both" in commands.run("deliveries", "replay", dead, "--status", "dead", code=2)

    def test_that_cannot_be_made_again_are_said_to_be(self, commands: Commands, system: System, dead: str) -> None:
        system.execute("UPDATE subscriptions SET state = 'disabled'")
        assert "resume" in commands.run("deliveries", "replay", dead, code=2)

    @pytest.mark.parametrize("words", [("deliveries", "show"), ("deliveries", "replay"), ("diagnose", "--delivery")])
    def test_that_are_unknown_are_said_to_be(self, commands: Commands, words: tuple[str, ...]) -> None:
        assert "There is no delivery" in commands.run(*words, str(uuid4()), code=2)


# The table of the guide to failed deliveries: "Latest attempt shows", "What it usually means", "Next action".
ROWS = [
    (0, "http_status is 0", "Tidings did not receive an HTTP response.",
     "Check DNS, TLS, firewall, public routing, and endpoint timeout."),
    *((status, "5xx, 408, 409, 425, or 429", "Temporary receiver failure.", "Fix the receiver and wait for")
      for status in (500, 503, 408, 409, 425, 429)),
    *((status, "Another non-2xx status", "Permanent receiver rejection.",
       "Fix URL, auth, signature verification, or payload handling, then replay.")
      for status in (400, 401, 403, 404, 410, 422)),
    (200, "2xx", "The receiver accepted the delivery as successful.",
     "Check the receiver's internal queue, idempotency, and downstream processing."),
]  # fmt: skip


@pytest.mark.parametrize(("http_status", "shows", "means", "action"), ROWS)
def test_a_diagnosis_follows_the_table(
    commands: Commands, system: System, sink: HttpSink, http_status: int, shows: str, means: str, action: str
) -> None:
    add(commands, sink.url, "--retries", "3600")
    sink.always = http_sink.answer(http_status) if http_status else http_sink.hang_up
    system.log_change()
    system.deliver()
    output = commands.run("diagnose", "--delivery", str(system.get_delivery()["id"]))
    lines = {line[:25].strip(): line[25:] for line in output.replace("`", "").splitlines()}
    assert shows in lines["Latest attempt shows"]
    assert means in lines["What it usually means"]
    assert action in lines["Next action"]
    if http_status:
        assert f"http_status {http_status}" in lines["Latest attempt shows"]


def test_a_diagnosis_is_there_for_programs(commands: Commands, system: System, sink: HttpSink) -> None:
    add(commands, sink.url)
    system.log_change()
    system.deliver()
    plain = json.loads(commands.run("diagnose", "--delivery", str(system.get_delivery()["id"]), "--json"))
    assert plain["change"] == sink.received[0].json
    assert plain["usually_means"].startswith("The receiver accepted")
