"""Postmark's API, as its documentation describes it and as the simulator plays it."""

import json
from datetime import UTC, datetime

import pytest

from shared.providers.api.base import ApiErrorKind, ProviderApi, ProviderApiError, Span
from shared.providers.postmark import api_models
from simulator.providers.api import faults
from simulator.providers.postmark.api import PostmarkAccount
from simulator.providers.postmark.webhooks import Postmark
from simulator.server import ProviderServer
from tests.support.management import entry, listed, open_client

URL = "https://hooks.example/webhooks/postmark"


@pytest.fixture
def dialect() -> Postmark:
    return Postmark()


@pytest.fixture
def account(server: ProviderServer) -> PostmarkAccount:
    return server.account("postmark", PostmarkAccount)


class TestWebhooks:
    def test_are_enrolled_once_for_all_events_with_the_password(
        self, account: PostmarkAccount, client: ProviderApi
    ) -> None:
        assert client.enrol(URL) is True
        assert client.enrol(URL) is False
        (webhook,) = account.webhooks.values()
        assert all(trigger["Enabled"] for trigger in webhook["Triggers"].values())
        assert webhook["HttpAuth"] == {"Username": "tidings", "Password": account.dialect.credentials()["password"]}

    def test_have_the_headers_of_a_source_without_password(
        self, server: ProviderServer, account: PostmarkAccount
    ) -> None:
        given = {"username": None, "password": None, "headers": {"X-Secret": "s3cret"}}
        assert open_client(server, "postmark", **given).enrol(URL)
        (webhook,) = account.webhooks.values()
        assert (webhook["HttpAuth"], webhook["HttpHeaders"]) == (None, [{"Name": "X-Secret", "Value": "s3cret"}])

    def test_of_another_stream_are_other_webhooks(self, server: ProviderServer, account: PostmarkAccount) -> None:
        account.enrol(URL)
        client = open_client(server, "postmark", message_stream="broadcast")
        assert client.enrol(URL) is True
        assert [webhook["MessageStream"] for webhook in account.webhooks.values()] == ["outbound", "broadcast"]
        assert len(client.webhooks()) == 2

    def test_are_not_made_twice_where_the_answer_is_lost(self, account: PostmarkAccount, client: ProviderApi) -> None:
        account.faults.add(faults.lost(), to="POST ")
        with pytest.raises(ProviderApiError) as raised:
            client.enrol(URL)
        assert raised.value.kind is ApiErrorKind.UNREACHABLE
        assert client.enrol(URL) is False
        assert len(account.webhooks) == 1

    def test_are_removed_if_they_are_there(self, account: PostmarkAccount, client: ProviderApi) -> None:
        account.enrol(URL)
        account.enrol("https://other.example/1")
        going = [webhook for webhook in client.webhooks() if webhook.url == URL]
        client.remove(going)
        client.remove(going)
        assert [webhook["Url"] for webhook in account.webhooks.values()] == ["https://other.example/1"]

    def test_are_shown_without_the_password_in_their_url(self) -> None:
        given = {"ID": 5, "Url": "https://user:pa%40ss@hooks.example/webhooks/pm?x=1"}
        (webhook,) = api_models.read_webhooks(json.dumps({"Webhooks": [given]}).encode())
        assert webhook.url == "https://hooks.example/webhooks/pm?x=1"

    def test_of_a_stream_that_is_not_there_say_so(self, server: ProviderServer) -> None:
        with pytest.raises(ProviderApiError, match="stream was not found"):
            open_client(server, "postmark", message_stream="nowhere").enrol(URL)

    def test_need_the_token(self, server: ProviderServer) -> None:
        with pytest.raises(ProviderApiError, match="rejected the `api_key` of the source postmark") as raised:
            open_client(server, "postmark", api_key="guess").webhooks()
        assert raised.value.kind is ApiErrorKind.DENIED
        with pytest.raises(ProviderApiError, match="has no `api_key`"):
            open_client(server, "postmark", api_key=None)


class TestSuppressions:
    def test_are_listed_with_our_reasons(self, account: PostmarkAccount, client: ProviderApi) -> None:
        account.put("a@x.example")
        account.put("b@x.example", "SpamComplaint")
        account.put("c@x.example", "ManualSuppression", "Recipient")
        account.put("d@x.example", "ManualSuppression", "Customer")
        account.put("e@x.example", stream="broadcast")
        assert listed(client) == {
            "a@x.example": ("hard_bounce", "HardBounce"),
            "b@x.example": ("complaint", "SpamComplaint"),
            "c@x.example": ("unsubscribe", "ManualSuppression"),
            "d@x.example": ("manual", "ManualSuppression"),
        }

    def test_are_added_fifty_at_a_time(self, account: PostmarkAccount, client: ProviderApi) -> None:
        given = [entry(f"r{number}@x.example") for number in range(120)]
        assert list(client.suppress(given)) == [(50, 50), (100, 50), (120, 20)]
        assert len(account.suppressed()) == 120

    def test_that_are_refused_are_named_once_the_others_are_added(
        self, account: PostmarkAccount, client: ProviderApi
    ) -> None:
        steps = client.suppress([entry("nobody"), entry("a@x.example")])
        assert next(steps) == (2, 1)
        with pytest.raises(ProviderApiError, match=r"refused 1 of 2 entries\. nobody: An invalid email address"):
            next(steps)
        assert account.suppressed() == {"a@x.example": "ManualSuppression"}

    def test_are_removed_but_for_those_that_complained(self, account: PostmarkAccount, client: ProviderApi) -> None:
        account.put("a+b@x.example")
        account.put("b@x.example", "SpamComplaint")
        client.unsuppress("a+b@x.example")
        client.unsuppress("a+b@x.example")
        with pytest.raises(ProviderApiError, match="authority") as raised:
            client.unsuppress("b@x.example")
        assert raised.value.kind is ApiErrorKind.OTHER
        assert account.suppressed() == {"b@x.example": "SpamComplaint"}

    @pytest.mark.parametrize(
        "document", [b"", b"{}", b"[]", b'{"Suppressions": 5}', b'{"Suppressions": [{}]}', b"\xff"]
    )
    def test_that_are_odd_are_a_value_error(self, document: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            api_models.read_suppressions(document)


def test_what_the_api_does_not_have_says_so(client: ProviderApi) -> None:
    ever = Span(since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2027, 1, 1, tzinfo=UTC))
    with pytest.raises(ProviderApiError, match="does not list failed webhooks"):
        client.failed(ever)
    with pytest.raises(ProviderApiError, match="sends no test"):
        client.validate(())
