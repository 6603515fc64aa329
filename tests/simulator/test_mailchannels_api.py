"""MailChannels' API answers as its documentation says."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simulator import post
from simulator.providers.api.suppression_list import SOURCES
from simulator.providers.mailchannels.api import AfterResend, MailChannelsAccount
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.scenarios import SCENARIOS
from simulator.server import ProviderServer
from simulator.staging import stage
from tests.simulator.test_dialects import check_mailchannels
from tests.support.simulator_http import Caller, Receiver, make_postings, send_postings

BATCH = {"batch_id", "customer_handle", "webhook", "status", "status_code", "created_at", "event_count"}
NANOSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer({"mc": MailChannels(), "other": MailChannels(handle="other")}) as server:
        yield server


def listed(call: Caller, **query: str | int) -> Any:
    answer = call("GET", "/webhook-batch", **query)
    assert answer.status == 200, answer.content
    assert set(answer.document) == {"webhook_batches"}
    return answer.document["webhook_batches"]


def codes(batches: list[dict[str, Any]]) -> list[int | None]:
    return [batch["status_code"] for batch in batches]


def at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def test_the_base_of_the_api_is_among_the_settings(server: ProviderServer) -> None:
    assert server.settings("mc")["api_base"] == f"{server.url}/mc/tx/v1"


def test_the_key_to_the_api_is_among_the_credentials_and_can_be_chosen() -> None:
    assert MailChannels(api_key="given").credentials()["api_key"] == "given"
    assert MailChannels().credentials()["api_key"] != MailChannels().credentials()["api_key"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/webhook"),
        ("POST", "/webhook"),
        ("DELETE", "/webhook"),
        ("POST", "/webhook/validate"),
        ("GET", "/webhook-batch"),
        ("POST", "/webhook-batch/1/resend"),
        ("GET", "/suppression-list"),
        ("POST", "/suppression-list"),
        ("DELETE", "/suppression-list/recipients/a@b.example"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "wrong"}])
def test_without_the_key_nothing_is_answered(call: Caller, method: str, path: str, headers: dict[str, Any]) -> None:
    answer = Caller(base=call.base, headers=headers)(method, path)
    assert (answer.status, answer.document) == (401, {"errors": ["invalid API key"]})


def test_an_unknown_path_is_404_and_a_wrong_method_405(call: Caller) -> None:
    assert call("GET", "/webhooks").status == 404
    assert call("GET", "/webhook-batch/1").status == 404
    answer = call("PUT", "/webhook")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, POST")
    assert call("GET", "/webhook-batch/1/resend").status == 405
    assert call("POST", "/webhook/public-key").status == 405


def test_a_path_without_a_slug_is_the_first_accounts(server: ProviderServer, call: Caller) -> None:
    assert Caller(base=f"{server.url}/tx/v1", headers=call.headers)("GET", "/webhook").status == 200
    assert Caller(base=f"{server.url}/other/tx/v1", headers=call.headers)("GET", "/webhook").status == 401


def test_calls_are_counted_by_path(server: ProviderServer, call: Caller) -> None:
    call("GET", "/webhook-batch", limit=1)
    call("GET", "/webhook-batch", limit=2)
    assert server.requests == {"/mc/tx/v1/webhook-batch": 2}


class TestEnrolment:
    def test_a_webhook_is_enrolled_listed_and_removed(self, call: Caller, account: MailChannelsAccount) -> None:
        call("DELETE", "/webhook")
        assert call("GET", "/webhook").document == []
        created = call("POST", "/webhook", endpoint="https://hooks.example/a?b=c")
        assert (created.status, created.content) == (201, b"")
        assert call("GET", "/webhook").document == [{"webhook": "https://hooks.example/a?b=c"}]
        deleted = call("DELETE", "/webhook")
        assert (deleted.status, deleted.content, "content-length" in deleted.headers) == (204, b"", False)
        assert account.webhooks == ()

    def test_a_second_enrolment_of_one_url_is_a_conflict(self, call: Caller, receiver: Receiver) -> None:
        assert call("POST", "/webhook", endpoint=receiver.endpoint).status == 409

    @pytest.mark.parametrize("url", ["", "hooks.example", "http://hooks.example/", "https://x/" + "a" * 8000])
    def test_an_invalid_address_is_rejected(self, call: Caller, url: str) -> None:
        assert call("POST", "/webhook", endpoint=url).status == 400

    def test_nothing_is_sent_to_a_url_that_is_not_enrolled(self, account: MailChannelsAccount) -> None:
        with pytest.raises(ValueError, match="No webhook is enrolled"):
            post.send(make_postings(account.dialect, 1), account.dialect, "https://hooks.example/", log=account.log)


class TestValidation:
    def test_a_signed_test_event_goes_to_every_endpoint(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        answer = call("POST", "/webhook/validate", {"request_id": "deploy-smoke-test"})
        assert answer.status == 200
        assert answer.document == {
            "all_passed": True,
            "results": [
                {"result": "passed", "webhook": receiver.endpoint, "response": {"status": 200, "body": "noted"}}
            ],
        }
        [noted] = receiver.calls
        [event] = json.loads(noted.body)
        assert {**event, "timestamp": 0} == {
            "email": "test@mailchannels.com",
            "customer_handle": "acmeco",
            "timestamp": 0,
            "event": "test",
            "request_id": "deploy-smoke-test",
            "smtp_id": "<test_id=@tx.mailchannels.net>",
        }
        headers = {name.title(): value for name, value in noted.headers.items()}
        check_mailchannels(account.dialect, headers, noted.body, account.dialect.key_id)
        assert listed(call) == []

    def test_one_endpoint_that_fails_and_one_that_is_not_there(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        account.enrol("http://127.0.0.1:9/nobody")
        receiver.codes = [503]
        document = call("POST", "/webhook/validate").document
        assert document["all_passed"] is False
        assert [result["result"] for result in document["results"]] == ["failed", "failed"]
        assert [result["response"] for result in document["results"]] == [{"status": 503, "body": "noted"}, None]

    def test_a_long_request_id_is_400_and_no_webhook_404(self, call: Caller) -> None:
        assert call("POST", "/webhook/validate", {"request_id": "x" * 29}).status == 400
        assert call("POST", "/webhook/validate", b"{").status == 400
        call("DELETE", "/webhook")
        assert call("POST", "/webhook/validate").status == 404


class TestBatches:
    def test_a_batch_is_described_by_what_was_sent_and_answered(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        [posting] = send_postings(account, receiver, 503)
        [batch] = listed(call)
        assert set(batch) == BATCH | {"duration"}
        assert batch["customer_handle"] == "acmeco"
        assert batch["webhook"] == receiver.endpoint
        assert (batch["status"], batch["status_code"]) == ("5xx_response", 503)
        assert batch["event_count"] == posting.events == len(json.loads(posting.body))
        assert 2**53 <= batch["batch_id"] < 2**63
        assert NANOSECONDS.fullmatch(batch["created_at"])
        assert batch["duration"]["unit"] == "milliseconds"
        assert isinstance(batch["duration"]["value"], int)

    def test_an_unanswered_batch_has_no_status_code_and_no_duration(
        self, call: Caller, account: MailChannelsAccount
    ) -> None:
        nobody = account.enrol("http://127.0.0.1:9/nobody")
        post.send(make_postings(account.dialect, 1), account.dialect, nobody, log=account.log)
        [batch] = listed(call)
        assert set(batch) == BATCH
        assert (batch["status"], batch["status_code"]) == ("no_response", None)

    def test_forgeries_are_not_among_what_the_provider_sent(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        play = stage(SCENARIOS["forged"], account.dialect, count=20, seed=1, now=datetime.now(UTC))
        post.send(play.postings, account.dialect, receiver.endpoint, log=account.log)
        genuine = [posting for posting in play.postings if not posting.forgery]
        assert 0 < len(listed(call)) == len(genuine) < len(play.postings)

    @pytest.mark.parametrize(
        ("statuses", "found"),
        [
            ("2xx", [200]),
            ("5xx", [503, 500]),
            ("4xx,3xx", [410, 302]),
            ("5xx,no_response", [503, 500]),
            ("1xx,2xx,3xx,4xx,5xx,no_response", [503, 200, 410, 302, 500]),
        ],
    )
    def test_statuses_are_filtered(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount, statuses: str, found: list[int]
    ) -> None:
        send_postings(account, receiver, 500, 302, 410, 200, 503)
        assert codes(listed(call, statuses=statuses)) == found

    def test_the_webhook_is_filtered_by_its_whole_url(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        send_postings(account, receiver, 500)
        assert len(listed(call, webhook=receiver.endpoint)) == 1
        assert listed(call, webhook=receiver.url) == []

    def test_pages_are_cut_by_limit_and_offset_newest_first(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        send_postings(account, receiver, 500, 501, 502, 503, 504)
        assert codes(listed(call, limit=2)) == [504, 503]
        assert codes(listed(call, limit=2, offset=2)) == [502, 501]
        assert codes(listed(call, limit=2, offset=4)) == [500]
        assert listed(call, offset=5) == []

    def test_five_hundred_are_listed_at_most(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        [posting] = make_postings(account.dialect, 1)
        post.send([posting] * 501, account.dialect, receiver.endpoint, log=account.log)
        assert [len(listed(call)), len(listed(call, offset=500))] == [500, 1]

    def test_only_the_last_three_days_are_listed_unless_more_are_asked_for(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        send_postings(account, receiver, 500)
        account.log.age(timedelta(days=2))
        send_postings(account, receiver, 501)
        account.log.age(timedelta(days=2))
        assert codes(listed(call)) == [501]
        assert codes(listed(call, created_after=at(datetime.now(UTC) - timedelta(days=30)))) == [501, 500]

    def test_the_beginning_of_the_range_belongs_to_it_and_the_end_does_not(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        send_postings(account, receiver, 500)
        [delivery] = account.log.failed()
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        account.log.age(delivery.created_at - midnight)
        day, moment, later = f"{midnight:%Y-%m-%d}", at(midnight), at(midnight + timedelta(seconds=1))
        yesterday = f"{midnight - timedelta(days=1):%Y-%m-%d}"
        assert len(listed(call, created_after=day)) == 1
        assert len(listed(call, created_after=moment, created_before=later)) == 1
        assert listed(call, created_after=later) == []
        assert listed(call, created_after=yesterday, created_before=day) == []
        assert listed(call, created_after=yesterday, created_before=moment) == []

    @pytest.mark.parametrize(
        "query",
        [
            {"limit": 0},
            {"limit": 501},
            {"limit": "many"},
            {"offset": -1},
            {"statuses": ""},
            {"statuses": "5xx_response"},
            {"statuses": "5xx,5xx"},
            {"statuses": "2xx,unknown"},
            {"created_after": "yesterday"},
            {"created_after": "2026-02-30"},
            {"created_after": "2026-01-01T00:00:00+00:00"},
            {"created_after": "2026-01-01T00:00:00.5Z"},
            {"created_after": "2026-01-02", "created_before": "2026-01-02"},
            {"created_after": "2026-01-01", "created_before": "2026-02-02"},
            {"created_after": "2020-01-01"},
        ],
    )
    def test_a_query_that_is_not_as_documented_is_400(self, call: Caller, query: dict[str, Any]) -> None:
        answer = call("GET", "/webhook-batch", **query)
        assert answer.status == 400
        [error] = answer.document["errors"]
        assert isinstance(error, str)

    def test_thirty_one_days_are_not_too_long(self, call: Caller) -> None:
        assert listed(call, created_after="2026-01-01", created_before="2026-02-01") == []


class TestResend:
    def test_the_same_body_is_posted_again_with_a_fresh_signature(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        [posting] = send_postings(account, receiver, 503)
        account.dialect.rotate()
        account.log.age(timedelta(days=2))
        [batch] = listed(call)
        answer = call("POST", f"/webhook-batch/{batch['batch_id']}/resend")
        assert answer.status == 200
        first, second = receiver.calls
        assert first.body == second.body == posting.body
        headers = {name.title(): value for name, value in second.headers.items()}
        check_mailchannels(account.dialect, headers, second.body, account.dialect.key_id)
        created = int(re.findall(r"created=(\d+)", second.headers["signature-input"])[0])
        assert abs(created - datetime.now(UTC).timestamp()) < 60

    def test_the_response_contains_the_result(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        send_postings(account, receiver, 503)
        [batch] = listed(call)
        document = call("POST", f"/webhook-batch/{batch['batch_id']}/resend").document
        literal = (
            '{"batch_id":123,"customer_handle":"test","webhook":"https://127.0.0.1/webhooks","status_code":200,'
            '"duration_in_ms":1294,"created_at":"2026-04-10T03:34:27.511881626Z","event_count":2}'
        )
        assert {name: type(value) for name, value in document.items()} == {
            name: type(value) for name, value in json.loads(literal).items()
        }
        for name in ("batch_id", "customer_handle", "webhook", "created_at", "event_count"):
            assert document[name] == batch[name]
        assert document["status_code"] == 200
        assert NANOSECONDS.fullmatch(document["created_at"])

    def test_an_endpoint_that_still_fails_is_200_with_its_code(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        send_postings(account, receiver, 503, 503)
        receiver.codes = [500]
        answer = call("POST", f"/webhook-batch/{listed(call)[0]['batch_id']}/resend")
        assert (answer.status, answer.document["status_code"]) == (200, 500)

    def test_an_endpoint_that_cannot_be_reached_is_200_without_a_code(
        self, call: Caller, account: MailChannelsAccount
    ) -> None:
        nobody = account.enrol("http://127.0.0.1:9/nobody")
        post.send(make_postings(account.dialect, 1), account.dialect, nobody, log=account.log)
        answer = call("POST", f"/webhook-batch/{listed(call)[0]['batch_id']}/resend")
        assert answer.status == 200
        assert (answer.document["status_code"], answer.document["duration_in_ms"]) == (None, None)

    @pytest.mark.parametrize(
        ("after", "found"),
        [
            (AfterResend.SETTLED, [200]),
            (AfterResend.UNCHANGED, [503]),
            (AfterResend.ADDED, [200, 503]),
        ],
    )
    def test_what_the_list_shows_afterwards_can_be_chosen(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount, after: AfterResend, found: list[int]
    ) -> None:
        send_postings(account, receiver, 503)
        account.after_resend = after
        [batch] = listed(call)
        answer = call("POST", f"/webhook-batch/{batch['batch_id']}/resend")
        batches = listed(call)
        assert codes(batches) == found
        assert answer.document["batch_id"] == batches[0]["batch_id"]

    def test_an_id_that_is_none_is_400_and_an_unknown_one_404(self, call: Caller) -> None:
        for bad in ("x", "-1", "1.5", str(2**63)):
            assert call("POST", f"/webhook-batch/{bad}/resend").status == 400
        assert call("POST", "/webhook-batch/123/resend").status == 404

    def test_another_customers_batch_is_404(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount, server: ProviderServer
    ) -> None:
        send_postings(account, receiver, 503)
        other = server.account("other", MailChannelsAccount)
        stranger = Caller(base=server.settings("other")["api_base"], headers={"X-Api-Key": other.dialect.api_key})
        assert stranger("POST", f"/webhook-batch/{listed(call)[0]['batch_id']}/resend").status == 404
        assert len(receiver.calls) == 1

    def test_the_handle_authorizes_a_resend_and_nothing_else(
        self, call: Caller, receiver: Receiver, account: MailChannelsAccount
    ) -> None:
        send_postings(account, receiver, 503)
        by_handle = Caller(base=call.base, headers={"X-Customer-Handle": "acmeco"})
        assert by_handle("POST", f"/webhook-batch/{listed(call)[0]['batch_id']}/resend").status == 200
        assert by_handle("GET", "/webhook-batch").status == 401


class TestSuppressions:
    def test_an_added_entry_is_listed_and_can_be_removed(self, call: Caller) -> None:
        entries = [
            {"recipient": "a@b.example", "suppression_types": ["transactional", "non-transactional"], "notes": "why"},
            {"recipient": "c+d@b.example"},
        ]
        created = call("POST", "/suppression-list", {"suppression_entries": entries, "add_to_sub_accounts": False})
        assert (created.status, created.content) == (201, b"")
        first, second = call("GET", "/suppression-list").document["suppression_list"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.pop("created_at"))
        assert first == {
            "recipient": "a@b.example",
            "source": "api",
            "suppression_types": ["transactional", "non-transactional"],
            "sender": None,
            "notes": "why",
        }
        assert second["suppression_types"] == ["non-transactional"]
        deleted = call("DELETE", "/suppression-list/recipients/c%2Bd%40b.example")
        assert (deleted.status, deleted.content) == (204, b"")
        [left] = call("GET", "/suppression-list").document["suppression_list"]
        assert left["recipient"] == "a@b.example"

    def test_entries_that_exist_refuse_the_whole_request(self, call: Caller, account: MailChannelsAccount) -> None:
        def add(*recipients: str) -> int:
            entries = [{"recipient": recipient} for recipient in recipients]
            return call("POST", "/suppression-list", {"suppression_entries": entries}).status

        assert add("a@b.example") == 201
        assert add("c@b.example", "a@b.example") == 409
        assert add("d@b.example", "d@b.example") == 409
        assert account.suppressions.recipients() == {"a@b.example"}

    def test_a_thousand_entries_are_taken_and_one_more_is_too_large(self, call: Caller) -> None:
        entries = [{"recipient": f"{number}@b.example"} for number in range(1001)]
        assert call("POST", "/suppression-list", {"suppression_entries": entries}).status == 413
        assert call("POST", "/suppression-list", {"suppression_entries": entries[:1000]}).status == 201
        assert len(call("GET", "/suppression-list").document["suppression_list"]) == 1000
        page = call("GET", "/suppression-list", limit=3, offset=998).document["suppression_list"]
        assert [entry["recipient"] for entry in page] == ["998@b.example", "999@b.example"]

    @pytest.mark.parametrize(
        "body",
        [
            b"no json",
            [],
            {},
            {"suppression_entries": []},
            {"suppression_entries": ["a@b.example"]},
            {"suppression_entries": [{"recipient": "nobody"}]},
            {"suppression_entries": [{"recipient": "a" * 250 + "@b.example"}]},
            {"suppression_entries": [{"recipient": "a@b.example", "notes": "x" * 1025}]},
            {"suppression_entries": [{"recipient": "a@b.example", "suppression_types": ["all"]}]},
            {"suppression_entries": [{"recipient": "a@b.example"}], "add_to_sub_accounts": "no"},
        ],
    )
    def test_a_body_that_is_not_as_documented_is_400(self, call: Caller, body: object) -> None:
        assert call("POST", "/suppression-list", body).status == 400

    def test_an_entry_of_each_source_is_found_and_removed_by_it(
        self, call: Caller, account: MailChannelsAccount
    ) -> None:
        for source in SOURCES:
            account.suppressions.put("a@b.example", source)
        account.suppressions.put("c@b.example", "hard_bounce")

        def sources(**query: str) -> list[str]:
            found = call("GET", "/suppression-list", **query).document["suppression_list"]
            return [entry["source"] for entry in found]

        assert sources(recipient="a@b.example") == list(SOURCES)
        assert sources(source="hard_bounce") == ["hard_bounce"] * 2
        call("DELETE", "/suppression-list/recipients/a@b.example")
        assert sources(recipient="a@b.example") == list(SOURCES[1:])
        call("DELETE", "/suppression-list/recipients/a@b.example", source="hard_bounce")
        assert "hard_bounce" not in sources(recipient="a@b.example")
        call("DELETE", "/suppression-list/recipients/a@b.example", source="all")
        assert sources() == ["hard_bounce"]
        assert call("DELETE", "/suppression-list/recipients/a@b.example").status == 204
        assert call("DELETE", "/suppression-list/recipients/a@b.example", source="me").status == 400

    def test_the_list_is_filtered_by_time(self, call: Caller, account: MailChannelsAccount) -> None:
        account.suppressions.put("a@b.example")
        today, tomorrow = datetime.now(UTC), datetime.now(UTC) + timedelta(days=1)
        for query, count in (
            ({"created_after": f"{today:%Y-%m-%d}"}, 1),
            ({"created_after": at(tomorrow)}, 0),
            ({"created_before": f"{today:%Y-%m-%d}"}, 0),
            ({"created_after": "2000-01-01", "created_before": at(tomorrow)}, 1),
        ):
            assert len(call("GET", "/suppression-list", **query).document["suppression_list"]) == count

    @pytest.mark.parametrize(
        "query", [{"limit": 0}, {"limit": 1001}, {"offset": -1}, {"source": "all"}, {"recipient": "x" * 256}]
    )
    def test_a_query_that_is_not_as_documented_is_400(self, call: Caller, query: dict[str, Any]) -> None:
        assert call("GET", "/suppression-list", **query).status == 400
