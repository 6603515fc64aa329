"""SparkPost's API, as its documentation describes it and as the simulator plays it."""

import json
from collections.abc import Iterator

import pytest

from shared.providers.api.base import ApiErrorKind, ProviderApi, ProviderApiError
from shared.providers.sparkpost import api_models
from shared.vocabulary import MailType
from simulator.providers.api import faults
from simulator.providers.sparkpost.api import SparkPostAccount
from simulator.providers.sparkpost.webhooks import SparkPost
from simulator.server import ProviderServer
from tests.support.http_sink import HttpSink, answer, http_sink
from tests.support.management import entry, listed, open_client

OTHER = "https://other.example/1"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """What answers at the webhook's URL."""
    with http_sink() as opened:
        yield opened


@pytest.fixture
def dialect() -> SparkPost:
    return SparkPost()


@pytest.fixture
def account(server: ProviderServer) -> SparkPostAccount:
    return server.account("sparkpost", SparkPostAccount)


class TestWebhooks:
    def test_are_enrolled_once_for_all_events_with_the_password(
        self, account: SparkPostAccount, client: ProviderApi, sink: HttpSink
    ) -> None:
        assert client.webhooks() == []
        assert client.enrol(sink.url) is True
        assert client.enrol(sink.url) is False
        (webhook,) = account.webhooks.values()
        given = account.dialect.credentials()
        assert webhook["auth_credentials"] == {"username": given["username"], "password": given["password"]}
        assert {"injection", "out_of_band", "spam_complaint", "amp_click"} <= set(webhook["events"])
        assert "initial_open" not in webhook["events"]
        assert [one.body for one in sink.received] == [b'[{"msys":{}}]']

    def test_with_a_token_send_it_in_a_header(
        self, server: ProviderServer, account: SparkPostAccount, sink: HttpSink
    ) -> None:
        opened = open_client(server, "sparkpost", username=None, password=None, token=["new", "old"])
        assert opened.enrol(sink.url) is True
        (webhook,) = account.webhooks.values()
        assert webhook["custom_headers"] == {"Authorization": "Bearer new"}

    def test_that_are_off_or_lack_events_are_completed(
        self, account: SparkPostAccount, client: ProviderApi, sink: HttpSink
    ) -> None:
        webhook = account.webhooks[account.enrol(sink.url)]
        webhook |= {"active": False, "events": ["bounce", "initial_open"]}
        assert client.enrol(sink.url) is True
        assert webhook["active"]
        assert {"bounce", "initial_open", "delivery"} <= set(webhook["events"])

    def test_whose_url_does_not_answer_200_are_not_created(
        self, account: SparkPostAccount, client: ProviderApi, sink: HttpSink
    ) -> None:
        sink.then(answer(401))
        with pytest.raises(ProviderApiError, match="POST to target failed: 401"):
            client.enrol(sink.url)
        assert account.webhooks == {}

    def test_are_not_made_twice_where_the_answer_is_lost(
        self, account: SparkPostAccount, client: ProviderApi, sink: HttpSink
    ) -> None:
        account.faults.add(faults.lost(), to="POST ")
        with pytest.raises(ProviderApiError) as raised:
            client.enrol(sink.url)
        assert raised.value.kind is ApiErrorKind.UNREACHABLE
        assert client.enrol(sink.url) is False
        assert len(account.webhooks) == 1

    def test_are_tested_by_an_empty_batch(self, account: SparkPostAccount, client: ProviderApi, sink: HttpSink) -> None:
        account.enrol(sink.url)
        (validation,) = client.validate(client.webhooks())
        assert (validation.url, validation.passed) == (sink.url, True)
        assert validation.detail == "Test POST to target URI returned HTTP status code 200"
        sink.then(answer(503))
        (validation,) = client.validate(client.webhooks())
        assert not validation.passed
        assert "503" in validation.detail

    def test_are_removed_if_they_are_there(self, account: SparkPostAccount, client: ProviderApi) -> None:
        account.enrol("https://hooks.example/webhooks/sparkpost")
        account.enrol(OTHER)
        going = [webhook for webhook in client.webhooks() if webhook.url != OTHER]
        client.remove(going)
        client.remove(going)
        assert [webhook["target"] for webhook in account.webhooks.values()] == [OTHER]

    def test_need_the_key(self, server: ProviderServer) -> None:
        with pytest.raises(ProviderApiError, match="rejected the `api_key` of the source sparkpost"):
            open_client(server, "sparkpost", api_key="guess").webhooks()


class TestSuppressions:
    def test_have_a_reason_and_a_type_each_but_for_mailing_lists(
        self, account: SparkPostAccount, client: ProviderApi
    ) -> None:
        for number, word in enumerate(api_models.SOURCES):
            account.put(f"r{number}@x.example", word)
        account.put("half@x.example", "Unsubscribe Link", ["non_transactional"])
        account.put("list@x.example", "Unsubscribe Link", list_id="news.x.example")
        found = listed(client)
        assert {reason for reason, _ in found.values()} == {"hard_bounce", "complaint", "unsubscribe", "manual"}
        assert found["r0@x.example"] == ("hard_bounce", "Bounce Rule")
        assert "list@x.example" not in found
        types = [one.types for page in client.suppressions() for one in page if one.address == "half@x.example"]
        assert types == [{MailType.NON_TRANSACTIONAL}]
        assert all(one.created_at for page in client.suppressions() for one in page)

    def test_are_listed_whole(self, account: SparkPostAccount, client: ProviderApi) -> None:
        for number in range(1030):
            account.put(f"r{number}@x.example")
        pages = list(client.suppressions())
        assert [len(page) for page in pages] == [1000, 1000, 60]
        assert len({one.address for page in pages for one in page}) == 1030

    def test_are_added_for_each_type_of_mail(self, account: SparkPostAccount, client: ProviderApi) -> None:
        given = [entry(f"r{number}@x.example") for number in range(1200)]
        assert list(client.suppress(given)) == [(1000, 1000), (1200, 200)]
        assert len(account.suppressed("transactional")) == len(account.suppressed("non_transactional")) == 1200

    def test_are_removed_for_all_mail(self, account: SparkPostAccount, client: ProviderApi) -> None:
        account.put("a+b@x.example")
        client.unsuppress("a+b@x.example")
        client.unsuppress("a+b@x.example")
        assert not account.suppressed("transactional") | account.suppressed("non_transactional")

    def test_the_next_page_is_that_of_the_link(self) -> None:
        document = {"results": [], "links": [{"href": "/api/v1/suppression-list?cursor=WyI%3D&x=1", "rel": "next"}]}
        assert api_models.read_suppressions(json.dumps(document).encode()).cursor == "WyI="
        document["links"][0]["rel"] = "first"
        assert api_models.read_suppressions(json.dumps(document).encode()).cursor is None

    @pytest.mark.parametrize("document", [b"", b"[]", b'{"results": 5}', b'{"results": [{}]}', b"\xff"])
    def test_that_are_odd_are_a_value_error(self, document: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            api_models.read_suppressions(document)
