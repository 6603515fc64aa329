"""SendGrid's API, as its OpenAPI documents describe it and as the simulator plays it."""

import pytest

from shared.providers.api.base import ApiErrorKind, ProviderApi, ProviderApiError
from shared.providers.sendgrid import api_models
from simulator.providers.api import faults
from simulator.providers.sendgrid.api import SendGridAccount
from simulator.providers.sendgrid.webhooks import SendGrid
from simulator.server import ProviderServer
from tests.support.management import entry, listed, open_client

URL = "https://hooks.example/webhooks/sendgrid"


@pytest.fixture
def dialect() -> SendGrid:
    return SendGrid()


@pytest.fixture
def account(server: ProviderServer) -> SendGridAccount:
    return server.account("sendgrid", SendGridAccount)


class TestWebhooks:
    def test_are_enrolled_once_signed_and_for_all_events(self, account: SendGridAccount, client: ProviderApi) -> None:
        assert client.webhooks() == []
        assert client.enrol(URL) is True
        assert client.enrol(URL) is False
        (webhook,) = account.webhooks.values()
        assert all(webhook[name] for name in ("enabled", "processed", "spam_report", "group_resubscribe", "open"))
        assert account.signed == {webhook["id"]}

    def test_that_are_off_or_unsigned_are_switched_on(self, account: SendGridAccount, client: ProviderApi) -> None:
        webhook_id = account.enrol(URL)
        account.webhooks[webhook_id]["enabled"] = False
        account.signed.clear()
        assert client.enrol(URL) is True
        assert account.webhooks[webhook_id]["enabled"]
        assert account.signed == {webhook_id}

    def test_that_are_signed_with_a_key_that_the_source_does_not_have_name_it(
        self, server: ProviderServer, account: SendGridAccount
    ) -> None:
        other = SendGrid().credentials()["public_key"]
        with pytest.raises(ProviderApiError) as raised:
            open_client(server, "sendgrid", public_key=other).enrol(URL)
        assert account.dialect.credentials()["public_key"] in str(raised.value)
        assert "tidings sources rotate sendgrid" in str(raised.value)
        assert len(account.webhooks) == 1

    def test_are_not_made_twice_where_the_answer_is_lost(self, account: SendGridAccount, client: ProviderApi) -> None:
        account.faults.add(faults.lost(), to="POST ")
        with pytest.raises(ProviderApiError) as raised:
            client.enrol(URL)
        assert raised.value.kind is ApiErrorKind.UNREACHABLE
        assert client.enrol(URL) is True, "it was not signed yet"
        assert len(account.webhooks) == 1

    def test_are_removed_if_they_are_there(self, account: SendGridAccount, client: ProviderApi) -> None:
        account.enrol(URL)
        account.enrol("https://other.example/1")
        going = [webhook for webhook in client.webhooks() if webhook.url == URL]
        client.remove(going)
        client.remove(going)
        assert [webhook["url"] for webhook in account.webhooks.values()] == ["https://other.example/1"]

    def test_need_the_key(self, server: ProviderServer) -> None:
        with pytest.raises(ProviderApiError, match="rejected the `api_key` of the source sendgrid"):
            open_client(server, "sendgrid", api_key="guess").webhooks()


class TestSuppressions:
    def test_are_those_of_every_list_but_blocks(self, account: SendGridAccount, client: ProviderApi) -> None:
        for name in ("bounces", "blocks", "spam_reports", "invalid_emails", "unsubscribes"):
            account.put(f"{name}@x.example", name)
        assert listed(client) == {
            "bounces@x.example": ("hard_bounce", "bounces"),
            "spam_reports@x.example": ("complaint", "spam_reports"),
            "invalid_emails@x.example": ("hard_bounce", "invalid_emails"),
            "unsubscribes@x.example": ("unsubscribe", "unsubscribes"),
        }

    def test_are_listed_whole(self, account: SendGridAccount, client: ProviderApi) -> None:
        for number in range(1030):
            account.put(f"r{number}@x.example")
        assert len(listed(client)) == 1030

    def test_are_added_to_the_global_unsubscribes(self, account: SendGridAccount, client: ProviderApi) -> None:
        given = [entry(f"r{number}@x.example") for number in range(1200)]
        assert list(client.suppress(given)) == [(1000, 1000), (1200, 200)]
        assert len(account.suppressed("unsubscribes")) == 1200

    def test_are_removed_from_every_list(self, account: SendGridAccount, client: ProviderApi) -> None:
        for name in ("bounces", "unsubscribes"):
            account.put("a+b@x.example", name)
        client.unsuppress("a+b@x.example")
        client.unsuppress("a+b@x.example")
        assert not account.suppressed("bounces") | account.suppressed("unsubscribes")

    @pytest.mark.parametrize("document", [b"", b"{}", b"[[]]", b'[{"email": 5}]', b"\xff"])
    def test_that_are_odd_are_a_value_error(self, document: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            api_models.read_suppressions(document, "bounces")
