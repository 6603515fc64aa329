"""Messages of a queue are stored as requests are, and deleted only once they are committed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import boto3
import pytest

from shared.errors import VerificationError
from shared.http import client as http_client
from shared.providers.api.sqs import Message
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import PULLED, WebhookRequest
from shared.sources import store
from shared.sources.source import Source, open_source
from simulator.providers.base import Forgery
from simulator.providers.ses.webhooks import Ses
from simulator.scenarios import SCENARIOS
from simulator.server import ProviderServer
from simulator.staging import stage
from tests.support import sqs
from tests.support.command_line import Commands
from tests.support.console import sign_in
from tests.support.sqs import KEY, Queue
from tests.support.system import System
from workers import process_receipts, pull, verification

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:ChangeMessageVisibility",
                "sqs:GetQueueAttributes",
                # AWS has no rights for batches; moto asks for them.
                *("sqs:DeleteMessageBatch", "sqs:ChangeMessageVisibilityBatch"),
            ],
            "Resource": "*",
        }
    ],
}
"""The rights in docs/providers.md."""
ACCESS = {"access_key_id": KEY.access_key_id, "secret_access_key": KEY.secret_access_key}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with sqs.sqs_server() as url:
        yield url


@pytest.fixture
def queue(server: str) -> Queue:
    return sqs.create_queue(server)


@pytest.fixture(scope="module")
def dialect() -> Ses:
    return Ses()


@pytest.fixture(scope="module")
def keys_url(dialect: Ses) -> Iterator[str]:
    with ProviderServer({"ses": dialect}) as provider:
        yield provider.keys_url("ses") or ""


@dataclass
class Pulled:
    """A source with a queue; `pull` takes what is in it."""

    system: System
    source: Source
    queue: Queue

    def pull(self, seconds: float = 1.0) -> None:
        """Poll the queue if it is due: at least once, however busy this machine is."""
        polls = "SELECT polled_at, failures, next_at <= now() FROM source_queues WHERE source_id = %(id)s"
        before = self.system.rows(polls, id=self.source.id) or [(None, 0, True)]
        pull.pull_due(self.system.ctx, max_seconds=seconds, wait_seconds=0)
        while before[0][2] and self.system.rows(polls, id=self.source.id) == before:
            pull.pull_due(self.system.ctx, max_seconds=seconds, wait_seconds=0)

    def make_due(self) -> None:
        with self.system.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE source_queues SET next_at = now()")

    def pull_until(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not is_done():
            assert time.monotonic() < deadline
            self.make_due()
            self.pull(0.2)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.system.get(f"/v1/sources/{self.source.slug}")["queue"]
        return found


@pytest.fixture
def raw(system: System, queue: Queue) -> Pulled:
    """A source without topics, which accepts what its queue holds."""
    return Pulled(system, system.add_source("raw", "ses", ACCESS, queue=queue.settings()), queue)


@pytest.fixture
def signed(system: System, queue: Queue, dialect: Ses, keys_url: str) -> Pulled:
    """A source that accepts signed notifications of one topic."""
    credentials = {**dialect.credentials(), **ACCESS}
    found = system.add_source("signed", "ses", credentials, queue=queue.settings(), keys_url=keys_url)
    return Pulled(system, found, queue)


def events(dialect: Ses, count: int = 1, scenario: str = "happy") -> list[bytes]:
    """Events of SES as raw delivery has them."""
    plays = [stage(SCENARIOS[scenario], dialect, count=1, seed=n, now=datetime.now(UTC)) for n in range(count)]
    return [play.postings[0].body for play in plays]


def count(system: System, table: str) -> int:
    found: int = system.rows(f"SELECT count(*) FROM {table}")[0][0]
    return found


def source_request(body: bytes, queued_at: datetime) -> WebhookRequest:
    return WebhookRequest(headers={PULLED: queued_at.isoformat()}, body=body)


def verified_source(pulled: Pulled, dialect: Ses) -> Source:
    pulled.queue.send(dialect.envelop(events(dialect)[0], datetime.now(UTC)))
    pulled.pull()
    verification.verify_due(pulled.system.ctx)
    with pulled.system.engine.begin() as connection:
        row = store.find(connection, pulled.source.slug)
    assert row is not None
    return open_source(row, pulled.system.vault)


def test_a_batch_of_raw_events_is_stored_and_then_deleted(raw: Pulled, dialect: Ses) -> None:
    raw.queue.send(*events(dialect, 25))
    raw.pull_until(lambda: raw.queue.remaining() == 0)
    assert count(raw.system, "receipts") == 25
    process_receipts.process_due(raw.system.ctx)
    assert count(raw.system, "events") == 25
    state = raw.state()
    assert (state["stored"], state["refused"], state["failures"], state["error"]) == (25, 0, 0, None)
    assert state["polled_at"] is not None


def test_an_event_that_a_rule_of_eventbridge_sent_is_understood(raw: Pulled, dialect: Ses) -> None:
    (event,) = events(dialect)
    bridged = {"version": "0", "detail-type": "Email Sent", "source": "aws.ses", "detail": json.loads(event)}
    raw.queue.send(json.dumps(bridged))
    raw.pull()
    process_receipts.process_due(raw.system.ctx)
    assert raw.system.rows("SELECT type FROM events") == [("sent",)]


def test_a_notification_is_verified_once_its_certificate_is_fetched(signed: Pulled, dialect: Ses) -> None:
    first, second = (dialect.envelop(event, datetime.now(UTC)) for event in events(dialect, 2))
    signed.queue.send(first)
    signed.pull()
    assert signed.queue.remaining() == 0
    assert signed.system.rows("SELECT state, reason FROM parked_receipts") == [("unverified", "unknown_key")]
    verification.verify_due(signed.system.ctx)
    signed.queue.send(second)
    signed.pull_until(lambda: signed.queue.remaining() == 0)
    assert count(signed.system, "parked_receipts") == 0
    process_receipts.process_due(signed.system.ctx)
    assert signed.system.rows("SELECT type FROM events") == [("sent",)] * 2


def test_a_notification_may_have_waited_in_the_queue_for_days(signed: Pulled, dialect: Ses) -> None:
    """Its age is that at which the queue got it. A notification that was old then is a repetition by somebody else."""
    now = datetime.now(UTC)
    request = source_request(dialect.envelop(events(dialect)[0], now - timedelta(days=3)), now - timedelta(days=3))
    late = source_request(dialect.envelop(events(dialect)[0], now - timedelta(days=3)), now)
    found = verified_source(signed, dialect)
    found.provider.verify(request, found.credentials, now)
    with pytest.raises(VerificationError, match="outside the allowed window"):
        found.provider.verify(late, found.credentials, now)


@pytest.mark.parametrize("forgery", [Forgery.TAMPERED, Forgery.UNSIGNED, Forgery.STALE])
def test_a_forged_notification_is_refused_and_stays_in_the_queue(
    signed: Pulled, dialect: Ses, forgery: Forgery
) -> None:
    verified_source(signed, dialect)
    stored = count(signed.system, "receipts")
    signed.queue.send(dialect.forge(events(dialect, 1, "bounce")[0], datetime.now(UTC), forgery).body)
    signed.make_due()
    signed.pull()
    assert count(signed.system, "receipts") == stored
    assert signed.queue.in_flight() == 1
    refused = signed.system.list_items("/v1/refusals", source="signed")
    assert [(one["status_code"], one["count"]) for one in refused] == [(401, 1)]
    assert signed.state()["refused"] == 1


def test_with_topics_what_is_not_signed_is_refused(signed: Pulled, dialect: Ses) -> None:
    signed.queue.send(*events(dialect), "no JSON")
    signed.pull()
    assert count(signed.system, "receipts") == 0
    assert signed.queue.remaining() == 2
    (refused,) = signed.system.list_items("/v1/refusals", source="signed")
    assert (refused["reason"], refused["count"]) == ("missing_signature", 2)


def test_without_topics_a_signature_is_verified_all_the_same(raw: Pulled, dialect: Ses) -> None:
    raw.queue.send(dialect.forge(events(dialect)[0], datetime.now(UTC), Forgery.MALFORMED).body)
    raw.pull()
    assert (count(raw.system, "receipts"), raw.queue.remaining()) == (0, 1)


def test_a_message_that_is_no_json_is_stored_and_dead(raw: Pulled) -> None:
    raw.queue.send("no JSON")
    raw.pull()
    process_receipts.process_due(raw.system.ctx)
    assert raw.system.rows("SELECT state FROM parked_receipts") == [("dead",)]
    assert raw.queue.remaining() == 0


def test_the_same_notification_twice_is_stored_once(raw: Pulled, dialect: Ses) -> None:
    (event,) = events(dialect)
    raw.queue.send(event, event)
    raw.pull()
    raw.queue.send(event)
    raw.pull_until(lambda: raw.queue.remaining() == 0)
    assert count(raw.system, "receipts") == 1


def test_a_message_whose_reader_died_is_taken_when_it_is_visible_again(raw: Pulled, dialect: Ses) -> None:
    raw.queue.send(*events(dialect))
    (lost,) = raw.queue.call("ReceiveMessage", VisibilityTimeout=600)["Messages"]
    raw.pull(0.2)
    assert count(raw.system, "receipts") == 0
    raw.queue.release_all(lost["ReceiptHandle"])
    raw.pull_until(lambda: raw.queue.remaining() == 0)
    (stored,) = raw.system.list_items("/v1/receipts")
    assert raw.system.get(f"/v1/receipts/{stored['id']}")["headers"]["sqs-message-id"] == lost["MessageId"]


def test_a_message_that_postgresql_refuses_does_not_hold_up_the_others(raw: Pulled, dialect: Ses) -> None:
    raw.system.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF new.bytes = length('poison') THEN RAISE data_exception; END IF; RETURN new; END $$"
    )
    raw.system.execute("CREATE TRIGGER refuse BEFORE INSERT ON receipts FOR EACH ROW EXECUTE FUNCTION refuse()")
    raw.queue.send(*events(dialect, 4), "poison")
    raw.pull_until(lambda: raw.queue.remaining() == 1)
    assert count(raw.system, "receipts") == 4
    (refused,) = raw.system.list_items("/v1/refusals", source="raw")
    assert refused["reason"] == "unavailable"


def test_a_message_on_which_the_adapter_fails_does_not_hold_up_the_others(
    raw: Pulled, dialect: Ses, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = raw.source.provider

    def verify(request: WebhookRequest, credentials: Any, now: datetime, /) -> None:
        if request.body == b"poison":
            raise ZeroDivisionError("a bug")
        provider.verify(request, credentials, now)

    monkeypatch.setitem(cast("Any", PROVIDERS), "ses", replace(provider, verify=verify))
    raw.queue.send(*events(dialect, 4), "poison")
    raw.pull_until(lambda: count(raw.system, "receipts") == 4)
    assert raw.queue.in_flight() == 1
    (refused,) = raw.system.list_items("/v1/refusals", source="raw")
    assert refused["reason"] == "unavailable"
    assert "ZeroDivisionError: a bug" in refused["detail"]


@pytest.mark.parametrize("text", ["", "soon", "9" * 30, "9" * 5000, "\u0663"])
def test_a_message_without_a_usable_time_was_queued_now(text: str) -> None:
    now = datetime.now(UTC)
    attributes = {"SentTimestamp": text, "ApproximateReceiveCount": text}
    message = Message(message_id="1", receipt_handle="1", body="", attributes=attributes)
    assert message.queued_at(now) <= now
    assert message.deliveries >= 1


def test_a_source_that_was_deleted_meanwhile_takes_nothing(raw: Pulled, dialect: Ses) -> None:
    """The call that waits for a message may bring one after the source is gone."""
    thread = threading.Thread(
        target=pull.pull_due, args=(raw.system.ctx,), kwargs={"max_seconds": 1.0, "wait_seconds": 20}
    )
    thread.start()
    deadline = time.monotonic() + 300
    while count(raw.system, "source_queues") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert raw.system.call("DELETE", "/v1/sources/raw").status_code == 204
    raw.queue.send(*events(dialect))
    thread.join(60)
    assert count(raw.system, "receipts") == 0
    assert raw.queue.visible() == 1


def test_a_source_without_the_setting_is_not_polled(raw: Pulled, dialect: Ses) -> None:
    answer = raw.system.call(
        "PATCH", "/v1/sources/raw", {"settings": {"queue": None}, "credentials": dialect.credentials()}
    )
    assert answer.status_code == 200, answer.text
    raw.queue.send(*events(dialect))
    raw.pull()
    assert raw.queue.visible() == 1
    assert raw.state() is None


def test_a_missing_queue_is_shown_and_polled_again_after_a_pause(raw: Pulled) -> None:
    raw.queue.call("DeleteQueue")
    raw.pull()
    state = raw.state()
    assert state["failures"] == 1
    assert f"There is no queue {raw.queue.url}" in state["error"]
    raw.pull()
    assert raw.state() == state
    raw.make_due()
    raw.pull()
    assert raw.state()["failures"] == 2


def test_a_queue_that_cannot_be_reached_delays_no_other(raw: Pulled, dialect: Ses) -> None:
    nowhere = {**raw.queue.settings(), "endpoint_url": "http://127.0.0.1:1/"}
    raw.system.add_source("nowhere", "ses", ACCESS, queue=nowhere)
    raw.queue.send(*events(dialect))
    raw.pull()
    assert count(raw.system, "receipts") == 1
    error = raw.system.get("/v1/sources/nowhere")["queue"]["error"]
    assert "did not answer ReceiveMessage" in error


def test_commands_and_console_show_how_the_queue_does(raw: Pulled, dialect: Ses) -> None:
    commands = Commands(raw.system, raw.system.environment)
    raw.queue.send(*events(dialect), *events(dialect), "no JSON")
    raw.pull_until(lambda: raw.queue.remaining() == 0)
    checked = commands.run("sources", "check", "raw")
    assert f"the queue {raw.queue.url} answers: 0 messages wait" in checked
    assert "no dead-letter queue" in checked
    assert "names no `topic_arns`" in checked
    assert f"Its events are taken from the queue {raw.queue.url}" in checked
    assert "2 messages stored, 0 refused" in checked
    assert json.loads(commands.run("sources", "show", "raw"))["queue"]["stored"] == 2
    page = sign_in(raw.system).get("/console/sources/raw").text
    assert raw.queue.url in page
    raw.queue.call("DeleteQueue")
    raw.make_due()
    raw.pull()
    for text in (
        commands.run("sources", "check", "raw", code=1),
        commands.run("sources", "list"),
        commands.run("status", code=1),
        commands.run("doctor", code=1),
        sign_in(raw.system).get("/console/sources/raw").text,
    ):
        assert "There is no queue" in " ".join(text.split())


def test_the_queue_of_a_new_source_is_set_by_an_option(system: System, queue: Queue) -> None:
    commands = Commands(system, system.environment)
    options = ("--provider", "ses", "--credentials", json.dumps(ACCESS))
    commands.run("sources", "add", "own", *options, "--setting", f"queue={json.dumps(queue.settings())}")
    shown = json.loads(commands.run("sources", "show", "own"))
    assert shown["settings"] == {"queue": queue.settings()}
    assert shown["credentials"]["access_key_id"] == KEY.access_key_id
    assert KEY.secret_access_key not in json.dumps(shown)
    refused = commands.run("sources", "enrol", "own", "--url", "https://hooks.example/webhooks/own", code=2)
    assert "own takes its events from a queue, so no webhook is needed" in " ".join(refused.split())


def test_a_stopping_process_ends_the_call_that_waits(raw: Pulled) -> None:
    try:
        thread = threading.Thread(target=pull.pull_due, args=(raw.system.ctx,), kwargs={"wait_seconds": 20})
        thread.start()
        pull.stopping.set()
        thread.join(60)
        assert not thread.is_alive()
    finally:
        pull.stopping.clear()
    assert raw.state() is None or raw.state()["failures"] == 0


def test_a_change_of_the_source_ends_the_pause(raw: Pulled) -> None:
    url = raw.queue.url
    raw.system.call("PATCH", "/v1/sources/raw", {"settings": {"queue": {"url": f"{url}-missing"}}})
    raw.pull()
    assert raw.state()["failures"] == 1
    raw.system.call("PATCH", "/v1/sources/raw", {"settings": {"queue": {"url": url}}})
    raw.pull()
    assert raw.state()["failures"] == 0


def test_the_documented_rights_suffice_and_a_wrong_secret_is_named(
    server: str, system: System, queue: Queue, dialect: Ses
) -> None:
    options = {"endpoint_url": server, "region_name": sqs.REGION}
    iam = boto3.client("iam", aws_access_key_id="owner", aws_secret_access_key="owner", **options)
    iam.create_user(UserName="tidings")
    iam.put_user_policy(UserName="tidings", PolicyName="pull", PolicyDocument=json.dumps(POLICY))
    key = iam.create_access_key(UserName="tidings")["AccessKey"]
    right = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
    queue.send(*events(dialect), "poison")
    pulled = Pulled(system, system.add_source("own", "ses", right, queue=queue.settings()), queue)
    http_client.call("POST", f"{server}/moto-api/reset-auth", body=b"0")
    try:
        pulled.pull()
        state = pulled.state()
        system.call("PATCH", "/v1/sources/own", {"credentials": {"secret_access_key": "wrong"}})
        pulled.make_due()
        pulled.pull()
    finally:
        http_client.call("POST", f"{server}/moto-api/reset-auth", body=b"inf")
    assert (state["stored"], state["error"]) == (2, None)
    assert "rejected the access key of own" in pulled.state()["error"]


@pytest.mark.parametrize(
    ("provider", "queue", "credentials", "field"),
    [
        ("ses", {"url": "https://sqs.eu-west-1.amazonaws.com/1/x"}, {}, "credentials.access_key_id"),
        ("ses", {"url": "https://sqs.eu-west-1.amazonaws.com/"}, ACCESS, "settings.queue.url"),
        ("ses", {"region": "eu-west-1"}, ACCESS, "settings.queue.url"),
        ("ses", {"url": "http://127.0.0.1/1/x"}, ACCESS, "settings.queue.region"),
        ("ses", {"url": "http://127.0.0.1/1/x", "region": "europe"}, ACCESS, "settings.queue.region"),
        (
            *("ses", {"url": "https://sqs.eu-west-1.amazonaws.com/1/x", "endpoint_url": "ftp://x"}, ACCESS),
            "settings.queue.endpoint_url",
        ),
        ("ses", {"url": "https://sqs.eu-west-1.amazonaws.com/1/x", "name": "x"}, ACCESS, "settings.queue.name"),
        (
            "mailchannels",
            {"url": "https://sqs.eu-west-1.amazonaws.com/1/x"},
            {"customer_handles": ["x"]},
            "settings.queue",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_its_name(
    system: System, provider, queue, credentials, field
) -> None:
    body = {"slug": "x", "provider": provider, "credentials": credentials, "settings": {"queue": queue}}
    answer = system.call("POST", "/v1/sources", body)
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]) == [field]
