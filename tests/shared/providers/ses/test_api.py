"""The APIs of SES and SNS, as Amazon's references describe them and as the simulator plays them."""

import pytest

from shared.providers.api.base import ApiErrorKind, ProviderApi, ProviderApiError
from shared.providers.ses import api_models
from shared.vocabulary import SuppressionReason
from simulator.providers.api import faults
from simulator.providers.ses.api import SesAccount
from simulator.providers.ses.webhooks import Ses
from simulator.server import ProviderServer
from tests.support.management import entry, listed, open_client

URL = "https://hooks.example/webhooks/ses"
OTHER = "https://other.example/1"


@pytest.fixture(scope="module")
def dialect() -> Ses:
    return Ses()  # makes an RSA key


@pytest.fixture
def account(server: ProviderServer) -> SesAccount:
    return server.account("ses", SesAccount)


class TestSubscriptions:
    def test_are_made_until_they_are_confirmed(self, account: SesAccount, client: ProviderApi) -> None:
        assert client.webhooks() == []
        assert client.enrol(URL) is True
        assert client.enrol(URL) is True, "SNS asks for the confirmation again"
        assert [(one.url, one.enabled) for one in client.webhooks()] == [(URL, False)]
        account.confirm(URL)
        assert client.enrol(URL) is False
        assert [(one.url, one.enabled) for one in client.webhooks()] == [(URL, True)]

    def test_are_listed_whole(self, account: SesAccount, client: ProviderApi) -> None:
        for number in range(230):
            account.enrol(f"{OTHER}/{number}?a=1&b=2")
        assert len({webhook.url for webhook in client.webhooks()}) == 230

    def test_are_removed_if_they_are_there(self, account: SesAccount, client: ProviderApi) -> None:
        account.enrol(URL)
        account.enrol(OTHER)
        going = [webhook for webhook in client.webhooks() if webhook.url == URL]
        client.remove(going)
        client.remove(going)
        assert [one["Endpoint"] for one in account.subscriptions.values()] == [OTHER]
        client.enrol(URL)
        client.remove([webhook for webhook in client.webhooks() if webhook.url == URL])  # has no ARN yet

    def test_of_topics_in_several_regions_need_a_source_each(self, server: ProviderServer) -> None:
        arns = ["arn:aws:sns:eu-central-1:123456789012:ses-events", "arn:aws:sns:us-east-1:123456789012:ses-events"]
        with pytest.raises(ProviderApiError, match="eu-central-1, us-east-1"):
            open_client(server, "ses", topic_arns=arns)


class TestSuppressions:
    def test_have_one_of_two_reasons_and_a_time(self, account: SesAccount, client: ProviderApi) -> None:
        account.put("a@x.example")
        account.put("b@x.example", "COMPLAINT")
        assert listed(client) == {"a@x.example": ("hard_bounce", "BOUNCE"), "b@x.example": ("complaint", "COMPLAINT")}
        assert all(one.created_at for page in client.suppressions() for one in page)

    def test_are_listed_whole(self, account: SesAccount, client: ProviderApi) -> None:
        for number in range(2030):
            account.put(f"r{number}@x.example")
        assert len(listed(client)) == 2030

    def test_are_added_one_by_one(self, account: SesAccount, client: ProviderApi) -> None:
        account.faults.add(faults.rate_limited(), to="PUT ")
        given = [entry("a b+c@x.example"), entry("c@x.example", SuppressionReason.COMPLAINT)]
        assert list(client.suppress(given)) == [(1, 1), (2, 1)]
        assert account.suppressed() == {"a b+c@x.example": "BOUNCE", "c@x.example": "COMPLAINT"}

    def test_are_removed(self, account: SesAccount, client: ProviderApi) -> None:
        account.put("a+b/c@x.example")
        client.unsuppress("a+b/c@x.example")
        client.unsuppress("a+b/c@x.example")
        assert not account.suppressed()


@pytest.mark.parametrize("wrong", [{"secret_access_key": "guess"}, {"access_key_id": "AKIAOTHER"}])
def test_a_wrong_key_is_named(server: ProviderServer, wrong: dict[str, str]) -> None:
    opened = open_client(server, "ses", **wrong)
    for call in (opened.webhooks, lambda: listed(opened)):
        with pytest.raises(
            ProviderApiError, match="rejected the `access_key_id` and `secret_access_key` of the source"
        ):
            call()


def test_a_source_without_a_key_says_how_to_set_one(server: ProviderServer) -> None:
    with pytest.raises(ProviderApiError) as raised:
        open_client(server, "ses", access_key_id=None, secret_access_key=None)
    assert 'rotate ses --credentials \'{"access_key_id": …, "secret_access_key": …}\'' in str(raised.value)
    assert raised.value.kind is ApiErrorKind.OTHER


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"SuppressedDestinationSummaries": [{}]}', b"\xff"])
def test_an_odd_list_is_a_value_error(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        api_models.read_suppressions(document)


@pytest.mark.parametrize("document", [b"", b"{}", b"<a/>", b"<!DOCTYPE a []><a/>", b"\xff", b"<a><b></a>"])
def test_odd_subscriptions_are_a_value_error(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        api_models.read_subscriptions(document)
