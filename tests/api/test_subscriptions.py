"""Subscriptions over the API: requests are checked, secrets are shown once, and stored secrets are encrypted."""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from nacl.signing import SigningKey, VerifyKey
from standardwebhooks import Webhook

from shared.auth.keys import Scope, create_key
from shared.errors import InvalidFieldError
from shared.http import standard_webhooks
from shared.subscriptions import service
from tests.support import http_sink
from tests.support.http_sink import HttpSink, Received
from tests.support.system import System

NOWHERE = "http://127.0.0.1:9/hook"
MASK = "••••"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def path(made: dict[str, Any], operation: str = "") -> str:
    return f"/v1/subscriptions/{made['id']}" + (f"/{operation}" if operation else "")


def post(delivery_system: System, made: dict[str, Any], operation: str, body: Any = None, status: int = 200) -> Any:
    answer = delivery_system.call("POST", path(made, operation), {} if body is None else body)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def refused(delivery_system: System, **wishes: Any) -> dict[str, Any]:
    answer = delivery_system.call("POST", "/v1/subscriptions", {"url": NOWHERE, "types": ["*"], **wishes})
    assert answer.status_code == 422, answer.text
    errors: dict[str, Any] = answer.get_json()["errors"]
    return errors


def believed(received: Received, *secrets: str) -> bool:
    for secret in secrets:
        Webhook(secret).verify(received.body, dict(received.headers), json_parse=False)
    return True


class TestMaking:
    def test_needs_a_url_and_types_only(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE, types=("message.*",))
        assert made["secret"].startswith("whsec_")
        assert (made["url"], made["types"], made["state"], made["payload"]) == (
            NOWHERE,
            ["message.*"],
            "active",
            "tidings",
        )
        assert (made["timeout_s"], made["concurrency"], made["ordered"], made["rate_per_second"]) == (
            15,
            10,
            False,
            None,
        )
        assert made["retry_schedule"] == [0, 30, 120, 600, 1800]
        assert made["name"] == "127.0.0.1"
        shown = delivery_system.get(path(made))
        assert shown == {name: value for name, value in made.items() if name not in ("secret", "public_key")}

    def test_keeps_all_that_is_asked_for(self, delivery_system: System) -> None:
        delivery_system.create_source("main")
        wishes: dict[str, Any] = {
            "name": "billing", "sources": ["main"], "tenant": "acme", "recipient_domains": ["example.net"],
            "tags": ["receipt"], "payload": "cloudevents", "timeout_s": 5, "retry_schedule": [1, 2],
            "rate_per_second": 2.5, "concurrency": 3, "ordered": True,
            "include_body_text": True,
        }  # fmt: skip
        made = delivery_system.create_subscription(NOWHERE, **wishes)
        assert {name: made[name] for name in wishes} == wishes

    def test_takes_a_schedule_by_its_name(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE, retry_schedule="standard_webhooks")
        assert made["retry_schedule"][-1] == 86_400

    @pytest.mark.parametrize(
        ("wish", "field"),
        [
            ({"types": ["message.bonced"]}, "types"),
            ({"types": []}, "types"),
            ({"types": "message.*"}, "types"),
            ({"sources": ["nobody"]}, "sources"),
            ({"timeout_s": 31}, "timeout_s"),
            ({"timeout_s": "15"}, "timeout_s"),
            ({"concurrency": 0}, "concurrency"),
            ({"rate_per_second": 0}, "rate_per_second"),
            ({"retry_schedule": "often"}, "retry_schedule"),
            ({"retry_schedule": [1] * 21}, "retry_schedule"),
            ({"payload": "xml"}, "payload"),
            ({"headers": {"Webhook-Id": "1"}}, "headers"),
            ({"headers": {"X-A": "a\r\nb"}}, "headers"),
            ({"headers": {"X-A": 1}}, "headers.X-A.value"),
            ({"recipient_domains": ["a b"]}, "recipient_domains"),
            ({"secret": "whsec_short"}, "secret"),
            ({"scheme": "v2"}, "scheme"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_is_refused_where_a_wish_cannot_be_met(
        self, delivery_system: System, wish: dict[str, Any], field: str
    ) -> None:
        assert list(refused(delivery_system, **wish)) == [field]
        assert delivery_system.list_items("/v1/subscriptions") == []

    @pytest.mark.parametrize(
        "url",
        [
            "http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "http://localhost.invalid/", "ftp://example.com/",
            "https://user:password@example.com/", "hooks.example.com", "", "http://0x7f.1/", "http://2130706433/",
        ],
    )  # fmt: skip
    def test_is_refused_where_deliveries_must_not_go(self, delivery_system: System, url: str) -> None:
        assert list(refused(delivery_system, url=url)) == ["url"]
        made = delivery_system.create_subscription(NOWHERE)
        answer = delivery_system.call("PATCH", path(made), {"url": url})
        assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["url"])

    def test_shows_a_tenant_nothing_internal(self, delivery_system: System) -> None:
        delivery_system.create_source("main")
        with delivery_system.engine.begin() as connection:
            delivery_system.key = create_key(connection, "billing", Scope.WRITE, "acme").secret
        made = [delivery_system.create_subscription(NOWHERE, sources=[name]) for name in ("main", "nowhere")]
        assert delivery_system.call("PATCH", path(made[0]), {"sources": ["elsewhere"]}).status_code == 200

    def test_does_not_reveal_the_addresses_of_a_name(self) -> None:
        with pytest.raises(InvalidFieldError) as caught:
            service.check_url("http://localhost/", ())
        assert "localhost is not a public address" in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
        assert "::1" not in str(caught.value)

    def test_needs_a_key_that_may_write(self, delivery_system: System) -> None:
        with delivery_system.engine.begin() as connection:
            delivery_system.key = create_key(connection, "reader", Scope.READ).secret
        assert delivery_system.call("POST", "/v1/subscriptions", {"url": NOWHERE, "types": ["*"]}).status_code == 403


class TestSecrets:
    def test_are_shown_once(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE, headers={"Authorization": "Bearer hunter2-hunter2"})
        for answer in (delivery_system.call("GET", path(made)), delivery_system.call("GET", "/v1/subscriptions")):
            assert made["secret"] not in answer.text
            assert "hunter2" not in answer.text
        assert made["headers"] == {"Authorization": MASK}

    def test_are_stored_sealed(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE, headers={"Authorization": "Bearer hunter2-hunter2"})
        ((row,),) = delivery_system.execute(
            "SELECT subscriptions::text || encode(secrets, 'escape') FROM subscriptions"
        )
        assert made["secret"] not in row
        assert "hunter2" not in row

    def test_of_a_url_are_hidden_with_its_query(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(f"{NOWHERE}?token=hunter2")
        assert made["url"] == f"{NOWHERE}?{MASK}"

    def test_can_be_given(self, delivery_system: System) -> None:
        given = standard_webhooks.new_secret()
        assert delivery_system.create_subscription(NOWHERE, secret=given)["secret"] == given

    def test_sign_the_sent_bytes(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        name = delivery_system.log_change()
        delivery_system.deliver()
        (received,) = sink.received
        assert believed(received, made["secret"])
        assert received.headers["webhook-id"] == received.headers["idempotency-key"] == received.json["id"] == name

    def test_of_a_private_key_only_the_public_one_is_shown(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url, scheme="v1a")
        assert made["secret"] is None
        assert made["signing"] == [{"scheme": "v1a", "public_key": made["public_key"], "expires_at": None}]
        delivery_system.log_change()
        delivery_system.deliver()
        (received,) = sink.received
        scheme, _, signature = received.headers["webhook-signature"].partition(",")
        signed = f"{received.id}.{received.headers['webhook-timestamp']}.".encode() + received.body
        VerifyKey(b64decode(made["public_key"].removeprefix("whpk_"))).verify(signed, b64decode(signature))
        assert scheme == "v1a"

    def test_of_a_given_private_key_stays_a_secret(self, delivery_system: System) -> None:
        seed = SigningKey.generate()
        made = delivery_system.create_subscription(NOWHERE, secret="whsk_" + b64encode(bytes(seed)).decode())
        assert (made["secret"], made["public_key"]) == (None, "whpk_" + b64encode(bytes(seed.verify_key)).decode())


class TestARotation:
    def test_signs_with_both_while_they_overlap(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        rotated = post(delivery_system, made, "rotate-secret")
        assert rotated["secret"] != made["secret"]
        begin, end = (datetime.now(UTC) + timedelta(hours=hours) for hours in (23, 24))
        ends = [entry["expires_at"] for entry in rotated["signing"]]
        assert ends[0] is None
        assert begin < datetime.fromisoformat(ends[1]) <= end
        delivery_system.log_change()
        delivery_system.deliver()
        assert believed(sink.received[0], made["secret"], rotated["secret"])

    def test_may_leave_nothing_of_a_secret_that_leaked(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        post(delivery_system, made, "rotate-secret")
        rotated = post(delivery_system, made, "rotate-secret", {"overlap_s": 0})
        assert len(rotated["signing"]) == 1
        delivery_system.log_change()
        delivery_system.deliver()
        assert believed(sink.received[0], rotated["secret"])
        assert sink.received[0].headers["webhook-signature"].count("v1,") == 1

    def test_never_lets_an_older_secret_sign_for_longer(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE)
        post(delivery_system, made, "rotate-secret", {"overlap_s": 60})
        rotated = post(delivery_system, made, "rotate-secret", {"overlap_s": 3600})
        soon = datetime.now(UTC) + timedelta(minutes=2)
        assert [datetime.fromisoformat(entry["expires_at"]) < soon for entry in rotated["signing"][1:]] == [False, True]

    def test_may_change_the_scheme(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        rotated = post(delivery_system, made, "rotate-secret", {"scheme": "v1a"})
        assert (rotated["secret"], rotated["public_key"][:5]) == (None, "whpk_")
        delivery_system.log_change()
        delivery_system.deliver()
        assert believed(sink.received[0], made["secret"])
        assert [entry.partition(",")[0] for entry in sink.received[0].headers["webhook-signature"].split()] == [
            "v1a",
            "v1",
        ]

    def test_leaves_ten_old_ones_at_most(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE)
        for _ in range(10):
            post(delivery_system, made, "rotate-secret")
        assert "10 old secrets" in post(delivery_system, made, "rotate-secret", status=409)["detail"]
        assert len(post(delivery_system, made, "rotate-secret", {"overlap_s": 0})["signing"]) == 1

    @pytest.mark.parametrize("overlap", [-1, 7 * 86_400 + 1])
    def test_overlaps_for_a_week_at_most(self, delivery_system: System, overlap: int) -> None:
        post(
            delivery_system,
            delivery_system.create_subscription(NOWHERE),
            "rotate-secret",
            {"overlap_s": overlap},
            status=422,
        )


class TestAChange:
    def test_leaves_omitted_fields_unchanged(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE, headers={"X-A": "1", "X-B": "2"}, tags=["a"])
        answer = delivery_system.call("PATCH", path(made), {"tags": ["b"], "headers": {"x-a": None, "X-C": "3"}})
        changed = answer.get_json()
        assert answer.status_code == 200
        assert (changed["tags"], sorted(changed["headers"]), changed["types"]) == (["b"], ["X-B", "X-C"], ["*"])
        assert changed["version"] == made["version"] + 1

    def test_is_refused_if_somebody_else_was_quicker(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE)
        assert delivery_system.call("PATCH", path(made), {"version": 1, "tags": ["a"]}).status_code == 200
        answer = delivery_system.call("PATCH", path(made), {"version": 1, "tags": ["b"]})
        assert (answer.status_code, "has version 2" in answer.text) == (409, True)

    def test_applies_to_retries(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(f"{sink.url}/old", retry_schedule=[0])
        sink.then(http_sink.answer(500))
        name = delivery_system.log_change()
        sink.always = http_sink.answer(500)
        delivery_system.deliver()
        sink.always = None
        delivery_system.call("PATCH", path(made), {"url": f"{sink.url}/new", "headers": {"X-A": "1"}})
        (delivery,) = delivery_system.list_deliveries()
        delivery_system.call("POST", f"/v1/deliveries/{delivery['id']}/replay")
        delivery_system.deliver()
        assert (sink.received[-1].path, sink.received[-1].headers["x-a"], sink.received[-1].id) == ("/new", "1", name)


class TestPausing:
    def test_lets_new_deliveries_wait(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        paused = post(delivery_system, made, "pause")
        assert (paused["state"], paused["state_reason"]) == ("paused", "paused by TIDINGS_ADMIN_KEY")
        assert post(delivery_system, made, "pause") == paused
        name = delivery_system.log_change()
        delivery_system.deliver()
        assert sink.received == []
        assert post(delivery_system, made, "resume")["state"] == "active"
        delivery_system.deliver()
        assert [received.id for received in sink.received] == [name]

    def test_of_a_disabled_one_is_refused(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE)
        delivery_system.execute("UPDATE subscriptions SET state = 'disabled', state_reason = 'gone'")
        assert "resume it first" in post(delivery_system, made, "pause", status=409)["detail"]


class TestResuming:
    def test_forgets_the_failures_of_a_disabled_one(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        sink.then(http_sink.answer(410))
        delivery_system.log_change()
        delivery_system.deliver()
        disabled = delivery_system.get(path(made))
        assert (disabled["state"], disabled["health"]["failures"]) == ("disabled", 1)
        assert "410" in disabled["state_reason"]
        resumed = post(delivery_system, made, "resume")
        assert (resumed["state"], resumed["state_reason"], resumed["health"]["failures"]) == ("active", None, 0)
        assert resumed["health"]["last_error"] == "answered 410"
        name = delivery_system.log_change()
        delivery_system.deliver()
        assert sink.received[-1].id == name

    def test_has_an_endpoint_tried_that_was_left_alone(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE)
        delivery_system.execute(
            "INSERT INTO endpoint_health (subscription_id, openings, open_until)"
            " VALUES (%(id)s, 3, now() + interval '1 hour')",
            id=made["id"],
        )
        assert delivery_system.get(path(made))["health"]["open_until"] is not None
        assert post(delivery_system, made, "resume")["health"]["open_until"] is None


class TestATest:
    def test_answers_what_came_back(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url, headers={"Authorization": "hunter2"})
        sink.then(http_sink.answer(201, b"thank you"))
        result = post(delivery_system, made, "test")
        assert (result["status"], result["http_status"]) == ("success", 201)
        assert result["response_capture"]["body"] == "thank you"
        assert result["request_capture"]["headers"]["Authorization"] == MASK
        (received,) = sink.received
        assert believed(received, made["secret"])
        assert received.json["type"] == "test"
        assert received.headers["authorization"] == "hunter2"

    def test_is_no_delivery(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        sink.then(http_sink.answer(500))
        result = post(delivery_system, made, "test")
        assert (result["status"], result["http_status"], result["usually_means"]) == (
            "failed", 500, "Temporary receiver failure.",
        )  # fmt: skip
        delivery_system.deliver()
        assert len(sink.received) == 1
        assert delivery_system.list_deliveries() == []
        assert delivery_system.get(path(made))["health"]["failures"] == 0

    def test_of_an_endpoint_that_is_not_there_says_so(self, delivery_system: System) -> None:
        result = post(delivery_system, delivery_system.create_subscription("http://127.0.0.1:9/"), "test")
        assert (result["status"], result["http_status"], "DNS" in result["next_action"]) == ("failed", 0, True)
        assert result["response_capture"]["network_error"]

    def test_is_sent_as_a_cloud_event_where_that_is_wished(self, delivery_system: System, sink: HttpSink) -> None:
        post(delivery_system, delivery_system.create_subscription(sink.url, payload="cloudevents"), "test")
        (received,) = sink.received
        assert received.headers["content-type"] == "application/cloudevents+json"
        assert (received.json["specversion"], received.json["type"]) == ("1.0", "dev.tidings.test")


class TestRemoving:
    def test_ends_what_waits(self, delivery_system: System, sink: HttpSink) -> None:
        made = delivery_system.create_subscription(sink.url)
        post(delivery_system, made, "pause")
        delivery_system.log_change()
        delivery_system.deliver()
        assert delivery_system.call("DELETE", path(made)).status_code == 204
        delivery_system.run_jobs()
        delivery = delivery_system.get_delivery()
        assert (delivery["status"], delivery["last_error"]) == ("dead", "the subscription was removed")
        delivery_system.deliver()
        assert sink.received == []
        assert delivery_system.execute("SELECT 1 FROM pending_deliveries") == []
        whole = delivery_system.get(f"/v1/deliveries/{delivery['id']}")
        assert "was removed" in whole["next_action"]
        assert delivery_system.call("POST", f"/v1/deliveries/{delivery['id']}/replay").status_code == 410

    def test_cannot_be_undone_by_cancelling_what_it_started(self, delivery_system: System, sink: HttpSink) -> None:
        with delivery_system.engine.begin() as connection:
            delivery_system.key = create_key(connection, "billing", Scope.WRITE, "acme").secret
        delivery_system.call("DELETE", path(delivery_system.create_subscription(sink.url)))
        (job,) = delivery_system.list_items("/v1/jobs")
        assert delivery_system.call("POST", f"/v1/jobs/{job['id']}/cancel").status_code == 409
        assert delivery_system.get(f"/v1/jobs/{job['id']}")["state"] == "queued"

    def test_forgets_what_was_secret(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE, headers={"X-A": "1"})
        delivery_system.call("DELETE", path(made))
        assert delivery_system.execute("SELECT length(secrets), length(headers) FROM subscriptions") == [(0, 0)]

    def test_leaves_nothing_to_be_done_to_it(self, delivery_system: System) -> None:
        made = delivery_system.create_subscription(NOWHERE)
        delivery_system.call("DELETE", path(made))
        assert delivery_system.list_items("/v1/subscriptions") == []
        for method, operation in OPERATIONS:
            assert delivery_system.call(method, path(made, operation), BODIES.get(operation)).status_code == 404


OPERATIONS = [
    ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "rotate-secret"), ("POST", "pause"), ("POST", "resume"),
    ("POST", "test"), ("POST", "recover"),
]  # fmt: skip
BODIES: dict[str, Any] = {"": {}, "rotate-secret": {}, "recover": {"since": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
def test_an_unknown_subscription_is_not_found(delivery_system: System, method: str, operation: str) -> None:
    answer = delivery_system.call(method, path({"id": uuid4()}, operation), BODIES.get(operation))
    assert answer.status_code == 404


def test_subscriptions_are_listed_the_newest_first(delivery_system: System) -> None:
    made = [delivery_system.create_subscription(NOWHERE, name=str(number))["name"] for number in range(3)]
    assert [item["name"] for item in delivery_system.list_items("/v1/subscriptions", limit=2)] == made[::-1]
    post(delivery_system, delivery_system.list_items("/v1/subscriptions")[0], "pause")
    assert [item["name"] for item in delivery_system.list_items("/v1/subscriptions", state="paused")] == ["2"]


def test_one_whose_secrets_cannot_be_opened_is_shown_with_the_reason(delivery_system: System) -> None:
    made = delivery_system.create_subscription(NOWHERE)
    delivery_system.execute("UPDATE subscriptions SET secrets = 'nonsense'")
    assert "TIDINGS_SECRET_KEYS" in delivery_system.get(path(made))["problem"]
    post(delivery_system, made, "rotate-secret", status=409)
    post(delivery_system, made, "test", status=409)
