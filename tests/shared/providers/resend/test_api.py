"""Resend's API, as its documentation describes it and as the simulator plays it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.providers.api.base import ApiErrorKind, FailedDelivery, ProviderApi, ProviderApiError, Span
from shared.providers.resend import api_models
from simulator.connection import Exchange
from simulator.providers.api import faults
from simulator.providers.base import Signed
from simulator.providers.resend.api import ResendAccount
from simulator.providers.resend.webhooks import Resend
from simulator.server import ProviderServer
from tests.support.management import entry, listed, open_client
from tests.support.simulator_http import Receiver

NOW = datetime.now(UTC)
EVER = Span(since=NOW - timedelta(days=2), until=NOW + timedelta(days=1))
URL = "https://hooks.example/webhooks/x"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer({"x": Resend()}) as opened:
        yield opened


@pytest.fixture
def account(server: ProviderServer) -> ResendAccount:
    return server.account("x", ResendAccount)


@pytest.fixture
def client(server: ProviderServer) -> ProviderApi:
    return open_client(server, "x")


def post(
    account: ResendAccount, url: str, number: int, status: int | None = 503, *, at: datetime = NOW, attempt: int = 1
) -> None:
    body = json.dumps({"type": "email.sent", "created_at": "2026-01-01T00:00:00.000Z", "data": {"number": number}})
    account.log.record(
        url=url,
        request=Signed(account.dialect.sign(body.encode(), at), body.encode()),
        events=1,
        created_at=at,
        exchange=Exchange(status=status, body=b"", seconds=0.1),
        attempt=attempt,
    )


def failed(client: ProviderApi, span: Span = EVER) -> list[FailedDelivery]:
    return [one for page in client.failed(span) for one in page]


class TestDeliveries:
    def test_that_failed_and_are_ours_are_listed(self, account: ResendAccount, client: ProviderApi) -> None:
        account.enrol(URL)
        account.enrol("https://other.example/1")
        post(account, URL, 1)
        post(account, URL, 2, 200)
        post(account, URL, 3, None, attempt=8)
        post(account, "https://other.example/1", 4)
        found = failed(client)
        assert sorted((one.outcome, one.url) for one in found) == [("attempting", URL), ("failed", URL)]

    def test_are_listed_whole_in_the_span(self, account: ResendAccount, client: ProviderApi) -> None:
        account.enrol(URL)
        for number in range(250):
            post(account, URL, number, at=NOW - timedelta(minutes=number))
        assert len(failed(client)) == 250
        assert len(failed(client, Span(since=NOW - timedelta(minutes=130), until=NOW))) == 130

    def test_are_resent_and_the_receivers_answer_is_reported(
        self, account: ResendAccount, client: ProviderApi, receiver: Receiver
    ) -> None:
        account.enrol(receiver.endpoint)
        post(account, receiver.endpoint, 1)
        (delivery,) = failed(client)
        assert json.loads(client.sent(delivery) or b"") == json.loads(account.log.newest_first()[0].request.body)
        receiver.codes = [503]
        assert client.resend(delivery).status_code == 503
        assert client.resend(delivery).status_code == 200
        assert failed(client) == []

    def test_whose_answer_names_a_receipt_have_it(self) -> None:
        receipt = uuid4()
        given = [{"http_status_code": 200, "response": json.dumps({"receipt": str(receipt)})}, {"http_status_code": 0}]
        first, second = api_models.read_attempts(json.dumps({"data": given}).encode())
        assert (first.status_code, first.receipt_id) == (200, receipt)
        assert (second.status_code, second.receipt_id) == (None, None)

    def test_that_are_not_there_are_gone(self, account: ResendAccount, client: ProviderApi) -> None:
        account.enrol(URL)
        post(account, URL, 1)
        (delivery,) = failed(client)
        with pytest.raises(ProviderApiError) as raised:
            client.resend(replace(delivery, reference=f"{delivery.reference}x"))
        assert raised.value.kind is ApiErrorKind.GONE

    def test_have_the_time_of_the_event(self) -> None:
        found = api_models.read_contents(b'{"type": "email.sent", "created_at": "2026-01-01T00:00:00.250Z"}')
        assert found is not None
        assert (found.events, found.latest_at) == (1, datetime(2026, 1, 1, 0, 0, 0, 250000, tzinfo=UTC))
        assert api_models.read_contents(b"[]") is None


class TestWebhooks:
    def test_are_enrolled_once_for_all_events(self, account: ResendAccount, client: ProviderApi) -> None:
        assert client.enrol(URL) is True
        assert client.enrol(URL) is False
        (webhook,) = account.webhooks.values()
        assert set(webhook["events"]) == set(api_models.EVENTS)

    def test_that_are_off_or_for_few_events_are_fixed(self, account: ResendAccount, client: ProviderApi) -> None:
        webhook_id = account.enrol(URL)
        account.webhooks[webhook_id] |= {"status": "disabled", "events": ["contact.created"]}
        assert client.enrol(URL) is True
        assert account.webhooks[webhook_id]["status"] == "enabled"
        assert set(account.webhooks[webhook_id]["events"]) == {"contact.created", *api_models.EVENTS}

    def test_whose_secret_the_source_does_not_have_say_what_to_do(
        self, server: ProviderServer, account: ResendAccount
    ) -> None:
        with pytest.raises(ProviderApiError, match="tidings sources rotate x") as raised:
            open_client(server, "x", secrets=Resend().credentials()["secrets"]).enrol(URL)
        assert account.dialect.credentials()["secrets"][0] not in str(raised.value)
        assert len(account.webhooks) == 1

    def test_are_not_made_twice_where_the_answer_is_lost(self, account: ResendAccount, client: ProviderApi) -> None:
        account.faults.add(faults.lost(), to="POST ")
        with pytest.raises(ProviderApiError):
            client.enrol(URL)
        assert client.enrol(URL) is False
        assert len(account.webhooks) == 1

    def test_are_removed_if_they_are_there(self, account: ResendAccount, client: ProviderApi) -> None:
        account.enrol(URL)
        account.enrol("https://other.example/1")
        going = [webhook for webhook in client.webhooks() if webhook.url == URL]
        client.remove(going)
        client.remove(going)
        assert [webhook["endpoint"] for webhook in account.webhooks.values()] == ["https://other.example/1"]


class TestSuppressions:
    def test_are_listed_whole_with_our_reasons(self, account: ResendAccount, client: ProviderApi) -> None:
        for number in range(230):
            account.put(f"r{number}@x.example")
        account.put("c@x.example", "complaint")
        account.put("m@x.example", "manual")
        found = listed(client)
        assert len(found) == 232
        assert found["r7@x.example"] == ("hard_bounce", "bounce")
        assert (found["c@x.example"][0], found["m@x.example"][0]) == ("complaint", "manual")
        assert all(one.created_at for page in client.suppressions() for one in page)

    def test_are_added_a_hundred_at_a_time(self, account: ResendAccount, client: ProviderApi) -> None:
        given = [entry(f"r{number}@x.example") for number in range(130)]
        assert list(client.suppress(given)) == [(100, 100), (130, 30)]
        assert set(account.suppressed().values()) == {"manual"}

    def test_are_removed_if_they_are_there(self, account: ResendAccount, client: ProviderApi) -> None:
        account.put("a+b@x.example")
        client.unsuppress("a+b@x.example")
        client.unsuppress("a+b@x.example")
        assert account.suppressed() == {}

    @pytest.mark.parametrize("document", [b"", b"{}", b"[]", b'{"data": 5}', b'{"data": [{}]}', b"\xff"])
    def test_that_are_odd_are_a_value_error(self, document: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            api_models.read_suppressions(document)
