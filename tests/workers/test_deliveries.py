"""Deliveries: every change comes to every subscription that wants it, signed, and what became of it can be seen."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.deliveries import store as deliveries
from shared.http import standard_webhooks
from shared.subscriptions.model import SigningSecret
from tests.support import http_sink
from tests.support.http_sink import HttpSink, answer
from tests.support.system import System, open_system
from workers.deliveries import dispatcher
from workers.jobs import abandon


@pytest.fixture
def system(database_url: str) -> Iterator[System]:
    loopback = (ip_network("127.0.0.0/8"),)
    with (
        open_system(database_url, egress_allow=loopback) as system,
    ):
        yield system


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def let_leases_run_out(system: System) -> None:
    system.execute("UPDATE pending_deliveries SET lease_until = now() - interval '1 s'")


def claim(system: System, limit: int = 100) -> list[UUID]:
    """What a deliverer would claim now, and does not send."""
    with system.ctx.engine_sync_commit.begin() as connection:
        claimed = deliveries.claim(connection, token=uuid4(), limit=limit)
    assert claimed is not None
    return [one.id for one in claimed]


class TestARequest:
    def test_is_what_the_feed_shows_signed_by_standard_webhooks(self, system: System, sink: HttpSink) -> None:
        subscription = system.insert_subscription(sink.url + "/hooks?key=secret", headers={"X-Auth": "open sesame"})
        name = system.log_change(recipient="ann@example.net", status="bounced")
        system.deliver()

        (request,) = sink.received
        assert request.path == "/hooks?key=secret"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["webhook-id"] == request.headers["idempotency-key"] == name == request.json["id"]
        assert request.headers["x-auth"] == "open sesame"
        at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
        signed = standard_webhooks.headers(
            [system.signing_secrets[subscription]], message_id=name, attempted_at=at, body=request.body
        )
        assert request.headers["webhook-signature"] == signed["webhook-signature"]
        with system.ctx.engine.connect() as connection:
            (shown,) = change_payload.build_payloads(connection, change_log.read(connection).changes)
        assert request.json["data"] == shown["data"]

    def test_is_signed_with_every_secret_that_has_not_expired(self, system: System, sink: HttpSink) -> None:
        now = datetime.now(UTC)
        new, old, older = (standard_webhooks.new_secret() for _ in range(3))
        system.insert_subscription(
            sink.url,
            secrets=(
                SigningSecret(value=new),
                SigningSecret(value=old, expires_at=now + timedelta(hours=1)),
                SigningSecret(value=older, expires_at=now - timedelta(hours=1)),
            ),
        )
        system.log_change()
        system.deliver()
        assert len(sink.received[0].headers["webhook-signature"].split()) == 2

    def test_can_be_a_cloud_event(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, payload="cloudevents")
        name = system.log_change("message.opened")
        system.deliver()
        (request,) = sink.received
        assert request.headers["content-type"] == "application/cloudevents+json"
        assert (request.json["specversion"], request.json["id"]) == ("1.0", name)
        assert request.json["type"].endswith("message.opened")

    def test_keeps_its_id_and_is_built_again_for_every_attempt(self, system: System, sink: HttpSink) -> None:
        subscription = system.insert_subscription(sink.url)
        name = system.log_change()
        sink.then(answer(400))
        system.deliver()
        system.update_subscription(subscription, url=sink.url + "/new")
        replay_all(system)
        system.deliver()
        assert [(request.path, request.id) for request in sink.received] == [("/", name), ("/new", name)]
        assert system.delivery_statuses() == [("delivered", 2)]


def replay_all(system: System) -> int:
    ids = [row[0] for row in system.rows("SELECT id FROM deliveries")]
    with system.ctx.engine.begin() as connection:
        return deliveries.replay(connection, ids, datetime.now(UTC))


class TestOutcomes:
    def test_a_success_leaves_an_attempt_and_nothing_pending(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url + "/?token=x", headers={"Authorization": "Bearer 123"})
        name = system.log_change()
        sink.then(answer(200, b"thank you", X_Trace="7", Set_Cookie="session=1"))
        system.deliver()
        ((number, status, http_status, request, response),) = system.delivery_attempts()
        assert (number, status, http_status) == (1, "success", 200)
        assert request["method"] == "POST"
        assert request["url"] == f"{sink.url}/?••••"
        assert request["headers"]["webhook-id"] == name
        assert request["headers"]["webhook-signature"] == request["headers"]["Authorization"] == "••••"
        assert request["body"] == sink.received[0].body.decode()
        assert (request["truncated"], request["original_bytes"]) == (False, len(sink.received[0].body))
        assert (response["status"], response["body"], response["network_error"]) == (200, "thank you", None)
        assert (response["headers"]["x-trace"], response["headers"]["set-cookie"]) == ("7", "••••")
        assert not response["truncated"]
        assert system.pending_deliveries() == []

    def test_six_attempts_are_made_and_the_second_at_once(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        sink.always = answer(503)
        system.deliver()
        assert system.delivery_statuses() == [("retry", 2)]
        ((lane, seconds, attempts),) = system.pending_deliveries()
        assert (lane, attempts) == (1, 2)
        assert 20 < seconds < 36
        for _ in range(4):
            system.make_deliveries_due()
            system.deliver()
        assert system.delivery_statuses() == [("dead", 6)]
        assert [row[:3] for row in system.delivery_attempts()] == [(n, "failed", 503) for n in range(1, 7)]
        assert system.pending_deliveries() == []

    def test_a_replay_has_six_attempts_again(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, retry_schedule=[])
        system.log_change()
        sink.always = answer(503)
        system.deliver()
        assert system.delivery_statuses() == [("dead", 1)]
        assert replay_all(system) == 1
        system.deliver()
        assert system.delivery_statuses() == [("dead", 2)]
        assert [row[0] for row in system.delivery_attempts()] == [1, 2]

    @pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 422])
    def test_a_no_is_the_end_of_it(self, system: System, sink: HttpSink, status: int) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        sink.then(answer(status, Location=f"{sink.url}/elsewhere"))
        system.deliver()
        assert system.delivery_statuses() == [("dead", 1)]
        assert len(sink.received) == 1

    def test_410_disables_the_subscription(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        sink.then(answer(410))
        system.deliver()
        system.log_change()
        system.deliver()
        assert system.delivery_statuses() == [("dead", 1)]
        ((state, reason),) = system.rows("SELECT state, state_reason FROM subscriptions")
        assert state == "disabled"
        assert "410" in reason

    def test_no_response_is_status_0_and_says_why(self, system: System) -> None:
        system.insert_subscription("http://127.0.0.1:1/", retry_schedule=[])
        system.log_change()
        system.deliver()
        ((_, status, http_status, _, response),) = system.delivery_attempts()
        assert (status, http_status, response["status"]) == ("failed", 0, 0)
        assert "127.0.0.1" in response["network_error"]
        assert system.rows("SELECT last_error, last_http_status FROM deliveries") == [(response["network_error"], 0)]

    def test_an_address_that_is_not_allowed_is_never_dialled(self, database_url: str, sink: HttpSink) -> None:
        with open_system(database_url) as closed:
            closed.insert_subscription(sink.url, retry_schedule=[])
            closed.log_change()
            closed.deliver()
            assert sink.received == []
            assert "not a public address" in closed.delivery_attempts()[0][4]["network_error"]

    def test_captures_are_cut_and_storable_whatever_comes_back(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change("message.bounced", data={"text": "x" * 20_000})
        sink.then(answer(200, b"\x00\xff\xfe" * 30_000))
        system.deliver()
        ((_, _, _, request, response),) = system.delivery_attempts()
        assert request["truncated"]
        assert request["original_bytes"] > 20_000
        assert response["truncated"]
        assert len(request["body"].encode()) < 8192

    def test_retry_after_rests_the_endpoint(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        sink.then(answer(429, Retry_After="600"))
        system.deliver()
        system.log_change()
        system.deliver()
        assert len(sink.received) == 1
        ((_, seconds, _), _) = system.pending_deliveries()
        assert 590 < seconds <= 600

    def test_a_change_that_is_no_longer_kept_is_dead(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        system.fan_out()
        system.execute("DELETE FROM state_changes")
        system.deliver()
        assert system.delivery_statuses() == [("dead", 1)]
        assert sink.received == []

    @pytest.mark.parametrize("ahead", [timedelta(), timedelta(hours=1)], ids=["same-clock", "clock-ahead"])
    def test_a_replay_that_is_asked_for_during_an_attempt_follows_it(
        self, system: System, sink: HttpSink, ahead: timedelta
    ) -> None:
        system.insert_subscription(sink.url)
        system.log_change()

        def replay_and_refuse(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
            ((delivery_id,),) = system.rows("SELECT id FROM deliveries")
            with system.ctx.engine.begin() as connection:
                assert deliveries.replay(connection, [delivery_id], datetime.now(UTC) + ahead) == 1
            answer(404)(handler, closing)

        sink.then(replay_and_refuse)
        system.deliver()
        assert system.delivery_statuses() == [("delivered", 2)]

    def test_a_rest_that_was_asked_for_outlasts_a_success_of_the_same_moment(
        self, system: System, sink: HttpSink
    ) -> None:
        system.insert_subscription(sink.url, concurrency=4)
        for _ in range(40):
            system.log_change()
        slow = threading.Event()

        def succeed_late(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
            slow.wait(1)
            answer(204)(handler, closing)

        sink.then(succeed_late, answer(429, Retry_After="60"), succeed_late)
        system.deliver()
        assert len(sink.received) < 10
        ((rests,),) = system.rows("SELECT open_until > now() + interval '30 s' FROM endpoint_health")
        assert rests

    def test_410_of_a_url_that_was_changed_meanwhile_disables_nothing(self, system: System, sink: HttpSink) -> None:
        subscription_id = system.insert_subscription(sink.url)
        system.log_change()

        def move_away(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
            system.update_subscription(subscription_id, url=f"{sink.url}/new")
            answer(410)(handler, closing)

        sink.then(move_away)
        system.deliver()
        assert system.rows("SELECT state FROM subscriptions") == [("active",)]

    def test_quarantined_deliveries_are_sent_once_released(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        system.fan_out()
        system.execute("UPDATE deliveries SET status = 'quarantined'")
        system.execute("DELETE FROM pending_deliveries")
        system.deliver()
        assert sink.received == []
        replay_all(system)
        system.deliver()
        assert system.delivery_statuses() == [("delivered", 1)]


class TestTheBreaker:
    def test_leaves_a_broken_endpoint_alone_and_uses_up_no_attempts(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, concurrency=5, retry_schedule=[60])
        for _ in range(30):
            system.log_change()
        sink.always = answer(500)
        system.deliver()
        assert len(sink.received) < 12
        assert sum(attempts for _, attempts in system.delivery_statuses()) == len(sink.received)
        assert system.delivery_statuses().count(("pending", 0)) >= 18

    def test_uses_the_clock_of_the_database(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, retry_schedule=[])
        system.log_change()
        sink.always = answer(500)
        system.deliver()
        assert system.rows("SELECT last_failure_at = dead_at FROM endpoint_health, deliveries") == [(True,)]

    def test_tries_one_and_closes_on_success(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        for _ in range(30):
            system.log_change()
        sink.always = answer(500)
        system.deliver()
        heard = len(sink.received)
        system.make_deliveries_due()
        system.deliver()
        assert len(sink.received) == heard + 1
        sink.always = None
        system.make_deliveries_due()
        system.deliver()
        assert {status for status, _ in system.delivery_statuses()} == {"delivered"}
        assert system.rows("SELECT failures, openings, failing_since FROM endpoint_health") == [(0, 0, None)]

    def test_lets_a_person_try_one_at_once_and_closes_if_that_succeeds(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        for _ in range(30):
            system.log_change()
        sink.always = answer(500)
        system.deliver()
        sink.always = None
        chosen = system.rows("SELECT id FROM deliveries ORDER BY id DESC LIMIT 1")[0][0]
        with system.ctx.engine.begin() as connection:
            deliveries.replay(connection, [chosen], datetime.now(UTC), at_once=True)
        assert claim(system) == [chosen], "only the one that was asked for is sent"
        let_leases_run_out(system)
        system.deliver()
        assert ("delivered", 1) in system.delivery_statuses()
        assert system.rows("SELECT openings, open_until FROM endpoint_health") == [(0, None)]

    def test_is_not_prolonged_by_a_person_who_tries_too_early(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        for _ in range(10):
            system.log_change()
        sink.always = answer(500)
        system.deliver()
        before = system.rows("SELECT openings, open_until FROM endpoint_health")
        heard = len(sink.received)
        chosen = system.rows("SELECT id FROM deliveries ORDER BY id DESC LIMIT 1")[0][0]
        with system.ctx.engine.begin() as connection:
            deliveries.replay(connection, [chosen], datetime.now(UTC), at_once=True)
        system.deliver()
        assert len(sink.received) == heard + 1
        assert system.rows("SELECT openings, open_until FROM endpoint_health") == before

    def test_does_not_make_a_person_wait_for_a_probe_that_hangs(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        for _ in range(10):
            system.log_change()
        sink.always = answer(500)
        system.deliver()
        system.make_deliveries_due()
        (probe,) = claim(system)
        chosen = system.rows("SELECT id FROM deliveries WHERE id <> %(id)s ORDER BY id DESC LIMIT 1", id=probe)[0][0]
        with system.ctx.engine.begin() as connection:
            deliveries.replay(connection, [chosen], datetime.now(UTC), at_once=True)
        assert claim(system) == [chosen]

    def test_makes_many_that_are_replayed_wait(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        for _ in range(10):
            system.log_change()
        sink.always = answer(500)
        system.deliver()
        replay_all(system)
        assert claim(system) == []

    def test_after_days_of_nothing_but_failure_the_subscription_is_disabled(
        self, system: System, sink: HttpSink
    ) -> None:
        subscription = system.insert_subscription(sink.url)
        sink.always = answer(500)
        system.log_change()
        system.execute(
            "INSERT INTO endpoint_health (subscription_id, failures, openings, failing_since)"
            " VALUES (%(id)s, 40, 7, now() - interval '6 days')",
            id=subscription,
        )
        system.deliver()
        ((state, reason),) = system.rows("SELECT state, state_reason FROM subscriptions")
        assert (state, "answered 500" in reason) == ("disabled", True)
        assert system.delivery_statuses() == [("retry", 1)]


class TestFairness:
    def test_no_endpoint_has_more_under_way_than_it_is_granted(self, system: System) -> None:
        granted = {system.insert_subscription(concurrency=n): n for n in (1, 2, 10)}
        for _ in range(20):
            system.log_change()
        system.fan_out()
        claim(system)
        claim(system)
        rows = system.rows(
            "SELECT subscription_id, count(*) FROM pending_deliveries WHERE lease_until > now() GROUP BY 1"
        )
        # A fifth, and one at least, is kept for retries.
        assert {granted[id_]: count for id_, count in rows} == {1: 1, 2: 1, 10: 8}

    def test_fresh_ones_and_retries_leave_one_another_room(self, system: System) -> None:
        system.insert_subscription(concurrency=10)
        for _ in range(40):
            system.log_change()
        system.fan_out()
        system.execute("UPDATE pending_deliveries SET lane = 1 WHERE change_id %% 2 = 0")
        claim(system)
        rows = system.rows("SELECT lane, count(*) FROM pending_deliveries WHERE lease_until > now() GROUP BY lane")
        assert set(dict(rows)) == {0, 1}
        assert sum(dict(rows).values()) == 10

    def test_those_that_have_least_under_way_come_first(self, system: System) -> None:
        for _ in range(5):
            system.insert_subscription()
        for _ in range(20):
            system.log_change()
        system.fan_out()
        claim(system, limit=5)
        rows = system.rows("SELECT count(*) FROM pending_deliveries WHERE lease_until > now() GROUP BY subscription_id")
        assert rows == [(1,)] * 5

    def test_a_rate_is_kept(self, system: System) -> None:
        system.insert_subscription(rate_per_second=2)
        for _ in range(20):
            system.log_change()
        system.fan_out()
        assert len(claim(system)) == 2
        assert claim(system) == []
        system.execute("UPDATE endpoint_health SET paced_until = paced_until - interval '0.5 s'")
        assert len(claim(system)) == 1

    @pytest.mark.parametrize("rate", [0.01, 0.02, 0.3, 0.7, 0.9, 1.0, 3.3, 1000.0])
    def test_whatever_the_rate_the_first_goes_at_once(self, system: System, rate: float) -> None:
        system.insert_subscription(rate_per_second=rate)
        system.log_change()
        system.fan_out()
        assert len(claim(system)) == 1

    def test_paced_deliveries_are_waited_for(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, rate_per_second=5)
        for _ in range(12):
            system.log_change()
        system.deliver()
        assert len(sink.received) == 12

    def test_a_retry_that_is_due_soon_is_waited_for(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, retry_schedule=[1])
        system.log_change()
        sink.then(answer(500))
        system.deliver()
        assert system.delivery_statuses() == [("delivered", 2)]

    @pytest.mark.parametrize("wishes", [{"concurrency": 1}, {"concurrency": 2}, {"rate_per_second": 1}])
    def test_recovered_deliveries_leave_turns_to_new_ones(self, system: System, wishes: dict[str, Any]) -> None:
        system.insert_subscription(**wishes)
        for _ in range(60):
            system.log_change()
        system.fan_out()
        system.execute("UPDATE pending_deliveries SET lane = 1, available_at = now() - interval '1 minute'")
        for _ in range(10):
            system.log_change()
        system.fan_out()
        taken = []
        for _ in range(30):
            claim(system)
            taken += system.rows("SELECT lane FROM pending_deliveries WHERE lease_until > now()")
            system.execute("DELETE FROM pending_deliveries WHERE lease_until > now()")
            system.execute("UPDATE endpoint_health SET paced_until = now() - interval '1 minute'")
        assert {0, 1} == {lane for (lane,) in taken}
        assert sum(lane == 0 for (lane,) in taken) == 10

    def test_two_claims_never_meet(self, system: System) -> None:
        system.insert_subscription()
        system.log_change()
        system.fan_out()
        with system.ctx.engine_sync_commit.begin() as connection:
            assert len(deliveries.claim(connection, token=uuid4(), limit=5) or ()) == 1
            with system.add_worker().engine_sync_commit.begin() as other:
                assert deliveries.claim(other, token=uuid4(), limit=5) is None

    def test_an_endpoint_that_hangs_does_not_delay_others(self, system: System, sink: HttpSink) -> None:
        with http_sink.http_sink() as hanging:
            hanging.always = http_sink.hang
            system.insert_subscription(hanging.url, timeout_s=30)
            system.insert_subscription(sink.url)
            for _ in range(50):
                system.log_change()
            thread = threading.Thread(target=system.deliver)
            thread.start()
            while len(sink.received) < 50:
                time.sleep(0.01)
            assert not system.delivery_attempts() or {row[2] for row in system.delivery_attempts()} == {200}
            system.log_change()
            system.deliver()  # tells the one that is waiting to look again
            while len(sink.received) < 51:
                time.sleep(0.01)
            assert thread.is_alive()
            hanging.closing.set()
            thread.join()


class TestOrder:
    def test_a_failing_change_holds_back_the_later_ones_of_its_message_only(
        self, system: System, sink: HttpSink
    ) -> None:
        system.insert_subscription(sink.url, ordered=True, retry_schedule=[60])
        one, other = uuid4(), uuid4()
        names = [system.log_change(message_id=message) for message in (one, one, one, other, other)]
        bad = [names[0]]

        def refuse_bad(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
            answer(503 if handler.headers["webhook-id"] in bad else 200)(handler, closing)

        sink.always = refuse_bad
        system.deliver()
        assert {request.id for request in sink.received} == {names[0], names[3], names[4]}
        bad.clear()
        system.make_deliveries_due()
        system.deliver()
        assert [request.id for request in sink.received if request.id in names[:3]] == [names[0], *names[:3]]

    def test_is_kept_for_every_message_among_many(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, ordered=True)
        messages = [uuid4() for _ in range(10)]
        logged = {message: [system.log_change(message_id=message) for _ in range(5)] for message in messages}
        system.deliver()
        heard = [request.id for request in sink.received]
        for names in logged.values():
            assert [name for name in heard if name in names] == names


class TestDeath:
    def test_a_lease_that_ran_out_is_taken_over_with_the_same_id(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        name = system.log_change()
        system.fan_out()
        assert len(claim(system)) == 1  # and dies
        system.deliver()
        assert sink.received == []
        system.make_deliveries_due()
        system.deliver()
        assert [request.id for request in sink.received] == [name]
        assert system.delivery_statuses() == [("delivered", 1)]

    def test_what_ends_every_deliverer_is_dead_with_a_reason(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        system.fan_out()
        for _ in range(dispatcher.MAX_LAPSES):
            assert len(claim(system)) == 1  # and dies
            let_leases_run_out(system)
        system.deliver()
        assert sink.received == []
        assert system.delivery_statuses() == [("dead", 1)]
        ((_, status, http_status, _, response),) = system.delivery_attempts()
        assert (status, http_status) == ("failed", 0)
        assert "crashed 5 times" in response["network_error"]

    def test_what_was_under_way_when_deliverers_ended_is_sent_one_by_one(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, timeout_s=30)
        names = [system.log_change() for _ in range(5)]
        system.fan_out()
        for _ in range(dispatcher.SUSPECT_AFTER_LAPSES):
            assert len(claim(system)) == 5  # and dies
            let_leases_run_out(system)
        sink.then(http_sink.hang)
        deliverer = system.add_deliverer(suspect_delay_seconds=0.0, stop_seconds=0.2)
        thread = threading.Thread(target=deliverer.deliver)
        thread.start()
        while not sink.received:
            time.sleep(0.01)
        fresh = system.log_change()
        deliverer.deliver()
        while len(sink.received) < 2:
            time.sleep(0.01)
        assert [request.id for request in sink.received] == [names[0], fresh]
        deliverer.stop()
        thread.join()
        system.add_deliverer(suspect_delay_seconds=0.0).deliver()
        assert system.delivery_statuses() == [("delivered", 1)] * 6

    def test_a_reported_call_clears_the_suspicion(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        system.fan_out()
        claim(system)
        let_leases_run_out(system)
        sink.then(answer(500))
        system.deliver()
        assert system.rows("SELECT lapses FROM pending_deliveries") in ([(0,)], [])

    def test_who_slept_past_its_lease_writes_nothing(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, timeout_s=30)
        system.log_change()
        taken, may_answer = threading.Event(), threading.Event()

        def sleep(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
            taken.set()
            may_answer.wait(60)
            answer(500)(handler, closing)

        sink.then(sleep)
        sleeper = system.add_deliverer()
        thread = threading.Thread(target=sleeper.deliver)
        thread.start()
        taken.wait()
        system.make_deliveries_due()
        other = system.add_deliverer()
        other.deliver()
        may_answer.set()
        thread.join()
        assert system.delivery_statuses() == [("delivered", 1)]
        assert [row[2] for row in system.delivery_attempts()] == [200]

    def test_who_is_stopped_gives_back_what_has_not_ended(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url, timeout_s=30)
        system.log_change()
        sink.then(http_sink.hang)
        deliverer = system.add_deliverer(stop_seconds=0.2)
        thread = threading.Thread(target=deliverer.deliver)
        thread.start()
        while not sink.received:
            time.sleep(0.01)
        deliverer.stop()
        thread.join()
        assert system.delivery_statuses() == [("pending", 0)]
        system.add_deliverer().deliver()
        assert system.delivery_statuses() == [("delivered", 1)]

    def test_an_attempt_that_cannot_be_written_is_not_made_again_at_once(self, system: System, sink: HttpSink) -> None:
        system.insert_subscription(sink.url)
        system.log_change()
        system.execute("ALTER TABLE delivery_attempts ADD CONSTRAINT never CHECK (http_status <> 200)")
        with pytest.raises(Exception, match="never"):
            system.deliver()
        with pytest.raises(Exception, match="never"):
            system.deliver()
        assert len(sink.received) == 1
        system.execute("ALTER TABLE delivery_attempts DROP CONSTRAINT never")
        system.deliver()
        assert len(sink.received) == 1
        assert system.delivery_statuses() == [("delivered", 1)]


class TestWhatWaitsForLongerThanAnythingIsKept:
    def test_is_dead_with_the_reason_and_lets_go_what_waits_behind_it(self, system: System, sink: HttpSink) -> None:
        subscription_id = system.insert_subscription(sink.url, ordered=True, state="paused")
        message_id = uuid4()
        for _ in range(2):
            system.log_change(message_id=message_id)
        system.fan_out()
        time.sleep(0.002)
        moment = datetime.now(UTC)
        time.sleep(0.002)
        newest = system.log_change(message_id=message_id)
        system.fan_out()
        assert abandon.expire_old(system.ctx, moment) == 2
        assert system.delivery_statuses() == [("dead", 0), ("dead", 0), ("pending", 0)]
        assert "TIDINGS_RETENTION_DAYS" in str(system.rows("SELECT last_error FROM deliveries"))
        system.update_subscription(subscription_id, state="active")
        system.deliver()
        assert [request.id for request in sink.received] == [newest]
