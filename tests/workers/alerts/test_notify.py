"""Notifications: each channel at its own pace, nothing lost, and a storm as one message."""

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
from sqlalchemy import Connection, Row
from standardwebhooks import Webhook

from shared.alerts import store as stored_alerts
from shared.alerts.policy import DIGEST_HOUR, last_digest_time
from shared.broker import SEND_NOTIFICATIONS, TaskNotifier
from shared.encryption import Vault, new_key
from shared.notifications import channels
from shared.notifications import store as table
from shared.notifications.channels import Kind
from shared.operations import retention
from shared.vocabulary import Severity
from tests.support import alerts, http_sink
from tests.support.http_sink import HttpSink, MailSink
from tests.support.system import System
from workers.alerts import notify
from workers.context import WorkerContext

T = TypeVar("T")

SHORT: Mapping[str, float] = {Kind.WEBHOOK: 0.5, Kind.APPRISE: 20.0}
"""Deadlines for channels that do not keep them."""


@dataclass
class NotificationEnv:
    """A system with alert channels."""

    system: System
    sink: HttpSink

    def channel(
        self, name: str = "ops", url: str = "", kind: Kind = Kind.WEBHOOK, least: Severity = Severity.WARNING
    ) -> str:
        """A channel, by default a webhook to the sink; its secret."""
        ctx = self.system.ctx
        checked = channels.validate_url(kind, url or f"{self.sink.url}/{name}")
        with ctx.engine.begin() as connection:
            _, secret = channels.create(connection, ctx.vault, name=name, kind=kind, url=checked, min_severity=least)
        return secret or ""

    def fire(self, subject: str = "main", **more: Any) -> UUID:
        return self.do(lambda connection: alerts.fire(connection, subject, **more))

    def escalate(self, alert_id: UUID) -> None:
        self.do(lambda connection: alerts.escalate(connection, alert_id))

    def resolve(self, alert_id: UUID) -> None:
        self.do(lambda connection: alerts.resolve(connection, alert_id))

    def do(self, work: Callable[[Connection], T]) -> T:
        with self.system.ctx.engine.begin() as connection:
            return work(connection)

    def send_due(self, ctx: WorkerContext | None = None) -> int:
        """What the clock has done every few seconds."""
        return notify.send_due(ctx or self.system.ctx, deadlines_seconds=SHORT)

    def send_after_pause(self) -> int:
        """The same after all rests and delays have passed."""
        self.rested()
        return self.send_due()

    def rested(self) -> None:
        with self.system.ctx.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alert_channels SET rests_until = NULL")
            connection.exec_driver_sql("UPDATE alert_notices SET available_at = now() WHERE state = 'pending'")

    def lose_leases(self) -> None:
        """What follows when the worker that had a channel is not heard of for long."""
        self.system.execute("UPDATE alert_channels SET lease_until = now() - interval '1 s'")

    def states(self, channel: str = "ops") -> Counter[str]:
        query = "SELECT state FROM alert_notices WHERE channel = %(channel)s"
        return Counter(row[0] for row in self.system.rows(query, channel=channel))

    def messages(self, path: str = "/ops") -> list[dict[str, Any]]:
        return [request.json for request in self.sink.received if request.path == path]

    def channel_row(self, name: str = "ops") -> Row[Any]:
        with self.system.ctx.engine.begin() as connection:
            row = table.get_channel(connection, name)
        assert row is not None
        return row

    def pause(self, name: str = "ops") -> float:
        """For how long a channel is left alone from now on, in seconds."""
        query = "SELECT extract(epoch FROM rests_until - now())::float FROM alert_channels WHERE name = %(name)s"
        return float(self.system.rows(query, name=name)[0][0])

    def delay(self) -> float:
        """In how many seconds what failed is tried again."""
        query = "SELECT max(extract(epoch FROM available_at - now()))::float FROM alert_notices WHERE state = 'pending'"
        return float(self.system.rows(query)[0][0])


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as opened:
        yield opened


@pytest.fixture
def env(system: System, sink: HttpSink) -> NotificationEnv:
    return NotificationEnv(system, sink)


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with http_sink.mail_sink() as opened:
        yield opened


# Contents of notifications


def test_an_alert_is_sent_once_and_signed(env: NotificationEnv) -> None:
    secret = env.channel()
    source = env.system.add_source("shop", "cloudmailin", {"username": "u", "password": "p"})
    alert_id = env.fire(source_id=source.id)
    assert env.send_due() == 1
    assert env.send_after_pause() == 0
    (request,) = env.sink.received
    Webhook(secret).verify(request.body, dict(request.headers))
    sent = request.json
    assert sent["type"] == "alert.firing"
    assert sent["timestamp"] == "2026-01-01T12:00:00Z"
    assert sent["data"]["id"] == str(alert_id)
    assert sent["data"]["source"] == "shop"
    assert sent["data"]["numbers"] == {"bounced": 11, "ended": 200, "percent": 5.5}
    assert sent["data"]["path"] == f"/v1/alerts/{alert_id}"
    assert "tidings trace" in sent["data"]["next_step"]
    assert env.states() == {"sent": 1}


def test_each_step_is_sent(env: NotificationEnv) -> None:
    env.channel()
    alert_id = env.fire()
    env.send_due()
    env.escalate(alert_id)
    env.send_after_pause()
    env.resolve(alert_id)
    env.send_after_pause()
    assert [sent["type"] for sent in env.messages()] == ["alert.firing", "alert.escalated", "alert.resolved"]
    assert [sent["data"]["severity"] for sent in env.messages()] == ["warning", "critical", "critical"]
    assert [sent["data"]["state"] for sent in env.messages()] == ["firing", "firing", "resolved"]
    assert len({request.id for request in env.sink.received}) == 3


def test_an_alert_that_was_resolved_before_it_was_sent_is_one_message(env: NotificationEnv) -> None:
    env.channel()
    alert_id = env.fire()
    env.escalate(alert_id)
    env.resolve(alert_id)
    env.send_due()
    (sent,) = env.messages()
    assert sent["type"] == "alert.resolved"
    assert [step["step"] for step in sent["data"]["steps"]] == ["fired", "escalated", "resolved"]
    assert env.states() == {"sent": 3}


def test_an_alert_that_escalated_before_it_was_sent_is_sent_as_firing(env: NotificationEnv) -> None:
    env.channel()
    alert_id = env.fire()
    env.escalate(alert_id)
    env.send_due()
    (sent,) = env.messages()
    assert (sent["type"], sent["data"]["severity"]) == ("alert.firing", "critical")


def test_a_channel_receives_what_reaches_its_severity(env: NotificationEnv) -> None:
    env.channel("all")
    env.channel("pager", least=Severity.CRITICAL)
    env.fire("a")
    env.fire("b", severity="critical")
    env.send_due()
    assert len(env.messages("/all")) == 2
    assert [sent["data"]["subject"] for sent in env.messages("/pager")] == ["b"]


def test_only_channels_that_received_an_alert_receive_its_end(env: NotificationEnv) -> None:
    env.channel("pager", least=Severity.CRITICAL)
    mild, grave = env.fire("a"), env.fire("b")
    env.escalate(grave)
    env.channel("late")
    env.send_due()
    for alert_id in (mild, grave):
        env.resolve(alert_id)
    env.send_after_pause()
    assert [sent["type"] for sent in env.messages("/pager")] == ["alert.escalated", "alert.resolved"]
    assert env.messages("/late") == []


@pytest.mark.parametrize(
    ("limits", "subjects"),
    [
        ({}, ["shop", "blog"]),
        ({"sources": ["shop"]}, ["shop"]),
        ({"sources": ["shop", "blog"]}, ["shop", "blog"]),
        ({"tenants": ["acme"]}, []),
        ({"rules": ["bounces"]}, ["shop", "blog"]),
        ({"rules": ["silence"], "sources": ["shop"]}, []),
    ],
)
def test_a_channel_receives_only_what_its_limits_name(
    env: NotificationEnv, limits: dict[str, list[str]], subjects: list[str]
) -> None:
    ids = {slug: env.system.create_source(slug) for slug in ("shop", "blog")}
    body = {"name": "ops", "kind": "webhook", "url": f"{env.sink.url}/ops", **limits}
    assert env.system.call("POST", "/v1/alert-channels", body).status_code == 201
    fired = [env.fire(slug, source_id=ids[slug]) for slug in ("shop", "blog")]
    env.send_due()
    assert [sent["data"]["subject"] for sent in env.messages()] == subjects
    env.resolve(fired[0])
    env.send_after_pause()
    assert len(env.messages()) == len(subjects) + ("shop" in subjects)


def test_a_muted_alert_is_not_sent_until_the_mute_ends(env: NotificationEnv) -> None:
    env.channel()
    now = alerts.BEGIN
    alert_id = env.fire()
    until = now + timedelta(hours=2)
    env.do(lambda connection: stored_alerts.mute(connection, alert_id, "ann", until=until, now=now))
    env.do(lambda connection: table.drop_muted(connection, alert_id))
    env.escalate(alert_id)
    assert env.send_due() == 0

    def remind(at: datetime) -> int:
        def work(connection: Connection) -> int:
            return table.enqueue(connection, stored_alerts.remind(connection, last_digest_time(at), at), at)

        return env.do(work)

    assert remind(until - timedelta(minutes=1)) == 0
    assert remind(until) == 1
    assert remind(until + timedelta(minutes=1)) == 0
    env.send_due()
    (sent,) = env.messages()
    assert (sent["type"], sent["data"]["id"]) == ("alert.still_firing", str(alert_id))


def test_what_still_fires_is_one_digest_a_day(env: NotificationEnv) -> None:
    env.channel()
    fired = [env.fire(subject) for subject in ("one", "two")]
    env.send_due()
    eight = alerts.BEGIN.replace(hour=DIGEST_HOUR) + timedelta(days=1)

    def remind(at: datetime) -> int:
        def work(connection: Connection) -> int:
            return table.enqueue(connection, stored_alerts.remind(connection, last_digest_time(at), at), at)

        return env.do(work)

    assert remind(eight - timedelta(seconds=1)) == 0
    assert remind(eight) == len(fired)
    assert remind(eight + timedelta(hours=23)) == 0
    env.send_after_pause()
    digest = env.messages()[-1]
    assert (digest["type"], digest["data"]["firing"], len(env.messages())) == ("alert.digest", 2, 3)
    env.resolve(fired[0])
    assert remind(eight + timedelta(days=1)) == 1
    env.send_after_pause()
    assert {sent["type"] for sent in env.messages()[3:]} == {"alert.resolved", "alert.still_firing"}


def test_a_step_that_is_enqueued_twice_is_sent_once(env: NotificationEnv) -> None:
    env.channel()
    env.fire()
    (step_id,) = env.system.rows("SELECT id FROM alert_steps")[0]
    assert env.do(lambda connection: table.enqueue(connection, [step_id], alerts.BEGIN)) == 0
    assert env.do(lambda connection: table.enqueue(connection, [], alerts.BEGIN)) == 0
    env.send_due()
    assert len(env.messages()) == 1


def test_without_channels_nothing_is_enqueued(env: NotificationEnv) -> None:
    env.fire()
    assert env.send_due() == 0
    assert env.system.rows("SELECT 1 FROM alert_notices") == []


# Storms


def test_up_to_three_are_sent_one_by_one_the_most_urgent_first(env: NotificationEnv) -> None:
    env.channel()
    over = env.fire("over")
    env.resolve(over)
    env.fire("mild")
    env.fire("grave", severity="critical")
    env.send_due()
    assert [sent["data"]["subject"] for sent in env.messages()] == ["grave", "mild", "over"]


def test_a_storm_is_one_digest_the_most_urgent_first(env: NotificationEnv) -> None:
    env.channel()
    for number in range(30):
        env.fire(f"domain-{number}", rule="bounces")
    for number in range(4):
        env.fire(f"source-{number}", rule="silence", kind="silence", severity="critical")
    gone = env.fire("gone", rule="silence", kind="silence", severity="critical")
    env.resolve(gone)
    assert env.send_due() == 1
    (digest,) = env.messages()
    assert digest["type"] == "alert.digest"
    data = digest["data"]
    assert (data["count"], data["firing"], data["resolved"]) == (35, 34, 1)
    assert [(group["rule"], group["severity"], group["state"], group["count"]) for group in data["groups"]] == [
        ("silence", "critical", "firing", 4),
        ("bounces", "warning", "firing", 30),
        ("silence", "critical", "resolved", 1),
    ]
    assert len(data["groups"][1]["alerts"]) == 5
    assert env.states() == {"sent": 36}
    assert len({row[0] for row in env.system.rows("SELECT telling FROM alert_notices")}) == 1


def test_a_digest_stays_small_however_large_the_storm(env: NotificationEnv) -> None:
    env.channel()

    def storm(connection: Connection) -> None:
        for number in range(600):
            alerts.fire(connection, f"s{number}", rule=f"rule-{number % 40}", summary="word " * 400)

    env.do(storm)
    env.send_due()
    (request,) = env.sink.received
    assert len(request.body) < 64 * 1024
    assert request.json["data"]["count"] == 600
    assert request.json["data"]["more_groups"] == 20


def test_a_storm_that_goes_on_gathers_for_the_next_digest(env: NotificationEnv) -> None:
    env.channel()
    for number in range(4):
        env.fire(f"first-{number}")
    env.send_due()
    for number in range(4):
        env.fire(f"second-{number}")
        assert env.send_due() == 0
    assert 30 < env.pause() <= 60
    env.send_after_pause()
    assert [sent["data"]["count"] for sent in env.messages()] == [4, 4]


def test_a_single_alert_leaves_a_channel_in_peace_for_seconds_only(env: NotificationEnv) -> None:
    env.channel()
    env.fire()
    env.send_due()
    assert 0 < env.pause() <= 10


# Channels that fail


@pytest.mark.parametrize(
    "behaviour",
    [
        http_sink.answer(500),
        http_sink.answer(302, Location="/elsewhere"),
        http_sink.answer(404),
        http_sink.hang,
        http_sink.drip,
        http_sink.hang_up,
    ],
    ids=["500", "redirect", "404", "hang", "drip", "hang up"],
)
def test_a_failed_notification_is_sent_again_as_the_same_message(
    env: NotificationEnv, behaviour: http_sink.Behaviour
) -> None:
    secret = env.channel()
    env.fire()
    env.sink.then(behaviour)
    env.send_due()
    assert env.states() == {"pending": 1}
    assert env.channel_row().failures == 1
    assert env.channel_row().last_error
    assert env.send_due() == 0
    env.send_after_pause()
    first, second = env.sink.received
    assert (first.id, first.body) == (second.id, second.body)
    Webhook(secret).verify(second.body, dict(second.headers))
    assert env.states() == {"sent": 1}
    assert (env.channel_row().failures, env.channel_row().last_error, env.channel_row().failing_since) == (
        0,
        None,
        None,
    )


@pytest.mark.parametrize("behaviour", [http_sink.drip_headers, http_sink.drip_body, http_sink.endless])
def test_a_2xx_is_a_success_whatever_follows_it(env: NotificationEnv, behaviour: http_sink.Behaviour) -> None:
    env.channel()
    env.fire()
    env.sink.then(behaviour)
    env.send_due()
    assert env.states() == {"sent": 1}


def test_a_refused_connection_is_a_failure_that_names_no_secret(env: NotificationEnv) -> None:
    env.channel(url="http://127.0.0.1:1/hooks/very-secret?token=hidden")
    env.fire()
    env.send_due()
    error = env.channel_row().last_error
    assert error is not None
    assert "http://127.0.0.1:1/••••" in error
    assert "secret" not in error
    assert "hidden" not in error


def test_a_hanging_channel_holds_up_no_other(env: NotificationEnv) -> None:
    begun, done = threading.Event(), threading.Event()

    def hang(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        begun.set()
        done.wait(60)

    with http_sink.http_sink() as stuck:
        stuck.always = hang
        env.channel("stuck", url=stuck.url)
        env.fire()
        one, other = env.system.ctx, env.system.add_worker()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(notify.send_due, one)
            assert begun.wait(60)
            # Another worker sends what comes up while one worker waits, and does not touch the hanging notification.
            env.channel("ops")
            env.fire("second")
            assert env.send_due(other) == 1
            assert len(env.messages()) == 1
            assert len(stuck.received) == 1
            done.set()
            waiting.result()


def test_channels_that_hang_together_are_waited_for_together(env: NotificationEnv) -> None:
    together = threading.Barrier(4, timeout=60)

    def meet(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        together.wait()
        http_sink.answer(200)(handler, closing)

    env.sink.always = meet
    for name in ("a", "b", "c", "d"):
        env.channel(name)
    env.fire()
    assert notify.send_due(env.system.ctx) == 4
    assert sum((env.states(name) for name in "abcd"), Counter()) == {"sent": 4}


def test_more_channels_than_a_worker_takes_at_once_are_left_to_another_task(env: NotificationEnv) -> None:
    for number in range(10):
        env.channel(f"c{number}")
    env.fire()
    assert env.send_due() == 8
    assert env.system.notifier.tasks == [SEND_NOTIFICATIONS]
    assert env.send_due() == 2


def test_delays_grow_and_a_new_notification_is_retried_within_a_minute(env: NotificationEnv) -> None:
    env.channel()
    env.fire()
    env.sink.always = http_sink.answer(500)
    waited = []
    for _ in range(8):
        env.send_after_pause()
        waited.append((env.delay(), env.pause()))
    wanted = [10, 30, 120, 600, 1800, 3600, 3600, 3600]
    for (delay, pause), seconds in zip(waited, wanted, strict=True):
        assert 0.8 * seconds - 5 < delay <= 1.2 * seconds
        assert pause <= min(60, 1.2 * seconds)


def test_steps_that_come_while_a_channel_fails_are_sent_with_the_failed_ones(env: NotificationEnv) -> None:
    env.channel()
    first = env.fire("first")
    env.sink.then(http_sink.answer(500))
    env.send_due()
    env.resolve(first)
    env.fire("second")
    env.system.execute("UPDATE alert_channels SET rests_until = NULL")
    env.send_due()
    sent = env.messages()[1:]
    assert [(entry["type"], entry["data"]["subject"]) for entry in sent] == [
        ("alert.firing", "second"),
        ("alert.resolved", "first"),
    ]
    assert env.states() == {"sent": 3}


def test_after_a_long_outage_everything_is_one_digest(env: NotificationEnv) -> None:
    env.channel()
    env.sink.always = http_sink.answer(503)
    for number in range(10):
        env.fire(f"s{number}")
        env.send_after_pause()
    before = len(env.sink.received)
    env.sink.always = None
    env.send_after_pause()
    (sent,) = env.messages()[before:]
    assert sent["data"]["count"] == 10
    assert env.states() == {"sent": 10}


def test_after_a_failure_the_rest_of_the_turn_is_left_and_charged_no_attempt(env: NotificationEnv) -> None:
    env.channel()
    for subject in ("a", "b", "c"):
        env.fire(subject)
    env.sink.then(http_sink.answer(200), http_sink.answer(500))
    env.send_due()
    assert len(env.sink.received) == 2
    query = "SELECT state, attempts, telling IS NULL FROM alert_notices ORDER BY id"
    assert env.system.rows(query) == [("sent", 1, False), ("pending", 1, True), ("pending", 0, True)]


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
    env: NotificationEnv, text: str, least: float, most: float
) -> None:
    env.channel()
    env.fire()
    env.sink.then(http_sink.answer(429, Retry_After=text.encode().decode("latin-1")))
    env.send_due()
    env.fire("another")
    assert env.send_due() == 0
    assert least < env.pause() <= most
    assert env.states() == {"pending": 2}


def test_a_channel_that_is_gone_is_not_sent_the_same_again(env: NotificationEnv) -> None:
    env.channel()
    env.fire()
    env.sink.then(http_sink.answer(410))
    env.send_due()
    assert env.states() == {"dead": 1}
    assert "410" in str(env.channel_row().last_error)
    env.fire("another")
    env.send_after_pause()
    assert env.states() == {"dead": 1, "sent": 1}


def test_a_notification_that_failed_for_a_day_is_dead(env: NotificationEnv) -> None:
    env.channel()
    env.fire("old")
    env.system.execute("UPDATE alert_notices SET enqueued_at = now() - interval '25 h'")
    env.fire("new")
    env.sink.always = http_sink.answer(500)
    for _ in range(2):
        env.send_after_pause()
    query = "SELECT state FROM alert_notices ORDER BY id"
    assert [row[0] for row in env.system.rows(query)] == ["dead", "pending"]


def test_secrets_that_cannot_be_opened_are_said_so_and_wait_for_their_key(env: NotificationEnv) -> None:
    env.channel()
    env.fire()
    ((target,),) = env.system.rows("SELECT target FROM alert_channels")
    env.system.execute("UPDATE alert_channels SET target = 'nonsense'")
    env.send_due()
    assert "TIDINGS_SECRET_KEYS" in str(env.channel_row().last_error)
    env.system.execute("UPDATE alert_channels SET target = %(target)s", target=target)
    env.send_after_pause()
    assert env.states() == {"sent": 1}


def test_a_bug_in_one_channel_is_its_own(env: NotificationEnv) -> None:
    env.channel("odd")
    env.channel()
    env.system.execute(
        "UPDATE alert_channels SET target = %(target)s WHERE name = 'odd'", target=env.system.ctx.vault.seal({})
    )
    env.fire()
    assert env.send_due() == 2
    assert env.states() == {"sent": 1}
    assert "KeyError" in str(env.channel_row("odd").last_error)


def test_a_removed_channel_receives_nothing_more(env: NotificationEnv) -> None:
    env.channel()
    env.fire()
    assert env.do(lambda connection: table.delete_channel(connection, "ops"))
    assert not env.do(lambda connection: table.delete_channel(connection, "ops"))
    env.channel()
    assert env.send_due() == 0
    assert env.states() == {"dead": 1}


def test_no_notice_is_left_over_by_a_channel_that_is_removed_meanwhile(env: NotificationEnv) -> None:
    env.channel()
    engine = env.system.ctx.engine
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            alerts.fire(connection)
            removed = pool.submit(env.do, lambda other: table.delete_channel(other, "ops"))
            with pytest.raises(TimeoutError):
                removed.result(0.3)
        assert removed.result(60)
    assert env.states() == {"dead": 1}


def test_settled_notifications_are_deleted_with_retention_and_pending_ones_are_not(env: NotificationEnv) -> None:
    env.channel()
    env.fire("sent")
    env.send_due()
    env.fire("waits")
    env.system.execute("UPDATE alert_notices SET enqueued_at = now() - interval '40 d'")
    env.do(lambda connection: retention.delete_expired(connection, datetime.now(UTC) - timedelta(days=30)))
    assert env.states() == {"pending": 1}


# Workers that die, and many of them

_TELL = """
import sys
from shared.broker import SEND_NOTIFICATIONS, TaskNotifier
from shared.encryption import Vault
from shared.settings import Settings
from tests.support.worker_env import RecordingNotifier, build_worker_context
from workers.alerts import notify
notify.send_due(build_worker_context(sys.argv[1], Settings(), Vault([sys.argv[2]]), RecordingNotifier()))
"""


def test_after_a_worker_was_killed_between_sending_and_recording_the_same_message_is_sent(
    database_url: str, env: NotificationEnv
) -> None:
    key = new_key()
    env.system.ctx = replace(env.system.ctx, vault=Vault([key]))
    env.system.execute("DELETE FROM peppers")  # sealed with a key that the other process does not have
    env.channel()
    for number in range(5):
        env.fire(f"s{number}")
    workers: list[subprocess.Popen[bytes]] = []
    began = threading.Event()

    def kill(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        began.wait(60)
        workers[0].send_signal(signal.SIGKILL)

    env.sink.then(kill)
    workers.append(subprocess.Popen([sys.executable, "-c", _TELL, database_url, key], env={**os.environ}))
    began.set()
    assert workers[0].wait(120) == -signal.SIGKILL
    assert env.states() == {"pending": 5}
    env.fire("later")
    assert env.send_due() == 0
    env.lose_leases()
    env.send_after_pause()
    env.send_after_pause()
    first, again, later = env.sink.received
    assert (first.id, first.body) == (again.id, again.body)
    assert again.json["data"]["count"] == 5
    assert later.json["data"]["subject"] == "later"
    assert env.states() == {"sent": 6}


def test_a_worker_that_lost_its_lease_records_what_it_sent_and_leaves_the_channel_to_the_other(
    env: NotificationEnv,
) -> None:
    env.channel()
    env.fire()

    def overtake(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        env.system.execute(
            "UPDATE alert_channels SET lease_token = gen_random_uuid(), lease_until = now() + interval '1 h'"
        )
        http_sink.answer(200)(handler, closing)

    env.sink.then(overtake)
    env.send_due()
    assert env.states() == {"sent": 1}
    assert env.system.rows("SELECT lease_until > now() FROM alert_channels") == [(True,)]


def test_many_workers_send_everything_once(env: NotificationEnv) -> None:
    names = [f"c{number}" for number in range(6)]
    for name in names:
        env.channel(name)
    contexts = [env.system.add_worker() for _ in range(4)]
    stop = threading.Event()

    def work(ctx: WorkerContext) -> None:
        while not stop.is_set():
            notify.send_due(ctx)

    with ThreadPoolExecutor(len(contexts)) as pool:
        done = [pool.submit(work, ctx) for ctx in contexts]
        for number in range(15):
            alert_id = env.fire(f"s{number}")
            if number % 3 == 0:
                env.resolve(alert_id)
            env.rested()
        try:
            while env.system.rows("SELECT 1 FROM alert_notices WHERE state = 'pending'"):
                assert not any(worker.done() for worker in done)
                env.rested()
        finally:
            stop.set()
        for future in done:
            future.result()
    for name in names:
        assert env.states(name) == {"sent": 20}
        requests = [request for request in env.sink.received if request.path == f"/{name}"]
        assert len({request.id for request in requests}) == len(requests)
        sent = sum(request.json["data"].get("count", 1) for request in requests)
        assert 15 <= sent <= 20  # the end of an alert is one with its beginning, or a message of its own
    attempts = env.system.rows("SELECT DISTINCT attempts FROM alert_notices")
    assert attempts == [(1,)]


def test_a_real_worker_receives_the_wake_up_and_sends(database_url: str, broker_url: str, env: NotificationEnv) -> None:
    key = new_key()
    env.system.ctx = replace(env.system.ctx, vault=Vault([key]))
    env.system.execute("DELETE FROM peppers")
    env.channel()
    env.channel("chat", url=env.sink.url.replace("http", "json") + "/chat", kind=Kind.APPRISE)
    env.fire()
    settings = {"TIDINGS_DATABASE_URL": database_url, "TIDINGS_BROKER_URL": broker_url, "TIDINGS_SECRET_KEYS": key}
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-c", "1", "-l", "warning"]
    worker = subprocess.Popen(command, env={**os.environ, **settings})
    notifier = TaskNotifier(broker_url)
    try:
        assert notifier.notify(SEND_NOTIFICATIONS)
        for name in ("ops", "chat"):
            wait_until(lambda name=name: env.states(name) == {"sent": 1})  # type: ignore[misc]
    finally:
        notifier.close()
        worker.terminate()
        worker.wait(60)
    assert {request.path for request in env.sink.received} == {"/ops", "/chat"}


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("it did not come to that within a minute")


# Apprise


def test_apprise_messages_are_readable_text(env: NotificationEnv) -> None:
    env.channel("chat", url=env.sink.url.replace("http", "json") + "/chat", kind=Kind.APPRISE)
    alert_id = env.fire(severity="critical", summary="5.5 % of the mail of main bounced.")
    env.send_due()
    (sent,) = env.messages("/chat")
    assert sent["title"] == "CRITICAL: 5.5 % of the mail of main bounced."
    assert sent["type"] == "failure"
    for words in (
        "Since: 2026-01-01 12:00:00 UTC",
        "Rule: bounces",
        "Numbers: ended 200, bounced 11, percent 5.5",
        "What to do: ",
        f"/v1/alerts/{alert_id}",
    ):
        assert words in sent["message"]
    assert env.states("chat") == {"sent": 1}


def test_apprise_sends_mail(env: NotificationEnv, mail: MailSink) -> None:
    url = f"mailto://127.0.0.1:{mail.port}?from=tidings@example.com&to=ops@example.com&mode=insecure"
    env.channel("mail", url=url, kind=Kind.APPRISE)
    alert_id = env.fire()
    env.resolve(alert_id)
    env.send_due()
    (message,) = mail.received
    assert message["Subject"] == "RESOLVED: 5.5 % of the mail of main bounced."
    assert "ops@example.com" in message["To"]
    body = message.get_body(("plain", "html"))
    assert body is not None
    assert "after 30 min; the channel could not be notified before" in body.get_content()


def test_mail_that_is_refused_is_sent_again(env: NotificationEnv, mail: MailSink) -> None:
    url = f"mailto://user:very-secret@127.0.0.1:{mail.port}?from=a@example.com&to=b@example.com&mode=insecure"
    env.channel("mail", url=url, kind=Kind.APPRISE)
    mail.refusal = "451 not now"
    env.fire()
    env.send_due()
    assert env.states("mail") == {"pending": 1}
    error = str(env.channel_row("mail").last_error)
    assert "mailto://•••• failed" in error
    assert "very-secret" not in error
    mail.refusal = None
    env.send_after_pause()
    assert len(mail.received) == 1
    assert env.states("mail") == {"sent": 1}


@pytest.mark.parametrize("behaviour", [http_sink.answer(500), http_sink.hang], ids=["500", "hang"])
def test_apprise_is_ended_when_its_time_is_up(env: NotificationEnv, behaviour: http_sink.Behaviour) -> None:
    env.channel("chat", url=env.sink.url.replace("http", "json") + "/chat?rto=600", kind=Kind.APPRISE)
    env.fire()
    env.sink.always = behaviour
    notify.send_due(env.system.ctx, deadlines_seconds={Kind.APPRISE: 3.0})
    assert env.states("chat") == {"pending": 1}
    assert "failed" in str(env.channel_row("chat").last_error)


def test_apprise_that_is_not_installed_is_said_so(
    env: NotificationEnv, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.channel("chat", url=env.sink.url.replace("http", "json") + "/chat", kind=Kind.APPRISE)
    env.fire()
    (tmp_path / "apprise.py").write_text("raise ModuleNotFoundError('no apprise here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    env.send_due()
    assert "pip install 'tidings[apprise]'" in str(env.channel_row("chat").last_error)
    monkeypatch.undo()
    env.send_after_pause()
    assert env.states("chat") == {"sent": 1}
