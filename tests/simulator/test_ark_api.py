"""Ark's API answers as its documentation says."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simulator import post
from simulator.providers.ark.api import RETRIES, ArkAccount
from simulator.providers.ark.api_samples import EVENTS
from simulator.providers.ark.webhooks import Ark, Form
from simulator.scenarios import SCENARIOS
from simulator.server import ProviderServer
from simulator.staging import stage
from tests.simulator.test_dialects import check_ark
from tests.support.simulator_http import Caller, Receiver, make_postings, send_postings

WEBHOOK = {"id", "uuid", "name", "url", "events", "allEvents", "enabled", "createdAt"}
DELIVERY = {"id", "webhookId", "event", "url", "statusCode", "success", "attempt", "willRetry", "timestamp"}


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer({"ark": Ark(form=Form.ENVELOPED)}) as server:
        yield server


@pytest.fixture
def account(server: ProviderServer) -> ArkAccount:
    return server.account("ark", ArkAccount)


@pytest.fixture
def webhook(account: ArkAccount, receiver: Receiver) -> str:
    """The path of a webhook that is enrolled."""
    return f"/webhooks/{account.enrol(receiver.endpoint)}"


@pytest.fixture(params=["/tenants/tnt_acme", ""], ids=["of a tenant", "flat"])
def call(request: pytest.FixtureRequest, server: ProviderServer, account: ArkAccount) -> Caller:
    """Paths with a tenant and, as in earlier editions, without."""
    base = server.settings("ark")["api_base"] + request.param
    return Caller(base=base, headers={"Authorization": f"Bearer {account.dialect.api_key}"})


def data(call: Caller, method: str, path: str, body: object = None, status: int = 200) -> Any:
    answer = call(method, path, body)
    assert answer.status == status, answer.content
    assert set(answer.document) == {"success", "data", "meta"}
    assert answer.document["success"] is True
    assert re.fullmatch(r"req_\w+", answer.document["meta"]["requestId"])
    return answer.document["data"]


def listed(call: Caller, webhook: str, **query: str | int) -> Any:
    answer = call("GET", f"{webhook}/deliveries", **query)
    assert answer.status == 200, answer.content
    return answer.document["data"]


def test_the_base_of_the_api_is_among_the_settings(server: ProviderServer) -> None:
    assert server.settings("ark")["api_base"] == f"{server.url}/ark/v1"


def test_the_key_to_the_api_and_the_tenant_are_among_the_credentials_and_can_be_chosen() -> None:
    credentials = Ark(api_key="given", tenant_id="tnt_other").credentials()
    assert (credentials["api_key"], credentials["tenant_id"]) == ("given", "tnt_other")
    assert Ark().credentials()["api_key"] != Ark().credentials()["api_key"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"X-Api-Key": "wrong"}])
def test_without_the_key_nothing_is_answered(call: Caller, headers: dict[str, Any]) -> None:
    answer = Caller(base=call.base, headers=headers)("GET", "/webhooks")
    assert answer.status == 401
    assert answer.document["success"] is False
    assert answer.document["error"] == {"code": "unauthorized", "message": "invalid API key"}


def test_an_unknown_path_is_404_and_a_wrong_method_405(call: Caller, webhook: str) -> None:
    assert call("GET", "/nothing").status == 404
    answer = call("PUT", webhook)
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, PATCH")
    assert call("POST", "/suppressions/a@b.example").status == 405


def test_another_tenant_is_404(server: ProviderServer, account: ArkAccount) -> None:
    headers = {"Authorization": f"Bearer {account.dialect.api_key}"}
    call = Caller(base=f"{server.url}/ark/v1/tenants/tnt_other", headers=headers)
    assert call("GET", "/webhooks").status == 404


class TestWebhooks:
    def test_a_webhook_lives_from_creation_to_deletion(self, call: Caller) -> None:
        given = {"name": "Events", "url": "https://hooks.example/ark", "events": ["MessageSent"]}
        created = data(call, "POST", "/webhooks", given, status=201)
        assert set(created) == WEBHOOK
        assert created["id"] == "456"
        assert created == created | given | {"allEvents": False, "enabled": True}
        assert data(call, "GET", "/webhooks/456") == created
        shown = {name: created[name] for name in ("id", "name", "url", "enabled", "events")}
        assert data(call, "GET", "/webhooks") == {"webhooks": [shown]}
        changed = data(call, "PATCH", "/webhooks/456", {"enabled": False, "events": ["MessageHeld"]})
        assert changed == created | {"enabled": False, "events": ["MessageHeld"]}
        assert set(data(call, "DELETE", "/webhooks/456")) == {"message"}
        assert data(call, "GET", "/webhooks") == {"webhooks": []}
        assert call("GET", "/webhooks/456").status == 404

    def test_null_means_not_given(self, call: Caller) -> None:
        given = {"name": "x", "url": "https://x.example", "events": None, "allEvents": None, "enabled": None}
        created = data(call, "POST", "/webhooks", given, status=201)
        assert (created["events"], created["allEvents"], created["enabled"]) == ([], False, True)

    @pytest.mark.parametrize(
        "change",
        [
            {"name": None},
            {"url": "http://hooks.example/"},
            {"url": 1},
            {"events": ["Unheard"]},
            {"events": "MessageSent"},
            {"allEvents": "yes"},
            {"enabled": 1},
        ],
    )
    def test_a_field_that_is_not_as_documented_is_422(self, call: Caller, webhook: str, change: dict[str, Any]) -> None:
        given = {"name": "Events", "url": "https://hooks.example/"}
        assert call("POST", "/webhooks", given | change).status == 422
        assert call("PATCH", webhook, change).status == 422

    @pytest.mark.parametrize("body", [{}, {"name": "x"}, {"url": "https://x.example"}, b"no json", []])
    def test_what_lacks_a_name_or_an_address_is_422(self, call: Caller, body: object) -> None:
        assert call("POST", "/webhooks", body).status == 422

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    def test_an_unknown_webhook_is_404(self, call: Caller, method: str) -> None:
        assert call(method, "/webhooks/1").status == 404


class TestTest:
    @pytest.mark.parametrize("event", EVENTS)
    def test_a_signed_payload_of_each_event_can_be_asked_for(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str, event: str
    ) -> None:
        result = data(call, "POST", f"{webhook}/test", {"event": event})
        assert isinstance(result.pop("duration"), int)
        assert result == {"event": event, "statusCode": 200, "success": True, "body": "noted", "error": None}
        [noted] = receiver.calls
        assert json.loads(noted.body)["event"] == event
        headers = {"X-Ark-Signature": noted.headers["x-ark-signature"]}
        headers["X-Ark-Signature-KID"] = noted.headers["x-ark-signature-kid"]
        check_ark(account.dialect, headers, noted.body, account.dialect.key_id)
        assert listed(call, webhook) == []

    def test_an_unreachable_endpoint_is_reported_in_words(self, call: Caller, account: ArkAccount) -> None:
        webhook = f"/webhooks/{account.enrol('http://127.0.0.1:9/nobody')}"
        result = data(call, "POST", f"{webhook}/test", {"event": "MessageSent"})
        assert (result["success"], result["statusCode"], result["body"]) == (False, None, None)
        assert result["error"]

    def test_an_unknown_event_is_422(self, call: Caller, webhook: str) -> None:
        assert call("POST", f"{webhook}/test", {"event": "Unheard"}).status == 422


class TestDeliveries:
    def test_a_delivery_is_described_by_what_was_sent_and_answered(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        [posting] = send_postings(account, receiver, 503)
        [delivery] = listed(call, webhook)
        assert set(delivery) == DELIVERY
        assert re.fullmatch(r"whr_[0-9a-z]{12}", delivery["id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", delivery["timestamp"])
        assert delivery["event"] == json.loads(posting.body)["event"]
        assert f"/webhooks/{delivery['webhookId']}" == webhook
        assert delivery["url"] == receiver.endpoint
        assert (delivery["statusCode"], delivery["success"]) == (503, False)
        assert (delivery["attempt"], delivery["willRetry"]) == (1, True)

    def test_a_list_says_which_page_it_is(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        send_postings(account, receiver, 500, 501, 502, 503, 504)
        document = call("GET", f"{webhook}/deliveries", page=2, perPage=2).document
        assert set(document) == {"data", "page", "perPage", "total", "totalPages", "meta"}
        assert [document[name] for name in ("page", "perPage", "total", "totalPages")] == [2, 2, 5, 3]
        assert [delivery["statusCode"] for delivery in document["data"]] == [502, 501]
        assert listed(call, webhook, page=4, perPage=2) == []

    def test_thirty_are_listed_unless_more_are_asked_for(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        [posting] = make_postings(account.dialect, 1)
        post.send([posting] * 101, account.dialect, receiver.endpoint, log=account.log)
        assert [len(listed(call, webhook)), len(listed(call, webhook, perPage=100))] == [30, 100]

    def test_outcome_event_and_time_are_filtered(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        send_postings(account, receiver, 200, 500, 410)
        account.log.age(timedelta(hours=1))
        send_postings(account, receiver, 200)
        hour_ago = int(datetime.now(UTC).timestamp()) - 1800
        assert [one["statusCode"] for one in listed(call, webhook, success="false")] == [410, 500]
        assert [one["statusCode"] for one in listed(call, webhook, success="true")] == [200, 200]
        assert [one["statusCode"] for one in listed(call, webhook, before=hour_ago)] == [410, 500, 200]
        assert [one["statusCode"] for one in listed(call, webhook, after=hour_ago)] == [200]
        events = [one["event"] for one in listed(call, webhook)]
        for event in EVENTS:
            assert len(listed(call, webhook, event=event)) == events.count(event)

    @pytest.mark.parametrize(
        "query",
        [
            {"page": 0},
            {"perPage": 0},
            {"perPage": 101},
            {"success": "no"},
            {"event": "Unheard"},
            {"after": "2026-01-01"},
            {"before": -1},
        ],
    )
    def test_a_query_that_is_not_as_documented_is_422(self, call: Caller, webhook: str, query: dict[str, Any]) -> None:
        assert call("GET", f"{webhook}/deliveries", **query).status == 422

    def test_another_webhooks_deliveries_are_not_shown(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        other = f"/webhooks/{account.enrol(f'{receiver.url}/other')}"
        send_postings(account, receiver, 503)
        [delivery] = listed(call, webhook)
        assert listed(call, other) == []
        assert call("GET", f"{other}/deliveries/{delivery['id']}").status == 404
        assert call("POST", f"{other}/deliveries/{delivery['id']}/replay").status == 404

    def test_one_delivery_shows_request_and_response(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        [posting] = send_postings(account, receiver, 503)
        [delivery] = listed(call, webhook)
        detail = data(call, "GET", f"{webhook}/deliveries/{delivery['id']}")
        assert detail == detail | delivery
        assert set(detail) == DELIVERY | {"webhookName", "request", "response"}
        assert detail["request"]["payload"] == json.loads(posting.body)
        assert detail["request"]["headers"]["X-Ark-Signature-KID"] == account.dialect.key_id
        assert detail["response"] == {"statusCode": 503, "body": "noted"}

    @pytest.mark.parametrize("form", Form)
    def test_the_event_is_known_whatever_the_form_of_the_body(self, receiver: Receiver, form: Form) -> None:
        dialect = Ark(form=form)
        with ProviderServer({"ark": dialect}) as server:
            account = server.account("ark", ArkAccount)
            webhook = f"/webhooks/{account.enrol(receiver.endpoint)}"
            play = stage(SCENARIOS["mixed"], dialect, count=40, seed=1, now=datetime.now(UTC))
            post.send(play.postings, dialect, receiver.endpoint, log=account.log)
            headers = {"Authorization": f"Bearer {dialect.api_key}"}
            call = Caller(base=server.settings("ark")["api_base"], headers=headers)
            seen = {one["event"] for page in (1, 2, 3) for one in listed(call, webhook, page=page, perPage=100)}
        assert seen == {*EVENTS, "SendLimitApproaching", "SendLimitExceeded"}


class TestRetries:
    def test_a_failed_delivery_is_tried_again_until_it_is_taken(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        send_postings(account, receiver, 503)
        receiver.codes = [500]
        account.retry()
        account.retry()
        assert account.retry() == []
        assert [(one["attempt"], one["statusCode"], one["willRetry"]) for one in listed(call, webhook)] == [
            (3, 200, False),
            (2, 500, True),
            (1, 503, True),
        ]
        assert len(set(receiver.bodies)) == 1

    def test_the_last_attempt_is_the_last(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        send_postings(account, receiver, 503)
        receiver.codes = [503] * 99
        for _ in range(RETRIES):
            assert len(account.retry()) == 1
        assert account.retry() == []
        assert listed(call, webhook)[0]["willRetry"] is False


class TestReplay:
    def test_the_payload_is_sent_again_with_another_timestamp(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        send_postings(account, receiver, 503)
        account.log.age(timedelta(days=4))
        [delivery] = listed(call, webhook)
        replayed = data(call, "POST", f"{webhook}/deliveries/{delivery['id']}/replay")
        assert isinstance(replayed.pop("duration"), int)
        newest, oldest = listed(call, webhook)
        assert replayed == {
            "success": True,
            "originalDeliveryId": delivery["id"],
            "newDeliveryId": newest["id"],
            "statusCode": 200,
            "timestamp": newest["timestamp"],
        }
        assert oldest == delivery
        first, second = (json.loads(body) for body in receiver.bodies)
        assert second == first | {"timestamp": second["timestamp"]}
        assert abs(second["timestamp"] - datetime.now(UTC).timestamp()) < 60
        noted = receiver.calls[1]
        headers = {"X-Ark-Signature": noted.headers["x-ark-signature"], "X-Ark-Signature-KID": account.dialect.key_id}
        check_ark(account.dialect, headers, noted.body, account.dialect.key_id)

    def test_a_body_without_an_envelope_has_no_timestamp(self) -> None:
        dialect = Ark(form=Form.BARE)
        body = stage(SCENARIOS["happy"], dialect, count=1, seed=1, now=datetime.now(UTC)).postings[0].body
        assert dialect.restamp(body, datetime.now(UTC)) == body

    def test_a_platform_timestamp_stays_whole(self) -> None:
        dialect = Ark(form=Form.PLATFORM)
        now = datetime.now(UTC)
        body = stage(SCENARIOS["happy"], dialect, count=1, seed=1, now=now).postings[0].body
        assert json.loads(dialect.restamp(body, now))["timestamp"] == int(now.timestamp())

    @pytest.mark.parametrize("code", [500, 404])
    def test_a_replay_that_fails_is_not_tried_again(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str, code: int
    ) -> None:
        receiver.codes = [503, code]
        post.send(make_postings(account.dialect, 1), account.dialect, receiver.endpoint, log=account.log)
        [delivery] = listed(call, webhook)
        replayed = data(call, "POST", f"{webhook}/deliveries/{delivery['id']}/replay")
        assert (replayed["success"], replayed["statusCode"]) == (False, code)
        assert [one["willRetry"] for one in listed(call, webhook)] == [False, True]

    def test_an_endpoint_that_cannot_be_reached_has_no_status_code(self, call: Caller, account: ArkAccount) -> None:
        nobody = "http://127.0.0.1:9/nobody"
        webhook = f"/webhooks/{account.enrol(nobody)}"
        post.send(make_postings(account.dialect, 1), account.dialect, nobody, log=account.log)
        [delivery] = listed(call, webhook)
        replayed = data(call, "POST", f"{webhook}/deliveries/{delivery['id']}/replay")
        assert (replayed["success"], replayed["statusCode"]) == (False, None)

    def test_a_replay_goes_to_where_the_webhook_is_now(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        send_postings(account, receiver, 503)
        data(call, "PATCH", webhook, {"url": f"{receiver.url}/moved"})
        [delivery] = listed(call, webhook)
        data(call, "POST", f"{webhook}/deliveries/{delivery['id']}/replay")
        assert [one.path for one in receiver.calls] == ["/webhooks/x", "/moved"]

    def test_a_webhook_that_is_not_enabled_is_422_and_an_unknown_delivery_404(
        self, call: Caller, receiver: Receiver, account: ArkAccount, webhook: str
    ) -> None:
        send_postings(account, receiver, 503)
        [delivery] = listed(call, webhook)
        assert call("POST", f"{webhook}/deliveries/whr_unknown/replay").status == 404
        data(call, "PATCH", webhook, {"enabled": False})
        assert call("POST", f"{webhook}/deliveries/{delivery['id']}/replay").status == 422
        assert len(receiver.calls) == 1


class TestSuppressions:
    def test_an_address_is_added_found_listed_and_removed(self, call: Caller) -> None:
        given = {"address": "a+b@c.example", "reason": "complaint"}
        added = data(call, "POST", "/suppressions", given, status=201)
        assert set(added) == {"id", "address", "reason", "createdAt"}
        assert added == added | given
        assert data(call, "GET", "/suppressions/a%2Bb%40c.example") == {
            "address": "a+b@c.example",
            "suppressed": True,
            "createdAt": added["createdAt"],
            "reason": "complaint",
        }
        page = call("GET", "/suppressions", page=1, perPage=10).document
        assert page["data"] == [added]
        assert [page[name] for name in ("page", "perPage", "total", "totalPages")] == [1, 10, 1, 1]
        assert set(data(call, "DELETE", "/suppressions/a%2Bb%40c.example")) == {"message"}
        not_suppressed = {"address": "a+b@c.example", "suppressed": False}
        assert data(call, "GET", "/suppressions/a%2Bb%40c.example") == not_suppressed
        assert call("DELETE", "/suppressions/a%2Bb%40c.example").status == 404

    def test_an_address_that_is_known_gets_another_reason(self, call: Caller) -> None:
        first = data(call, "POST", "/suppressions", {"address": "a@c.example"}, status=201)
        second = data(call, "POST", "/suppressions", {"address": "a@c.example", "reason": "hard fail"})
        assert second == first | {"reason": "hard fail"}

    def test_many_are_added_at_once_and_counted(self, call: Caller, account: ArkAccount) -> None:
        account.suppressions.put("a@c.example", "hard fail")
        given = [{"address": "a@c.example"}, {"address": "b@c.example", "reason": "x"}, {"address": "nobody"}]
        assert data(call, "POST", "/suppressions/bulk", {"suppressions": given}) == {
            "totalRequested": 3,
            "added": 1,
            "updated": 1,
            "failed": 1,
        }

    @pytest.mark.parametrize("body", [{}, {"address": "nobody"}, {"address": "a@b.example", "reason": 1}, b"{"])
    def test_a_body_that_is_not_as_documented_is_422(self, call: Caller, body: object) -> None:
        assert call("POST", "/suppressions", body).status == 422
