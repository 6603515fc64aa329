"""Deliveries over the API: their state, what was sent and received, and replaying them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from standardwebhooks import Webhook

from shared import ids
from shared.auth.keys import Scope, create_key
from tests.support import http_sink
from tests.support.http_sink import HttpSink
from tests.support.system import System

MASK = "••••"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def whole(delivery_system: System, delivery: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = delivery_system.get(f"/v1/deliveries/{delivery['id']}")
    return found


def attempts(delivery_system: System, delivery: dict[str, Any]) -> list[dict[str, Any]]:
    return delivery_system.list_items(f"/v1/deliveries/{delivery['id']}/attempts")


def replay(delivery_system: System, delivery: dict[str, Any], status: int = 202) -> dict[str, Any]:
    answer = delivery_system.call("POST", f"/v1/deliveries/{delivery['id']}/replay")
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def test_deliveries_are_found_and_replayed_by_status_code(delivery_system: System, sink: HttpSink) -> None:
    delivery_system.create_subscription(sink.url, retry_schedule=[3600])
    for status in (503, 404, 200):
        sink.then(http_sink.answer(status))
        delivery_system.log_change()
        delivery_system.deliver()

    def codes(**query: str) -> list[int]:
        return [found["last_http_status"] for found in delivery_system.list_items("/v1/deliveries", **query)]

    (subscription,) = {found["subscription"] for found in delivery_system.list_items("/v1/deliveries")}
    for more in ({}, {"subscription": subscription}):
        assert codes(status_code="503", **more) == codes(status_code="5xx", **more) == [503]
        assert codes(status_code="4xx", **more) == [404]
        assert codes(status_code="2xx", **more) == [200]
        assert codes(status_code="429", **more) == codes(status_code="network_error", **more) == []
    answer = delivery_system.call("GET", "/v1/deliveries", status_code="teapot")
    assert answer.status_code == 422
    assert "'teapot'" in answer.get_json()["errors"]["status_code"][0]
    for wanted, count in (({"status_code": "4xx"}, 1), ({"status_code": "503"}, 0), ({}, 1)):
        job = delivery_system.run_job("POST", "/v1/deliveries/replay", {"filter": wanted, "dry_run": True})
        assert job["report"]["to_deliver"] == count


class TestADelivery:
    def test_that_was_made_says_so(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        name = delivery_system.log_change()
        delivery_system.deliver()
        delivery = delivery_system.get_delivery()
        assert (delivery["status"], delivery["attempts"], delivery["last_http_status"]) == ("delivered", 1, 200)
        assert (delivery["last_error"], delivery["next_attempt_at"]) == (None, None)
        assert (delivery["subscription"], delivery["webhook_id"]) == (made["id"], name)
        assert delivery["type"] == "message.bounced"
        assert delivery["delivered_at"] is not None

    def test_that_failed_for_now_says_when_it_is_tried_again(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url, retry_schedule=[3600])
        sink.then(http_sink.answer(503))
        delivery_system.log_change()
        delivery_system.deliver()
        delivery = delivery_system.get_delivery()
        assert (delivery["status"], delivery["attempts"], delivery["last_error"]) == ("retry", 1, "answered 503")
        wait = datetime.fromisoformat(delivery["next_attempt_at"]) - datetime.now(UTC)
        assert timedelta(minutes=40) < wait < timedelta(minutes=80)

    def test_shows_its_payload_as_feed_and_webhook_do(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url)
        delivery_system.log_change(data={"key": "value"})
        delivery_system.deliver()
        change = whole(delivery_system, delivery_system.get_delivery())["change"]
        (entry,) = delivery_system.get("/v1/changes")["items"]
        assert change == sink.received[0].json
        assert (change["id"], change["type"], change["timestamp"]) == (entry["id"], entry["type"], entry["timestamp"])

    def test_shows_its_payload_in_the_current_form(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url, payload="cloudevents")
        name = delivery_system.log_change(recipient="ann@example.net")
        delivery_system.deliver()
        event = whole(delivery_system, delivery_system.get_delivery())["change"]
        assert event == sink.received[0].json
        assert sink.received[0].headers["content-type"] == "application/cloudevents+json"
        assert event["data"]["recipient"] == event["subject"] == "ann@example.net"
        assert {key: event[key] for key in ("specversion", "id", "source", "type", "datacontenttype")} == {
            "specversion": "1.0", "id": name, "source": "/", "type": "dev.tidings.message.bounced",
            "datacontenttype": "application/json",
        }  # fmt: skip
        delivery_system.call("PATCH", f"/v1/subscriptions/{made['id']}", {"payload": "tidings"})
        assert whole(delivery_system, delivery_system.get_delivery())["change"]["id"] == name

    def test_whose_change_is_deleted_has_no_payload(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url)
        delivery_system.log_change()
        delivery_system.deliver()
        delivery_system.execute("DELETE FROM state_changes")
        delivery = delivery_system.get_delivery()
        assert whole(delivery_system, delivery)["change"] is None
        assert "no longer kept" in replay(delivery_system, delivery, status=410)["detail"]


# The table of the guide to failed deliveries: what the latest attempt shows, what it usually means, what to do next.
NO_RESPONSE = ("did not receive an HTTP response", "Check DNS, TLS, firewall")
TEMPORARY = ("Temporary receiver failure", "wait for the retry, or replay")
PERMANENT = ("Permanent receiver rejection", "Fix URL, auth, signature verification")
ACCEPTED = ("accepted the delivery as successful", "internal queue, idempotency, and downstream")
ROWS = [
    (0, "retry", NO_RESPONSE),
    *((status, "retry", TEMPORARY) for status in (500, 502, 503, 599, 408, 409, 425, 429)),
    *((status, "dead", PERMANENT) for status in (400, 401, 403, 404, 410, 422, 301, 304)),
    *((status, "delivered", ACCEPTED) for status in (200, 202, 204)),
]


@pytest.mark.parametrize(("http_status", "status", "words"), ROWS)
def test_what_to_do_next_follows_from_the_latest_attempt(
    delivery_system: System, sink: HttpSink, http_status: int, status: str, words: tuple[str, str]
) -> None:
    delivery_system.create_subscription(sink.url, retry_schedule=[3600])
    sink.always = http_sink.answer(http_status) if http_status else http_sink.hang_up
    delivery_system.log_change()
    delivery_system.deliver()
    delivery = whole(delivery_system, delivery_system.get_delivery())
    assert (delivery["status"], delivery["last_http_status"]) == (status, http_status)
    assert words[0] in delivery["usually_means"]
    assert words[1] in delivery["next_action"]
    (attempt,) = attempts(delivery_system, delivery)
    assert attempt["http_status"] == attempt["response_capture"]["status"] == http_status
    assert (attempt["response_capture"]["network_error"] is None) is (http_status != 0)
    assert attempt["status"] == ("success" if status == "delivered" else "failed")


class TestBeforeAnyAttempt:
    @pytest.mark.parametrize(
        ("state", "words"), [("active", "will be sent soon"), ("paused", "is paused"), ("disabled", "is disabled")]
    )
    def test_the_subscription_is_what_it_waits_for(self, delivery_system: System, state: str, words: str) -> None:
        delivery_system.create_subscription("http://127.0.0.1:9")
        delivery_system.log_change()
        delivery_system.fan_out()
        delivery_system.execute("UPDATE subscriptions SET state = %(state)s", state=state)
        delivery = whole(delivery_system, delivery_system.get_delivery())
        assert (delivery["status"], delivery["attempts"], delivery["last_http_status"]) == ("pending", 0, None)
        assert words in delivery["usually_means"]
        assert "no attempt" in delivery["latest_attempt_shows"]

    def test_mail_that_is_probably_spam_waits_for_a_person(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url)
        spam(delivery_system)
        delivery_system.deliver()
        delivery = whole(delivery_system, delivery_system.get_delivery())
        assert (delivery["status"], sink.received) == ("quarantined", [])
        assert "replay the delivery to release it" in delivery["next_action"]


def spam(delivery_system: System) -> str:
    """A change that tells of mail with a high spam score."""
    event_id = ids.event_id(ids.receipt_id(datetime.now(UTC)), 0)
    delivery_system.create_source()
    delivery_system.execute(
        "INSERT INTO events (id, receipt_id, source_id, key, type, occurred_at, received_at, data, provider_object)"
        " VALUES (%(id)s, %(id)s, 1, %(id)s, 'inbound', now(), now(), %(data)s, '{}')",
        id=event_id,
        data='{"details": {"spam": {"score": 99}}}',
    )
    return delivery_system.log_change("inbound.received", event_id=event_id, source_id=1)


class TestAnAttempt:
    def test_shows_what_was_sent_and_what_came_back(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(f"{sink.url}/hook?token=hunter2", headers={"Authorization": "hunter2"})
        sink.then(http_sink.answer(400, b"no such field", X_Request_Id="7"))
        name = delivery_system.log_change()
        delivery_system.deliver()
        (attempt,) = attempts(delivery_system, delivery_system.get_delivery())
        sent, back = attempt["request_capture"], attempt["response_capture"]
        assert (attempt["number"], attempt["http_status"], attempt["latency_ms"] >= 0) == (1, 400, True)
        assert (sent["method"], sent["url"]) == ("POST", f"{sink.url}/hook?{MASK}")
        assert sent["headers"]["webhook-id"] == name
        assert sent["headers"]["webhook-signature"] == sent["headers"]["Authorization"] == MASK
        assert sent["body"].encode() == sink.received[0].body
        assert (back["body"], back["headers"]["x-request-id"]) == ("no such field", "7")
        assert (sent["truncated"], back["truncated"]) == (False, False)
        assert "hunter2" not in str(attempt)

    def test_is_marked_where_it_is_longer_than_what_is_kept(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url)
        sink.then(http_sink.answer(400, b"x" * 10_000))
        delivery_system.log_change(data={"text": "y" * 10_000})
        delivery_system.deliver()
        (attempt,) = attempts(delivery_system, delivery_system.get_delivery())
        assert (attempt["request_capture"]["truncated"], attempt["response_capture"]["truncated"]) == (True, True)
        assert attempt["request_capture"]["original_bytes"] == len(sink.received[0].body)

    def test_is_listed_the_newest_first(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url, retry_schedule=[0, 0])
        sink.then(http_sink.answer(500), http_sink.answer(502))
        delivery_system.log_change()
        for _ in range(3):
            delivery_system.deliver()
            delivery_system.make_deliveries_due()
        found = attempts(delivery_system, delivery_system.get_delivery())
        assert [(one["number"], one["http_status"]) for one in found] == [(3, 200), (2, 502), (1, 500)]
        delivery = delivery_system.get_delivery()
        page = delivery_system.get(f"/v1/deliveries/{delivery['id']}/attempts", limit=2)
        rest = delivery_system.get(f"/v1/deliveries/{delivery['id']}/attempts", cursor=page["next_cursor"])
        assert page["items"] + rest["items"] == found


class TestAReplay:
    def test_of_a_dead_one_is_an_attempt_like_any_other(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        sink.then(http_sink.answer(404))
        name = delivery_system.log_change()
        delivery_system.deliver()
        dead = delivery_system.get_delivery(status="dead")
        assert replay(delivery_system, dead)["status"] == "pending"
        delivery_system.deliver()
        delivery = delivery_system.get_delivery()
        assert (delivery["status"], delivery["attempts"], delivery["last_error"]) == ("delivered", 2, None)
        first, second = sink.received
        assert first.id == second.id == name
        assert first.body == second.body
        Webhook(made["secret"]).verify(second.body, dict(second.headers))

    def test_has_the_full_number_of_attempts(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url, retry_schedule=[3600])
        sink.always = http_sink.answer(500)
        delivery_system.log_change()
        for _ in range(2):
            delivery_system.deliver()
            delivery_system.make_deliveries_due()
        assert delivery_system.get_delivery()["status"] == "dead"
        replay(delivery_system, delivery_system.get_delivery())
        delivery_system.deliver()
        assert (delivery_system.get_delivery()["status"], delivery_system.get_delivery()["attempts"]) == ("retry", 3)

    def test_of_a_delivered_one_sends_it_again(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url)
        delivery_system.log_change()
        delivery_system.deliver()
        replay(delivery_system, delivery_system.get_delivery())
        delivery_system.deliver()
        assert len({received.id for received in sink.received}) == 1
        assert len(sink.received) == 2

    def test_does_not_wait_for_its_time(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url, retry_schedule=[3600])
        sink.then(http_sink.answer(500))
        delivery_system.log_change()
        delivery_system.deliver()
        replay(delivery_system, delivery_system.get_delivery())
        delivery_system.deliver()
        assert delivery_system.get_delivery()["status"] == "delivered"

    def test_releases_what_is_quarantined(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url)
        name = spam(delivery_system)
        delivery_system.deliver()
        replay(delivery_system, delivery_system.get_delivery(status="quarantined"))
        delivery_system.deliver()
        assert [received.id for received in sink.received] == [name]

    def test_is_tried_at_once_though_the_endpoint_rests(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url, retry_schedule=[0])
        sink.always = http_sink.answer(500)
        for _ in range(30):  # more than are in flight when the circuit breaker opens
            delivery_system.log_change()
        delivery_system.deliver()
        waiting = delivery_system.list_deliveries(status="pending")[0]
        assert waiting["waits_for"].startswith("the circuit breaker")
        assert waiting["waits_until"] is not None
        sink.always = None
        replay(delivery_system, waiting)
        delivery_system.deliver()
        shown = whole(delivery_system, waiting)
        assert (shown["status"], shown["waits_for"], shown["waits_until"]) == ("delivered", None, None)

    def test_waits_while_the_subscription_is_paused(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        delivery_system.log_change()
        delivery_system.deliver()
        delivery_system.call("POST", f"/v1/subscriptions/{made['id']}/pause")
        replay(delivery_system, delivery_system.get_delivery())
        delivery_system.deliver()
        assert len(sink.received) == 1
        assert "paused" in delivery_system.get_delivery()["waits_for"]
        delivery_system.call("POST", f"/v1/subscriptions/{made['id']}/resume")
        delivery_system.deliver()
        assert len(sink.received) == 2

    def test_to_a_disabled_subscription_is_refused(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url)
        sink.then(http_sink.answer(410))
        delivery_system.log_change()
        delivery_system.deliver()
        delivery = whole(delivery_system, delivery_system.get_delivery())
        assert "The subscription is disabled: resume it." in delivery["next_action"]
        assert "resume" in replay(delivery_system, delivery, status=409)["detail"]

    def test_needs_a_key_that_may_write(self, delivery_system: System, sink: HttpSink) -> None:
        delivery_system.create_subscription(sink.url)
        delivery_system.log_change()
        delivery_system.deliver()
        delivery = delivery_system.get_delivery()
        with delivery_system.engine.begin() as connection:
            delivery_system.key = create_key(connection, "reader", Scope.READ).secret
        assert whole(delivery_system, delivery)["status"] == "delivered"
        replay(delivery_system, delivery, status=403)

    def test_does_not_show_the_answer_of_an_internal_server_to_a_key_that_may_only_read(
        self, delivery_system: System, sink: HttpSink
    ) -> None:
        delivery_system.create_subscription(sink.url)
        sink.then(http_sink.answer(404, b"internal secret", X_Token="hidden"))
        delivery_system.log_change()
        delivery_system.deliver()
        delivery = delivery_system.get_delivery()
        assert "internal secret" in delivery_system.call("GET", f"/v1/deliveries/{delivery['id']}/attempts").text
        with delivery_system.engine.begin() as connection:
            delivery_system.key = create_key(connection, "reader", Scope.READ).secret
        for path in ("", "/attempts"):
            answer = delivery_system.call("GET", f"/v1/deliveries/{delivery['id']}{path}")
            assert answer.status_code == 200
            assert "internal secret" not in answer.text
            assert "hidden" not in answer.text


@pytest.mark.parametrize("rest", ["", "/attempts", "/replay"])
def test_an_unknown_delivery_is_not_found(delivery_system: System, rest: str) -> None:
    method = "POST" if rest == "/replay" else "GET"
    assert delivery_system.call(method, f"/v1/deliveries/{uuid4()}{rest}").status_code == 404


class TestTheList:
    @pytest.fixture
    def several(self, delivery_system: System, sink: HttpSink) -> dict[str, Any]:
        """Two subscriptions; of the first one delivery is delivered, one dead and one to be retried."""
        first = delivery_system.create_subscription(sink.url, ("message.*",), retry_schedule=[3600])
        message = uuid4()
        sink.then(http_sink.answer(200), http_sink.answer(404), http_sink.answer(500))
        names = [
            delivery_system.log_change("message.sent"),
            delivery_system.log_change("message.bounced", message_id=message),
        ]
        delivery_system.deliver()
        names.append(delivery_system.log_change("message.opened"))
        delivery_system.deliver()
        second = delivery_system.create_subscription(sink.url, ("alert.*",))
        names.append(delivery_system.log_change("alert.firing"))
        delivery_system.fan_out()
        return {"first": first["id"], "second": second["id"], "message": str(message), "names": names}

    def names(self, delivery_system: System, **query: Any) -> list[str]:
        return [delivery["webhook_id"] for delivery in delivery_system.list_deliveries(**query)]

    def test_begins_with_what_was_made_last(self, delivery_system: System, several: dict[str, Any]) -> None:
        found = self.names(delivery_system)
        assert found[:2] == several["names"][:1:-1]
        assert set(found[2:]) == set(several["names"][:2]), "which may have been made in the same millisecond"
        assert self.names(delivery_system, limit=1) == found

    def test_can_be_that_of_a_subscription(self, delivery_system: System, several: dict[str, Any]) -> None:
        assert self.names(delivery_system, subscription=several["first"]) == several["names"][2::-1]
        assert self.names(delivery_system, subscription=several["first"], limit=1) == several["names"][2::-1]
        assert self.names(delivery_system, subscription=several["second"]) == several["names"][3:]
        assert self.names(delivery_system, subscription=uuid4()) == []

    @pytest.mark.parametrize("alone", [True, False])
    @pytest.mark.parametrize("status", ["delivered", "dead", "retry", "pending", "quarantined"])
    def test_can_be_that_of_a_status(
        self, delivery_system: System, several: dict[str, Any], status: str, alone: bool
    ) -> None:
        every = {delivery["webhook_id"]: delivery["status"] for delivery in delivery_system.list_deliveries()}
        wanted = [name for name in several["names"][:3] if every[name] == status]
        if alone:
            assert self.names(delivery_system, status=status, subscription=several["first"], limit=1) == wanted
        else:
            pending = several["names"][3:] if status == "pending" else []
            assert self.names(delivery_system, status=status, limit=1) == pending + wanted

    def test_can_be_that_of_a_type_or_a_message(self, delivery_system: System, several: dict[str, Any]) -> None:
        assert self.names(delivery_system, type="message.opened") == several["names"][2:3]
        assert self.names(delivery_system, message_id=several["message"]) == several["names"][1:2]
        assert (
            self.names(delivery_system, message_id=several["message"], subscription=several["first"])
            == several["names"][1:2]
        )
        assert self.names(delivery_system, message_id=several["message"], status="pending") == []

    def test_can_be_that_of_a_time(self, delivery_system: System, several: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        assert self.names(delivery_system, until=(now - timedelta(hours=1)).isoformat()) == []
        assert len(self.names(delivery_system, since=(now - timedelta(hours=1)).isoformat())) == 4
        assert (
            len(
                self.names(delivery_system, since=(now - timedelta(hours=1)).isoformat(), subscription=several["first"])
            )
            == 3
        )

    @pytest.mark.parametrize(
        "query",
        [{"status": "lost"}, {"subscription": "x"}, {"message_id": "x"}, {"since": "yesterday"}, {"colour": "red"}],
    )
    def test_refuses_what_it_does_not_know(self, delivery_system: System, query: dict[str, str]) -> None:
        assert delivery_system.call("GET", "/v1/deliveries", **query).status_code == 422

    @pytest.mark.parametrize("cursor", ["x", "WyJ4Il0", "WyI5OTk5OTk5OTk5OTk5OTk5OTk5OTkiLDEsInh4Il0"])
    def test_refuses_a_cursor_that_is_none(self, delivery_system: System, several: dict[str, Any], cursor: str) -> None:
        for query in ({}, {"subscription": several["first"]}):
            assert delivery_system.call("GET", "/v1/deliveries", cursor=cursor, **query).status_code == 400


def test_a_tenants_key_sees_and_changes_only_what_is_its_own(delivery_system: System, sink: HttpSink) -> None:
    made = {tenant: delivery_system.create_subscription(sink.url, tenant=tenant) for tenant in ("acme", "other")}
    for tenant in made:
        delivery_system.log_change(data={"tenant": tenant})
    delivery_system.deliver()
    theirs = delivery_system.get_delivery(subscription=made["other"]["id"])
    with delivery_system.engine.begin() as connection:
        delivery_system.key = create_key(connection, "acme", Scope.WRITE, "acme").secret
    assert [item["id"] for item in delivery_system.list_items("/v1/subscriptions")] == [made["acme"]["id"]]
    assert delivery_system.get_delivery()["subscription"] == made["acme"]["id"]
    assert delivery_system.list_deliveries(subscription=made["other"]["id"]) == []
    for method, path in (
        ("GET", f"/v1/deliveries/{theirs['id']}"),
        ("GET", f"/v1/deliveries/{theirs['id']}/attempts"),
        ("POST", f"/v1/deliveries/{theirs['id']}/replay"),
        ("GET", f"/v1/subscriptions/{made['other']['id']}"),
        ("DELETE", f"/v1/subscriptions/{made['other']['id']}"),
        ("POST", f"/v1/subscriptions/{made['other']['id']}/pause"),
        ("POST", f"/v1/subscriptions/{made['other']['id']}/resume"),
        ("POST", f"/v1/subscriptions/{made['other']['id']}/test"),
    ):
        assert delivery_system.call(method, path).status_code == 404, path
    assert delivery_system.create_subscription(sink.url)["tenant"] == "acme"
    body, path = {"url": sink.url, "types": ["*"], "tenant": "other"}, f"/v1/subscriptions/{made['acme']['id']}"
    assert delivery_system.call("POST", "/v1/subscriptions", body).status_code == 403
    for wish in ("acme", "other", None):
        assert delivery_system.call("PATCH", path, {"tenant": wish}).status_code == 422


def test_answers_have_exactly_the_documented_fields(delivery_system: System, sink: HttpSink) -> None:
    from tests.api.test_openapi import agrees

    made = delivery_system.create_subscription(sink.url, headers={"X-A": "1"})
    delivery_system.log_change()
    delivery_system.deliver()
    delivery = whole(delivery_system, delivery_system.get_delivery())
    trial = delivery_system.call("POST", f"/v1/subscriptions/{made['id']}/test").get_json()
    schemas = delivery_system.client.get("/openapi.json").get_json()["components"]["schemas"]
    for name, value in {
        "SubscriptionWithSecret": made,
        "Subscription": delivery_system.get(f"/v1/subscriptions/{made['id']}"),
        "Delivery": delivery_system.get_delivery(),
        "WholeDelivery": delivery,
        "Attempt": attempts(delivery_system, delivery)[0],
        "SubscriptionTrial": trial,
    }.items():
        agrees(value, schemas[name], schemas)


def test_ids_are_uuids_of_version_7(delivery_system: System, sink: HttpSink) -> None:
    made = delivery_system.create_subscription(sink.url)
    delivery_system.log_change()
    delivery_system.deliver()
    assert {UUID(made["id"]).version, UUID(delivery_system.get_delivery()["id"]).version} == {7}
