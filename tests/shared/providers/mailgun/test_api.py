"""Mailgun's API, as its documentation describes it and as the simulator plays it."""

import json
from datetime import UTC, datetime

import pytest

from shared.providers.api.base import ProviderApi, ProviderApiError
from shared.providers.mailgun import api_models
from shared.vocabulary import SuppressionReason
from simulator.providers.api import faults
from simulator.providers.mailgun.api import MailgunAccount
from simulator.providers.mailgun.webhooks import Mailgun
from simulator.server import ProviderServer
from tests.support.management import entry, listed, open_client

URL = "https://hooks.example/webhooks/mailgun"
OTHER = "https://other.example/1"


@pytest.fixture
def dialect() -> Mailgun:
    return Mailgun()


@pytest.fixture
def account(server: ProviderServer) -> MailgunAccount:
    return server.account("mailgun", MailgunAccount)


class TestWebhooks:
    def test_are_enrolled_for_all_kinds_beside_those_that_are_there(
        self, account: MailgunAccount, client: ProviderApi
    ) -> None:
        account.urls["opened"] = [OTHER]
        account.urls["clicked"] = [OTHER, URL]
        assert client.enrol(URL) is True
        assert client.enrol(URL) is False
        assert len(account.urls) == 8
        assert account.urls["opened"] == account.urls["clicked"] == [OTHER, URL]
        assert account.urls["temporary_fail"] == [URL]
        assert {webhook.url for webhook in client.webhooks()} == {URL, OTHER}

    def test_are_enrolled_though_an_answer_was_lost(self, account: MailgunAccount, client: ProviderApi) -> None:
        account.faults.add(faults.lost(), to="POST ")
        with pytest.raises(ProviderApiError, match="did not answer"):
            client.enrol(URL)
        assert client.enrol(URL) is True
        assert set(map(tuple, account.urls.values())) == {(URL,)}

    def test_are_removed_without_the_others(self, account: MailgunAccount, client: ProviderApi) -> None:
        account.enrol(URL)
        account.urls["opened"].append(OTHER)
        going = [webhook for webhook in client.webhooks() if webhook.url == URL]
        client.remove(going)
        client.remove(going)
        assert account.urls == {"opened": [OTHER]}

    def test_that_are_too_many_say_why(self, account: MailgunAccount, client: ProviderApi) -> None:
        account.urls["accepted"] = [f"https://other.example/{number}" for number in range(3)]
        with pytest.raises(ProviderApiError, match="3 times"):
            client.enrol(URL)

    def test_need_the_key(self, server: ProviderServer) -> None:
        with pytest.raises(ProviderApiError, match="rejected the `api_key` of the source mailgun"):
            open_client(server, "mailgun", api_key="guess").webhooks()


class TestSuppressions:
    def test_are_those_of_every_list_but_for_some_tags_only(self, account: MailgunAccount, client: ProviderApi) -> None:
        account.put("a@x.example")
        account.put("b@x.example", "complaints")
        account.put("c@x.example", "unsubscribes")
        account.put("d@x.example", "unsubscribes", tags=["news"])
        assert listed(client) == {
            "a@x.example": ("hard_bounce", "bounces"),
            "b@x.example": ("complaint", "complaints"),
            "c@x.example": ("unsubscribe", "unsubscribes"),
        }

    def test_are_listed_whole(self, account: MailgunAccount, client: ProviderApi) -> None:
        for number in range(2030):
            account.put(f"r{number}@x.example")
        assert len(listed(client)) == 2030

    def test_are_added_to_the_list_of_their_reason(self, account: MailgunAccount, client: ProviderApi) -> None:
        given = [entry(f"r{number}@x.example", SuppressionReason.SOFT_BOUNCE) for number in range(1200)]
        given += [entry("c@x.example", SuppressionReason.COMPLAINT), entry("m@x.example")]
        assert list(client.suppress(given)) == [(1000, 1000), (1200, 200), (1201, 1), (1202, 1)]
        assert len(account.suppressed("bounces")) == 1200
        assert account.suppressed("complaints") == {"c@x.example"}
        assert account.suppressed("unsubscribes") == {"m@x.example"}

    def test_are_removed_from_every_list(self, account: MailgunAccount, client: ProviderApi) -> None:
        for name in ("bounces", "unsubscribes"):
            account.put("a+b@x.example", name)
        client.unsuppress("a+b@x.example")
        client.unsuppress("a+b@x.example")
        assert not account.suppressed("bounces") | account.suppressed("unsubscribes")

    def test_have_the_time_and_the_servers_answer(self) -> None:
        given = {"address": "a@x.example", "code": "550", "error": "No such mailbox"}
        given["created_at"] = "Mon, 06 May 2024 18:11:58 UTC"
        page = api_models.read_suppressions(json.dumps({"items": [given]}).encode(), "bounces")
        assert page.next is None
        assert (page.entries[0].note, page.entries[0].created_at) == (
            "No such mailbox",
            datetime(2024, 5, 6, 18, 11, 58, tzinfo=UTC),
        )

    @pytest.mark.parametrize("document", [b"", b"[]", b'{"items": 5}', b'{"items": [{}]}', b"\xff"])
    def test_that_are_odd_are_a_value_error(self, document: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            api_models.read_suppressions(document, "bounces")
