"""Deliveries over the API: what became of each, what was sent and what came back, and having it made again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from standardwebhooks import Webhook

from shared import ids
from shared.auth.keys import Scope, create_key
from tests import sinks
from tests.estate import Estate
from tests.sinks import HttpSink

MASK = "••••"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with sinks.http_sink() as sink:
        yield sink


def whole(estate: Estate, delivery: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = estate.house.get(f"/v1/deliveries/{delivery['id']}")
    return found


def attempts(estate: Estate, delivery: dict[str, Any]) -> list[dict[str, Any]]:
    return estate.house.items(f"/v1/deliveries/{delivery['id']}/attempts")


def replay(estate: Estate, delivery: dict[str, Any], status: int = 202) -> dict[str, Any]:
    answer = estate.house.call("POST", f"/v1/deliveries/{delivery['id']}/replay")
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


class TestADelivery:
    def test_that_was_made_says_so(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url)
        name = estate.change()
        estate.deliver()
        delivery = estate.delivery()
        assert (delivery["status"], delivery["attempts"], delivery["last_http_status"]) == ("delivered", 1, 200)
        assert (delivery["last_error"], delivery["next_attempt_at"]) == (None, None)
        assert (delivery["subscription"], delivery["webhook_id"]) == (made["id"], name)
        assert delivery["type"] == "message.bounced"
        assert delivery["delivered_at"] is not None

    def test_that_failed_for_now_says_when_it_is_tried_again(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url, retry_schedule=[3600])
        sink.then(sinks.answer(503))
        estate.change()
        estate.deliver()
        delivery = estate.delivery()
        assert (delivery["status"], delivery["attempts"], delivery["last_error"]) == ("retry", 1, "answered 503")
        wait = datetime.fromisoformat(delivery["next_attempt_at"]) - datetime.now(UTC)
        assert timedelta(minutes=40) < wait < timedelta(minutes=80)

    def test_shows_what_it_tells_as_feed_and_webhook_do(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url)
        estate.change(data={"key": "value"})
        estate.deliver()
        change = whole(estate, estate.delivery())["change"]
        (entry,) = estate.house.get("/v1/changes")["items"]
        assert change == sink.received[0].json
        assert (change["id"], change["type"], change["timestamp"]) == (entry["id"], entry["type"], entry["timestamp"])

    def test_shows_what_it_tells_in_the_form_that_is_wished_for_now(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url, payload="cloudevents")
        name = estate.change(recipient="ann@example.net")
        estate.deliver()
        event = whole(estate, estate.delivery())["change"]
        assert event == sink.received[0].json
        assert sink.received[0].headers["content-type"] == "application/cloudevents+json"
        assert event["data"]["recipient"] == event["subject"] == "ann@example.net"
        assert {key: event[key] for key in ("specversion", "id", "source", "type", "datacontenttype")} == {
            "specversion": "1.0", "id": name, "source": "/", "type": "dev.tidings.message.bounced",
            "datacontenttype": "application/json",
        }  # fmt: skip
        estate.house.call("PATCH", f"/v1/subscriptions/{made['id']}", {"payload": "tidings"})
        assert whole(estate, estate.delivery())["change"]["id"] == name

    def test_whose_change_is_no_longer_kept_has_nothing_to_tell(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url)
        estate.change()
        estate.deliver()
        estate.house.execute("DELETE FROM state_changes")
        delivery = estate.delivery()
        assert whole(estate, delivery)["change"] is None
        assert "no longer kept" in replay(estate, delivery, status=410)["detail"]


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
    estate: Estate, sink: HttpSink, http_status: int, status: str, words: tuple[str, str]
) -> None:
    estate.subscribe(sink.url, retry_schedule=[3600])
    sink.always = sinks.answer(http_status) if http_status else sinks.hang_up
    estate.change()
    estate.deliver()
    delivery = whole(estate, estate.delivery())
    assert (delivery["status"], delivery["last_http_status"]) == (status, http_status)
    assert words[0] in delivery["usually_means"]
    assert words[1] in delivery["next_action"]
    (attempt,) = attempts(estate, delivery)
    assert attempt["http_status"] == attempt["response_capture"]["status"] == http_status
    assert (attempt["response_capture"]["network_error"] is None) is (http_status != 0)
    assert attempt["status"] == ("success" if status == "delivered" else "failed")


class TestBeforeAnyAttempt:
    @pytest.mark.parametrize(
        ("state", "words"), [("active", "about to be sent"), ("paused", "is paused"), ("disabled", "is disabled")]
    )
    def test_the_subscription_is_what_it_waits_for(self, estate: Estate, state: str, words: str) -> None:
        estate.subscribe("http://127.0.0.1:9")
        estate.change()
        estate.downstream.fan_out()
        estate.house.execute("UPDATE subscriptions SET state = %(state)s", state=state)
        delivery = whole(estate, estate.delivery())
        assert (delivery["status"], delivery["attempts"], delivery["last_http_status"]) == ("pending", 0, None)
        assert words in delivery["usually_means"]
        assert "no attempt" in delivery["latest_attempt_shows"]

    def test_mail_that_is_probably_spam_waits_for_a_person(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url)
        spam(estate)
        estate.deliver()
        delivery = whole(estate, estate.delivery())
        assert (delivery["status"], sink.received) == ("quarantined", [])
        assert "replay the delivery to release it" in delivery["next_action"]


def spam(estate: Estate) -> str:
    """A change that tells of mail with a high spam score."""
    event_id = ids.event_id(ids.receipt_id(datetime.now(UTC)), 0)
    estate.house.source()
    estate.house.execute(
        "INSERT INTO events (id, receipt_id, source_id, key, type, occurred_at, received_at, data, provider_object)"
        " VALUES (%(id)s, %(id)s, 1, %(id)s, 'inbound', now(), now(), %(data)s, '{}')",
        id=event_id,
        data='{"details": {"spam": {"score": 99}}}',
    )
    return estate.change("inbound.received", event_id=event_id, source_id=1)


class TestAnAttempt:
    def test_shows_what_was_sent_and_what_came_back(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(f"{sink.url}/hook?token=hunter2", headers={"Authorization": "hunter2"})
        sink.then(sinks.answer(400, b"no such field", X_Request_Id="7"))
        name = estate.change()
        estate.deliver()
        (attempt,) = attempts(estate, estate.delivery())
        sent, back = attempt["request_capture"], attempt["response_capture"]
        assert (attempt["number"], attempt["http_status"], attempt["latency_ms"] >= 0) == (1, 400, True)
        assert (sent["method"], sent["url"]) == ("POST", f"{sink.url}/hook?{MASK}")
        assert sent["headers"]["webhook-id"] == name
        assert sent["headers"]["webhook-signature"] == sent["headers"]["Authorization"] == MASK
        assert sent["body"].encode() == sink.received[0].body
        assert (back["body"], back["headers"]["x-request-id"]) == ("no such field", "7")
        assert (sent["truncated"], back["truncated"]) == (False, False)
        assert "hunter2" not in str(attempt)

    def test_is_marked_where_it_is_longer_than_what_is_kept(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url)
        sink.then(sinks.answer(400, b"x" * 10_000))
        estate.change(data={"text": "y" * 10_000})
        estate.deliver()
        (attempt,) = attempts(estate, estate.delivery())
        assert (attempt["request_capture"]["truncated"], attempt["response_capture"]["truncated"]) == (True, True)
        assert attempt["request_capture"]["original_bytes"] == len(sink.received[0].body)

    def test_is_listed_the_newest_first(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url, retry_schedule=[0, 0])
        sink.then(sinks.answer(500), sinks.answer(502))
        estate.change()
        for _ in range(3):
            estate.deliver()
            estate.downstream.come_due()
        found = attempts(estate, estate.delivery())
        assert [(one["number"], one["http_status"]) for one in found] == [(3, 200), (2, 502), (1, 500)]
        delivery = estate.delivery()
        page = estate.house.get(f"/v1/deliveries/{delivery['id']}/attempts", limit=2)
        rest = estate.house.get(f"/v1/deliveries/{delivery['id']}/attempts", cursor=page["next_cursor"])
        assert page["items"] + rest["items"] == found


class TestAReplay:
    def test_of_a_dead_one_is_an_attempt_like_any_other(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url)
        sink.then(sinks.answer(404))
        name = estate.change()
        estate.deliver()
        dead = estate.delivery(status="dead")
        assert replay(estate, dead)["status"] == "pending"
        estate.deliver()
        delivery = estate.delivery()
        assert (delivery["status"], delivery["attempts"], delivery["last_error"]) == ("delivered", 2, None)
        first, second = sink.received
        assert first.id == second.id == name
        assert first.body == second.body
        Webhook(made["secret"]).verify(second.body, dict(second.headers))

    def test_has_as_many_attempts_as_a_new_one(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url, retry_schedule=[3600])
        sink.always = sinks.answer(500)
        estate.change()
        for _ in range(2):
            estate.deliver()
            estate.downstream.come_due()
        assert estate.delivery()["status"] == "dead"
        replay(estate, estate.delivery())
        estate.deliver()
        assert (estate.delivery()["status"], estate.delivery()["attempts"]) == ("retry", 3)

    def test_of_a_delivered_one_sends_it_again(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url)
        estate.change()
        estate.deliver()
        replay(estate, estate.delivery())
        estate.deliver()
        assert len({received.id for received in sink.received}) == 1
        assert len(sink.received) == 2

    def test_does_not_wait_for_its_time(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url, retry_schedule=[3600])
        sink.then(sinks.answer(500))
        estate.change()
        estate.deliver()
        replay(estate, estate.delivery())
        estate.deliver()
        assert estate.delivery()["status"] == "delivered"

    def test_releases_what_is_quarantined(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url)
        name = spam(estate)
        estate.deliver()
        replay(estate, estate.delivery(status="quarantined"))
        estate.deliver()
        assert [received.id for received in sink.received] == [name]

    def test_waits_while_the_subscription_is_paused(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url)
        estate.change()
        estate.deliver()
        estate.house.call("POST", f"/v1/subscriptions/{made['id']}/pause")
        replay(estate, estate.delivery())
        estate.deliver()
        assert len(sink.received) == 1
        estate.house.call("POST", f"/v1/subscriptions/{made['id']}/resume")
        estate.deliver()
        assert len(sink.received) == 2

    def test_to_a_disabled_subscription_is_refused(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url)
        sink.then(sinks.answer(410))
        estate.change()
        estate.deliver()
        delivery = whole(estate, estate.delivery())
        assert "The subscription is disabled: resume it." in delivery["next_action"]
        assert "resume" in replay(estate, delivery, status=409)["detail"]

    def test_needs_a_key_that_may_write(self, estate: Estate, sink: HttpSink) -> None:
        estate.subscribe(sink.url)
        estate.change()
        estate.deliver()
        delivery = estate.delivery()
        with estate.house.engine.begin() as connection:
            estate.house.key = create_key(connection, "reader", Scope.READ).secret
        assert whole(estate, delivery)["status"] == "delivered"
        replay(estate, delivery, status=403)


@pytest.mark.parametrize("rest", ["", "/attempts", "/replay"])
def test_an_unknown_delivery_is_not_found(estate: Estate, rest: str) -> None:
    method = "POST" if rest == "/replay" else "GET"
    assert estate.house.call(method, f"/v1/deliveries/{uuid4()}{rest}").status_code == 404


class TestTheList:
    @pytest.fixture
    def several(self, estate: Estate, sink: HttpSink) -> dict[str, Any]:
        """Two subscriptions; of the first one delivery is delivered, one dead and one to be retried."""
        first = estate.subscribe(sink.url, ("message.*",), retry_schedule=[3600])
        message = uuid4()
        sink.then(sinks.answer(200), sinks.answer(404), sinks.answer(500))
        names = [estate.change("message.sent"), estate.change("message.bounced", message_id=message)]
        estate.deliver()
        names.append(estate.change("message.opened"))
        estate.deliver()
        second = estate.subscribe(sink.url, ("alert.*",))
        names.append(estate.change("alert.firing"))
        estate.downstream.fan_out()
        return {"first": first["id"], "second": second["id"], "message": str(message), "names": names}

    def names(self, estate: Estate, **query: Any) -> list[str]:
        return [delivery["webhook_id"] for delivery in estate.deliveries(**query)]

    def test_begins_with_what_was_made_last(self, estate: Estate, several: dict[str, Any]) -> None:
        found = self.names(estate)
        assert found[:2] == several["names"][:1:-1]
        assert set(found[2:]) == set(several["names"][:2]), "which may have been made in the same millisecond"
        assert self.names(estate, limit=1) == found

    def test_can_be_that_of_a_subscription(self, estate: Estate, several: dict[str, Any]) -> None:
        assert self.names(estate, subscription=several["first"]) == several["names"][2::-1]
        assert self.names(estate, subscription=several["first"], limit=1) == several["names"][2::-1]
        assert self.names(estate, subscription=several["second"]) == several["names"][3:]
        assert self.names(estate, subscription=uuid4()) == []

    @pytest.mark.parametrize("alone", [True, False])
    @pytest.mark.parametrize("status", ["delivered", "dead", "retry", "pending", "quarantined"])
    def test_can_be_that_of_a_status(self, estate: Estate, several: dict[str, Any], status: str, alone: bool) -> None:
        every = {delivery["webhook_id"]: delivery["status"] for delivery in estate.deliveries()}
        wanted = [name for name in several["names"][:3] if every[name] == status]
        if alone:
            assert self.names(estate, status=status, subscription=several["first"], limit=1) == wanted
        else:
            pending = several["names"][3:] if status == "pending" else []
            assert self.names(estate, status=status, limit=1) == pending + wanted

    def test_can_be_that_of_a_type_or_a_message(self, estate: Estate, several: dict[str, Any]) -> None:
        assert self.names(estate, type="message.opened") == several["names"][2:3]
        assert self.names(estate, message_id=several["message"]) == several["names"][1:2]
        assert self.names(estate, message_id=several["message"], subscription=several["first"]) == several["names"][1:2]
        assert self.names(estate, message_id=several["message"], status="pending") == []

    def test_can_be_that_of_a_time(self, estate: Estate, several: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        assert self.names(estate, until=(now - timedelta(hours=1)).isoformat()) == []
        assert len(self.names(estate, since=(now - timedelta(hours=1)).isoformat())) == 4
        assert len(self.names(estate, since=(now - timedelta(hours=1)).isoformat(), subscription=several["first"])) == 3

    @pytest.mark.parametrize(
        "query",
        [{"status": "lost"}, {"subscription": "x"}, {"message_id": "x"}, {"since": "yesterday"}, {"colour": "red"}],
    )
    def test_refuses_what_it_does_not_know(self, estate: Estate, query: dict[str, str]) -> None:
        assert estate.house.call("GET", "/v1/deliveries", **query).status_code == 422

    @pytest.mark.parametrize("cursor", ["x", "WyJ4Il0", "WyI5OTk5OTk5OTk5OTk5OTk5OTk5OTkiLDEsInh4Il0"])
    def test_refuses_a_cursor_that_is_none(self, estate: Estate, several: dict[str, Any], cursor: str) -> None:
        for query in ({}, {"subscription": several["first"]}):
            assert estate.house.call("GET", "/v1/deliveries", cursor=cursor, **query).status_code == 400


def test_a_tenants_key_sees_and_changes_only_what_is_its_own(estate: Estate, sink: HttpSink) -> None:
    made = {tenant: estate.subscribe(sink.url, tenant=tenant) for tenant in ("acme", "other")}
    for tenant in made:
        estate.change(data={"tenant": tenant})
    estate.deliver()
    theirs = estate.delivery(subscription=made["other"]["id"])
    with estate.house.engine.begin() as connection:
        estate.house.key = create_key(connection, "acme", Scope.WRITE, "acme").secret
    assert [item["id"] for item in estate.house.items("/v1/subscriptions")] == [made["acme"]["id"]]
    assert estate.delivery()["subscription"] == made["acme"]["id"]
    assert estate.deliveries(subscription=made["other"]["id"]) == []
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
        assert estate.house.call(method, path).status_code == 404, path
    assert estate.subscribe(sink.url)["tenant"] == "acme"
    body, path = {"url": sink.url, "types": ["*"], "tenant": "other"}, f"/v1/subscriptions/{made['acme']['id']}"
    assert estate.house.call("POST", "/v1/subscriptions", body).status_code == 403
    for wish in ("acme", "other", None):
        assert estate.house.call("PATCH", path, {"tenant": wish}).status_code == 422


def test_answers_have_exactly_the_documented_fields(estate: Estate, sink: HttpSink) -> None:
    from tests.api.test_openapi import agrees

    made = estate.subscribe(sink.url, headers={"X-A": "1"})
    estate.change()
    estate.deliver()
    delivery = whole(estate, estate.delivery())
    trial = estate.house.call("POST", f"/v1/subscriptions/{made['id']}/test").get_json()
    schemas = estate.house.client.get("/openapi.json").get_json()["components"]["schemas"]
    for name, value in {
        "SubscriptionWithSecret": made,
        "Subscription": estate.house.get(f"/v1/subscriptions/{made['id']}"),
        "Delivery": estate.delivery(),
        "WholeDelivery": delivery,
        "Attempt": attempts(estate, delivery)[0],
        "SubscriptionTrial": trial,
    }.items():
        agrees(value, schemas[name], schemas)


def test_ids_are_uuids_of_version_7(estate: Estate, sink: HttpSink) -> None:
    made = estate.subscribe(sink.url)
    estate.change()
    estate.deliver()
    assert {UUID(made["id"]).version, UUID(estate.delivery()["id"]).version} == {7}
