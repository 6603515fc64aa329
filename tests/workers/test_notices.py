"""Telling people: every channel at its own pace, nothing lost, and a storm as one message."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import Connection
from standardwebhooks import Webhook

from shared.doorbell import TELL, Doorbell
from shared.encryption import Vault, new_key
from shared.notifications import channel_store as stored
from shared.notifications import channels
from shared.notifications import store as table
from shared.notifications.channels import Kind
from shared.operations import retention
from shared.vocabulary import Severity
from tests import sinks, telling
from tests.sinks import HttpSink, MailSink
from tests.workers.workshop import Workshop
from workers.alerts import notify
from workers.context import WorkerContext

T = TypeVar("T")

SHORT: Mapping[str, float] = {Kind.WEBHOOK: 0.5, Kind.APPRISE: 20.0}
"""Deadlines for channels that do not keep them."""


@dataclass
class Office:
    """A workshop whose people are told."""

    workshop: Workshop
    sink: HttpSink

    def channel(
        self, name: str = "cli", url: str = "", kind: Kind = Kind.WEBHOOK, least: Severity = Severity.WARNING
    ) -> str:
        """A channel, by default a webhook to the sink; its secret."""
        ctx = self.workshop.ctx
        checked = channels.checked_url(kind, url or f"{self.sink.url}/{name}")
        with ctx.engine.begin() as connection:
            made = channels.create(connection, ctx.vault, name=name, kind=kind, url=checked, least_severity=least)
        return made.secret or ""

    def fire(self, subject: str = "main", **more: Any) -> UUID:
        return self.do(lambda connection: telling.fire(connection, subject, **more))

    def escalate(self, alert_id: UUID) -> None:
        self.do(lambda connection: telling.escalate(connection, alert_id))

    def resolve(self, alert_id: UUID) -> None:
        self.do(lambda connection: telling.resolve(connection, alert_id))

    def do(self, work: Callable[[Connection], T]) -> T:
        with self.workshop.ctx.engine.begin() as connection:
            return work(connection)

    def tell(self, ctx: WorkerContext | None = None) -> int:
        """What the clock has done every few seconds."""
        return notify.tell_due(ctx or self.workshop.ctx, deadlines_seconds=SHORT)

    def tell_at_leisure(self) -> int:
        """The same after all rests and delays have passed."""
        self.rested()
        return self.tell()

    def rested(self) -> None:
        with self.workshop.ctx.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alert_channels SET rests_until = NULL")
            connection.exec_driver_sql("UPDATE alert_notices SET available_at = now() WHERE state = 'pending'")

    def lose_leases(self) -> None:
        """What follows when the worker that had a channel is not heard of for long."""
        self.workshop.run("UPDATE alert_channels SET lease_until = now() - interval '1 s'")

    def states(self, channel: str = "cli") -> Counter[str]:
        query = "SELECT state FROM alert_notices WHERE channel = %(channel)s"
        return Counter(row[0] for row in self.workshop.rows(query, channel=channel))

    def told(self, path: str = "/ops") -> list[dict[str, Any]]:
        return [request.json for request in self.sink.received if request.path == path]

    def standing(self, name: str = "cli") -> stored.ChannelRow:
        with self.workshop.ctx.engine.begin() as connection:
            row = stored.find(connection, name)
        assert row is not None
        return row

    def pause(self, name: str = "cli") -> float:
        """For how long a channel is left alone from now on, in seconds."""
        query = "SELECT extract(epoch FROM rests_until - now())::float FROM alert_channels WHERE name = %(name)s"
        return float(self.workshop.rows(query, name=name)[0][0])

    def delay(self) -> float:
        """In how many seconds what failed is tried again."""
        query = "SELECT max(extract(epoch FROM available_at - now()))::float FROM alert_notices WHERE state = 'pending'"
        return float(self.workshop.rows(query)[0][0])


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with sinks.http_sink() as opened:
        yield opened


@pytest.fixture
def office(workshop: Workshop, sink: HttpSink) -> Office:
    return Office(workshop, sink)


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with sinks.mail_sink() as opened:
        yield opened


# What is told


def test_an_alert_is_told_once_and_signed(office: Office) -> None:
    secret = office.channel()
    source = office.workshop.add_source("shop", "cloudmailin", {"username": "u", "password": "p"})
    alert_id = office.fire(source_id=source.id)
    assert office.tell() == 1
    assert office.tell_at_leisure() == 0
    (request,) = office.sink.received
    Webhook(secret).verify(request.body, dict(request.headers))
    told = request.json
    assert told["type"] == "alert.firing"
    assert told["timestamp"] == "2026-01-01T12:00:00Z"
    assert told["data"]["id"] == str(alert_id)
    assert told["data"]["source"] == "shop"
    assert told["data"]["numbers"] == {"bounced": 11, "ended": 200, "percent": 5.5}
    assert told["data"]["path"] == f"/v1/alerts/{alert_id}"
    assert "tidings trace" in told["data"]["next_step"]
    assert office.states() == {"sent": 1}


def test_each_step_is_told(office: Office) -> None:
    office.channel()
    alert_id = office.fire()
    office.tell()
    office.escalate(alert_id)
    office.tell_at_leisure()
    office.resolve(alert_id)
    office.tell_at_leisure()
    assert [told["type"] for told in office.told()] == ["alert.firing", "alert.escalated", "alert.resolved"]
    assert [told["data"]["severity"] for told in office.told()] == ["warning", "critical", "critical"]
    assert [told["data"]["state"] for told in office.told()] == ["firing", "firing", "resolved"]
    assert len({request.id for request in office.sink.received}) == 3


def test_an_alert_that_was_over_before_it_was_told_is_one_message(office: Office) -> None:
    office.channel()
    alert_id = office.fire()
    office.escalate(alert_id)
    office.resolve(alert_id)
    office.tell()
    (told,) = office.told()
    assert told["type"] == "alert.resolved"
    assert [step["step"] for step in told["data"]["steps"]] == ["fired", "escalated", "resolved"]
    assert office.states() == {"sent": 3}


def test_an_alert_that_escalated_before_it_was_told_is_told_as_firing(office: Office) -> None:
    office.channel()
    alert_id = office.fire()
    office.escalate(alert_id)
    office.tell()
    (told,) = office.told()
    assert (told["type"], told["data"]["severity"]) == ("alert.firing", "critical")


def test_a_channel_is_told_what_is_urgent_enough_for_it(office: Office) -> None:
    office.channel("all")
    office.channel("pager", least=Severity.CRITICAL)
    office.fire("a")
    office.fire("b", severity="critical")
    office.tell()
    assert len(office.told("/all")) == 2
    assert [told["data"]["subject"] for told in office.told("/pager")] == ["b"]


def test_who_was_told_of_an_alert_is_told_of_its_end_and_nobody_else(office: Office) -> None:
    office.channel("pager", least=Severity.CRITICAL)
    mild, grave = office.fire("a"), office.fire("b")
    office.escalate(grave)
    office.channel("late")
    office.tell()
    for alert_id in (mild, grave):
        office.resolve(alert_id)
    office.tell_at_leisure()
    assert [told["type"] for told in office.told("/pager")] == ["alert.escalated", "alert.resolved"]
    assert office.told("/late") == []


def test_what_is_enqueued_twice_is_told_once(office: Office) -> None:
    office.channel()
    office.fire()
    (step_id,) = office.workshop.rows("SELECT id FROM alert_steps")[0]
    assert office.do(lambda connection: table.enqueue(connection, [step_id])) == 0
    assert office.do(lambda connection: table.enqueue(connection, [])) == 0
    office.tell()
    assert len(office.told()) == 1


def test_without_channels_nothing_is_to_be_told(office: Office) -> None:
    office.fire()
    assert office.tell() == 0
    assert office.workshop.rows("SELECT 1 FROM alert_notices") == []


# Storms


def test_up_to_three_are_told_one_by_one_the_most_urgent_first(office: Office) -> None:
    office.channel()
    over = office.fire("over")
    office.resolve(over)
    office.fire("mild")
    office.fire("grave", severity="critical")
    office.tell()
    assert [told["data"]["subject"] for told in office.told()] == ["grave", "mild", "over"]


def test_a_storm_is_one_digest_the_most_urgent_first(office: Office) -> None:
    office.channel()
    for number in range(30):
        office.fire(f"domain-{number}", rule="bounces")
    for number in range(4):
        office.fire(f"source-{number}", rule="silence", kind="silence", severity="critical")
    gone = office.fire("gone", rule="silence", kind="silence", severity="critical")
    office.resolve(gone)
    assert office.tell() == 1
    (digest,) = office.told()
    assert digest["type"] == "alert.digest"
    data = digest["data"]
    assert (data["count"], data["firing"], data["resolved"]) == (35, 34, 1)
    assert [(group["rule"], group["severity"], group["state"], group["count"]) for group in data["groups"]] == [
        ("silence", "critical", "firing", 4),
        ("bounces", "warning", "firing", 30),
        ("silence", "critical", "resolved", 1),
    ]
    assert len(data["groups"][1]["alerts"]) == 5
    assert office.states() == {"sent": 36}
    assert len({row[0] for row in office.workshop.rows("SELECT telling FROM alert_notices")}) == 1


def test_a_digest_stays_small_however_large_the_storm(office: Office) -> None:
    office.channel()

    def storm(connection: Connection) -> None:
        for number in range(600):
            telling.fire(connection, f"s{number}", rule=f"rule-{number % 40}", summary="word " * 400)

    office.do(storm)
    office.tell()
    (request,) = office.sink.received
    assert len(request.body) < 64 * 1024
    assert request.json["data"]["count"] == 600
    assert request.json["data"]["more_groups"] == 20


def test_a_storm_that_goes_on_gathers_for_the_next_digest(office: Office) -> None:
    office.channel()
    for number in range(4):
        office.fire(f"first-{number}")
    office.tell()
    for number in range(4):
        office.fire(f"second-{number}")
        assert office.tell() == 0
    assert 30 < office.pause() <= 60
    office.tell_at_leisure()
    assert [told["data"]["count"] for told in office.told()] == [4, 4]


def test_a_single_alert_leaves_a_channel_in_peace_for_seconds_only(office: Office) -> None:
    office.channel()
    office.fire()
    office.tell()
    assert 0 < office.pause() <= 10


# Channels that fail


@pytest.mark.parametrize(
    "behaviour",
    [
        sinks.answer(500),
        sinks.answer(302, Location="/elsewhere"),
        sinks.answer(404),
        sinks.hang,
        sinks.drip,
        sinks.hang_up,
    ],
    ids=["500", "redirect", "404", "hang", "drip", "hang up"],
)
def test_what_failed_is_told_again_as_the_same_message(office: Office, behaviour: sinks.Behaviour) -> None:
    secret = office.channel()
    office.fire()
    office.sink.then(behaviour)
    office.tell()
    assert office.states() == {"pending": 1}
    assert office.standing().failures == 1
    assert office.standing().last_error
    assert office.tell() == 0
    office.tell_at_leisure()
    first, second = office.sink.received
    assert (first.id, first.body) == (second.id, second.body)
    Webhook(secret).verify(second.body, dict(second.headers))
    assert office.states() == {"sent": 1}
    assert (office.standing().failures, office.standing().last_error, office.standing().failing_since) == (
        0,
        None,
        None,
    )


@pytest.mark.parametrize("behaviour", [sinks.drip_headers, sinks.drip_body, sinks.endless])
def test_what_was_taken_is_told_whatever_is_said_after_that(office: Office, behaviour: sinks.Behaviour) -> None:
    office.channel()
    office.fire()
    office.sink.then(behaviour)
    office.tell()
    assert office.states() == {"sent": 1}


def test_nobody_listening_is_a_failure_that_names_no_secret(office: Office) -> None:
    office.channel(url="http://127.0.0.1:1/hooks/very-secret?token=hidden")
    office.fire()
    office.tell()
    error = office.standing().last_error
    assert error is not None
    assert "http://127.0.0.1:1/••••" in error
    assert "secret" not in error
    assert "hidden" not in error


def test_a_hanging_channel_holds_up_no_other(office: Office) -> None:
    begun, done = threading.Event(), threading.Event()

    def hang(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        begun.set()
        done.wait(10)

    with sinks.http_sink() as stuck:
        stuck.always = hang
        office.channel("stuck", url=stuck.url)
        office.fire()
        one, other = office.workshop.ctx, office.workshop.another_rim()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(notify.tell_due, one)
            assert begun.wait(10)
            # What comes up while one worker waits is told by another, which does not touch what hangs.
            office.channel("cli")
            office.fire("second")
            assert office.tell(other) == 1
            assert len(office.told()) == 1
            assert len(stuck.received) == 1
            done.set()
            waiting.result()


def test_channels_that_hang_together_are_waited_for_together(office: Office) -> None:
    together = threading.Barrier(4, timeout=10)

    def meet(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        together.wait()
        sinks.answer(200)(handler, closing)

    office.sink.always = meet
    for name in ("a", "b", "c", "d"):
        office.channel(name)
    office.fire()
    assert notify.tell_due(office.workshop.ctx) == 4
    assert sum((office.states(name) for name in "abcd"), Counter()) == {"sent": 4}


def test_more_channels_than_a_worker_takes_at_once_are_rung_for(office: Office) -> None:
    for number in range(10):
        office.channel(f"c{number}")
    office.fire()
    assert office.tell() == 8
    assert office.workshop.bell.rings == ["tidings.tell"]
    assert office.tell() == 2


def test_delays_grow_and_what_is_new_tries_again_within_a_minute(office: Office) -> None:
    office.channel()
    office.fire()
    office.sink.always = sinks.answer(500)
    waited = []
    for _ in range(8):
        office.tell_at_leisure()
        waited.append((office.delay(), office.pause()))
    wanted = [10, 30, 120, 600, 1800, 3600, 3600, 3600]
    for (delay, pause), seconds in zip(waited, wanted, strict=True):
        assert 0.8 * seconds - 5 < delay <= 1.2 * seconds
        assert pause <= min(60, 1.2 * seconds)


def test_what_comes_while_a_channel_fails_is_told_with_what_failed(office: Office) -> None:
    office.channel()
    first = office.fire("first")
    office.sink.then(sinks.answer(500))
    office.tell()
    office.resolve(first)
    office.fire("second")
    office.workshop.run("UPDATE alert_channels SET rests_until = NULL")
    office.tell()
    told = office.told()[1:]
    assert [(entry["type"], entry["data"]["subject"]) for entry in told] == [
        ("alert.firing", "second"),
        ("alert.resolved", "first"),
    ]
    assert office.states() == {"sent": 3}


def test_after_a_long_outage_everything_is_one_digest(office: Office) -> None:
    office.channel()
    office.sink.always = sinks.answer(503)
    for number in range(10):
        office.fire(f"s{number}")
        office.tell_at_leisure()
    before = len(office.sink.received)
    office.sink.always = None
    office.tell_at_leisure()
    (told,) = office.told()[before:]
    assert told["data"]["count"] == 10
    assert office.states() == {"sent": 10}


def test_after_a_failure_the_rest_of_the_turn_is_left_and_charged_no_attempt(office: Office) -> None:
    office.channel()
    for subject in ("a", "b", "c"):
        office.fire(subject)
    office.sink.then(sinks.answer(200), sinks.answer(500))
    office.tell()
    assert len(office.sink.received) == 2
    query = "SELECT state, attempts, telling IS NULL FROM alert_notices ORDER BY id"
    assert office.workshop.rows(query) == [("sent", 1, False), ("pending", 1, True), ("pending", 0, True)]


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("120", 110, 120),
        ("0", 5, 10),
        ("999999999999", 3590, 3600),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 3590, 3600),
        ("Fri, 01 Jan 2010 00:00:00 GMT", 5, 10),
        ("soon", 3, 12),
        ("-5", 3, 12),
        ("٣", 3, 12),
    ],
)
def test_a_channel_that_asks_for_patience_gets_it_within_bounds(
    office: Office, text: str, least: float, most: float
) -> None:
    office.channel()
    office.fire()
    office.sink.then(sinks.answer(429, Retry_After=text.encode().decode("latin-1")))
    office.tell()
    office.fire("another")
    assert office.tell() == 0
    assert least < office.pause() <= most
    assert office.states() == {"pending": 2}


def test_a_channel_that_is_gone_is_not_told_the_same_again(office: Office) -> None:
    office.channel()
    office.fire()
    office.sink.then(sinks.answer(410))
    office.tell()
    assert office.states() == {"dead": 1}
    assert "410" in str(office.standing().last_error)
    office.fire("another")
    office.tell_at_leisure()
    assert office.states() == {"dead": 1, "sent": 1}


def test_what_could_not_be_told_for_a_day_is_dead(office: Office) -> None:
    office.channel()
    office.fire("old")
    office.workshop.run("UPDATE alert_notices SET enqueued_at = now() - interval '25 h'")
    office.fire("new")
    office.sink.always = sinks.answer(500)
    for _ in range(2):
        office.tell_at_leisure()
    query = "SELECT state FROM alert_notices ORDER BY id"
    assert [row[0] for row in office.workshop.rows(query)] == ["dead", "pending"]


def test_secrets_that_cannot_be_opened_are_said_so_and_wait_for_their_key(office: Office) -> None:
    office.channel()
    office.fire()
    ((target,),) = office.workshop.rows("SELECT target FROM alert_channels")
    office.workshop.run("UPDATE alert_channels SET target = 'nonsense'")
    office.tell()
    assert "TIDINGS_SECRET_KEYS" in str(office.standing().last_error)
    office.workshop.run("UPDATE alert_channels SET target = %(target)s", target=target)
    office.tell_at_leisure()
    assert office.states() == {"sent": 1}


def test_a_bug_in_one_channel_is_its_own(office: Office) -> None:
    office.channel("odd")
    office.channel()
    office.workshop.run(
        "UPDATE alert_channels SET target = %(target)s WHERE name = 'odd'", target=office.workshop.ctx.vault.seal({})
    )
    office.fire()
    assert office.tell() == 2
    assert office.states() == {"sent": 1}
    assert "KeyError" in str(office.standing("odd").last_error)


def test_a_removed_channel_is_told_nothing_more(office: Office) -> None:
    office.channel()
    office.fire()
    assert office.do(lambda connection: stored.delete(connection, "cli"))
    assert not office.do(lambda connection: stored.delete(connection, "cli"))
    office.channel()
    assert office.tell() == 0
    assert office.states() == {"dead": 1}


def test_no_notice_is_left_over_by_a_channel_that_is_removed_meanwhile(office: Office) -> None:
    office.channel()
    engine = office.workshop.ctx.engine
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            telling.fire(connection)
            removed = pool.submit(office.do, lambda other: stored.delete(other, "cli"))
            with pytest.raises(TimeoutError):
                removed.result(0.3)
        assert removed.result(10)
    assert office.states() == {"dead": 1}


def test_what_is_settled_is_let_go_of_with_retention_and_what_waits_is_not(office: Office) -> None:
    office.channel()
    office.fire("told")
    office.tell()
    office.fire("waits")
    office.workshop.run("UPDATE alert_notices SET enqueued_at = now() - interval '40 d'")
    office.do(lambda connection: retention.trim(connection, datetime.now(UTC) - timedelta(days=30)))
    assert office.states() == {"pending": 1}


# Workers that die, and many of them

_TELL = """
import sys
from shared.doorbell import TELL, Doorbell
from shared.secrets import Vault
from shared.settings import Settings
from tests.workers.workshop import NotingBell, build
from workers import notices
notices.tell_due(build(sys.argv[1], Settings(), Vault([sys.argv[2]]), NotingBell()))
"""


def test_a_worker_killed_between_telling_and_noting_is_made_up_for_by_the_same_message(
    database_url: str, office: Office
) -> None:
    key = new_key()
    office.workshop.ctx = replace(office.workshop.ctx, vault=Vault([key]))
    office.workshop.run("DELETE FROM peppers")  # sealed with a key that the other process does not have
    office.channel()
    for number in range(5):
        office.fire(f"s{number}")
    workers: list[subprocess.Popen[bytes]] = []
    began = threading.Event()

    def kill(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        began.wait(10)
        workers[0].send_signal(signal.SIGKILL)

    office.sink.then(kill)
    workers.append(subprocess.Popen([sys.executable, "-c", _TELL, database_url, key], env={**os.environ}))
    began.set()
    assert workers[0].wait(30) == -signal.SIGKILL
    assert office.states() == {"pending": 5}
    office.fire("later")
    assert office.tell() == 0
    office.lose_leases()
    office.tell_at_leisure()
    office.tell_at_leisure()
    first, again, later = office.sink.received
    assert (first.id, first.body) == (again.id, again.body)
    assert again.json["data"]["count"] == 5
    assert later.json["data"]["subject"] == "later"
    assert office.states() == {"sent": 6}


def test_a_worker_that_was_taken_for_dead_notes_what_it_told_and_leaves_the_channel_to_the_other(
    office: Office,
) -> None:
    office.channel()
    office.fire()

    def overtake(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        office.workshop.run(
            "UPDATE alert_channels SET lease_token = gen_random_uuid(), lease_until = now() + interval '1 h'"
        )
        sinks.answer(200)(handler, closing)

    office.sink.then(overtake)
    office.tell()
    assert office.states() == {"sent": 1}
    assert office.workshop.rows("SELECT lease_until > now() FROM alert_channels") == [(True,)]


def test_many_workers_tell_everything_once(office: Office) -> None:
    names = [f"c{number}" for number in range(6)]
    for name in names:
        office.channel(name)
    rims = [office.workshop.another_rim() for _ in range(4)]
    stop = threading.Event()

    def work(ctx: WorkerContext) -> None:
        while not stop.is_set():
            notify.tell_due(ctx)

    with ThreadPoolExecutor(len(rims)) as pool:
        done = [pool.submit(work, ctx) for ctx in rims]
        for number in range(15):
            alert_id = office.fire(f"s{number}")
            if number % 3 == 0:
                office.resolve(alert_id)
            office.rested()
        try:
            while office.workshop.rows("SELECT 1 FROM alert_notices WHERE state = 'pending'"):
                assert not any(worker.done() for worker in done)
                office.rested()
        finally:
            stop.set()
        for future in done:
            future.result()
    for name in names:
        assert office.states(name) == {"sent": 20}
        requests = [request for request in office.sink.received if request.path == f"/{name}"]
        assert len({request.id for request in requests}) == len(requests)
        told = sum(request.json["data"].get("count", 1) for request in requests)
        assert 15 <= told <= 20  # the end of an alert is one with its beginning, or a message of its own
    attempts = office.workshop.rows("SELECT DISTINCT attempts FROM alert_notices")
    assert attempts == [(1,)]


def test_a_real_worker_hears_the_bell_and_tells(database_url: str, broker_url: str, office: Office) -> None:
    key = new_key()
    office.workshop.ctx = replace(office.workshop.ctx, vault=Vault([key]))
    office.workshop.run("DELETE FROM peppers")
    office.channel()
    office.channel("chat", url=office.sink.url.replace("http", "json") + "/chat", kind=Kind.APPRISE)
    office.fire()
    settings = {"TIDINGS_DATABASE_URL": database_url, "TIDINGS_BROKER_URL": broker_url, "TIDINGS_SECRET_KEYS": key}
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-c", "1", "-l", "warning"]
    worker = subprocess.Popen(command, env={**os.environ, **settings})
    bell = Doorbell(broker_url)
    try:
        assert bell.ring(TELL)
        for name in ("cli", "chat"):
            wait_until(lambda name=name: office.states(name) == {"sent": 1})  # type: ignore[misc]
    finally:
        bell.close()
        worker.terminate()
        worker.wait(60)
    assert {request.path for request in office.sink.received} == {"/ops", "/chat"}


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("it did not come to that within a minute")


# Apprise


def test_apprise_tells_people_in_words(office: Office) -> None:
    office.channel("chat", url=office.sink.url.replace("http", "json") + "/chat", kind=Kind.APPRISE)
    alert_id = office.fire(severity="critical", summary="5.5 % of the mail of main bounced.")
    office.tell()
    (told,) = office.told("/chat")
    assert told["title"] == "CRITICAL: 5.5 % of the mail of main bounced."
    assert told["type"] == "failure"
    for words in (
        "Since: 2026-01-01 12:00:00 UTC",
        "Rule: bounces",
        "Numbers: ended 200, bounced 11, percent 5.5",
        "What to do: ",
        f"/v1/alerts/{alert_id}",
    ):
        assert words in told["message"]
    assert office.states("chat") == {"sent": 1}


def test_apprise_tells_by_mail(office: Office, mail: MailSink) -> None:
    url = f"mailto://127.0.0.1:{mail.port}?from=tidings@example.com&to=ops@example.com&mode=insecure"
    office.channel("mail", url=url, kind=Kind.APPRISE)
    alert_id = office.fire()
    office.resolve(alert_id)
    office.tell()
    (message,) = mail.received
    assert message["Subject"] == "RESOLVED: 5.5 % of the mail of main bounced."
    assert "ops@example.com" in message["To"]
    body = message.get_body(("plain", "html"))
    assert body is not None
    assert "after 30 min; it could not be told while it lasted" in body.get_content()


def test_mail_that_is_refused_is_sent_again(office: Office, mail: MailSink) -> None:
    url = f"mailto://user:very-secret@127.0.0.1:{mail.port}?from=a@example.com&to=b@example.com&mode=insecure"
    office.channel("mail", url=url, kind=Kind.APPRISE)
    mail.refusal = "451 not now"
    office.fire()
    office.tell()
    assert office.states("mail") == {"pending": 1}
    error = str(office.standing("mail").last_error)
    assert "mailto://•••• was not told" in error
    assert "very-secret" not in error
    mail.refusal = None
    office.tell_at_leisure()
    assert len(mail.received) == 1
    assert office.states("mail") == {"sent": 1}


@pytest.mark.parametrize("behaviour", [sinks.answer(500), sinks.hang], ids=["500", "hang"])
def test_apprise_is_ended_when_its_time_is_up(office: Office, behaviour: sinks.Behaviour) -> None:
    office.channel("chat", url=office.sink.url.replace("http", "json") + "/chat?rto=600", kind=Kind.APPRISE)
    office.fire()
    office.sink.always = behaviour
    notify.tell_due(office.workshop.ctx, deadlines_seconds={Kind.APPRISE: 3.0})
    assert office.states("chat") == {"pending": 1}
    assert "was not told" in str(office.standing("chat").last_error)


def test_apprise_that_is_not_installed_is_said_so(
    office: Office, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.channel("chat", url=office.sink.url.replace("http", "json") + "/chat", kind=Kind.APPRISE)
    office.fire()
    (tmp_path / "apprise.py").write_text("raise ModuleNotFoundError('no apprise here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    office.tell()
    assert "pip install 'tidings[apprise]'" in str(office.standing("chat").last_error)
    monkeypatch.undo()
    office.tell_at_leisure()
    assert office.states("chat") == {"sent": 1}
