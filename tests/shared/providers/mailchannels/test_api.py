"""MailChannels' API, as its documentation describes it and as the simulator plays it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from shared.providers.api.base import (
    INTERACTIVE_RETRIES,
    ApiErrorKind,
    Contents,
    FailedDelivery,
    NewSuppression,
    ProviderApiError,
    Span,
    Webhook,
    is_ours,
)
from shared.providers.api.client import ApiClient
from shared.providers.mailchannels import api_models
from shared.providers.mailchannels.api import MailChannelsClient
from shared.vocabulary import ALL_MAIL, MailType, SuppressionReason
from simulator.connection import Exchange
from simulator.providers.api import faults
from simulator.providers.api.faults import Fault
from simulator.providers.base import Signed
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.server import ProviderServer
from tests.support.simulator_http import Receiver

# As in the tests of the provider's own SDK: the time has nanoseconds.
RESENT = (
    b'{"batch_id":123,"customer_handle":"test","webhook":"https://127.0.0.1/webhooks","status_code":200,'
    b'"duration_in_ms":1294,"created_at":"2026-04-10T03:34:27.511881626Z","event_count":2}'
)
BATCH = {
    "batch_id": 9007199254740993,
    "customer_handle": "acmeco",
    "webhook": "https://hooks.example/webhooks/x",
    "status": "5xx_response",
    "created_at": "2026-04-10T03:34:27.511881626Z",
    "event_count": 2,
    "duration": {"value": 12, "unit": "milliseconds"},
    "status_code": 503,
    "something": "new",
}
EVER = Span(since=datetime.now(UTC) - timedelta(days=2), until=datetime.now(UTC) + timedelta(days=1))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def account() -> Iterator[MailChannelsAccount]:
    with ProviderServer({"mc": MailChannels()}) as server:
        account = server.account("mc", MailChannelsAccount)
        account.base = server.api_base("mc")  # type: ignore[attr-defined]
        yield account


@pytest.fixture
def client(account: MailChannelsAccount) -> MailChannelsClient:
    return open_client(account, account.dialect.api_key)


def open_client(account: MailChannelsAccount, key: str) -> MailChannelsClient:
    http = ApiClient(
        provider="MailChannels",
        slug="x",
        base=account.base,  # type: ignore[attr-defined]
        headers={"X-Api-Key": key},
        retries=INTERACTIVE_RETRIES,
        sleep=lambda _: None,
    )
    return MailChannelsClient(http=http, is_ours=partial(is_ours, slug="x", webhook_url=None))


def fail(account: MailChannelsAccount, url: str, status: int | None = 503, *, at: datetime | None = None) -> str:
    """A batch that was not taken; its reference."""
    delivery = account.log.record(
        url=url,
        request=Signed({}, b"[]"),
        events=0,
        created_at=at or datetime.now(UTC),
        exchange=Exchange(status=status, body=b"", seconds=0.1),
    )
    return str(delivery.number)


class TestDocuments:
    def test_of_batches_are_read_with_nanoseconds_and_large_ids(self) -> None:
        (batch,) = api_models.read_batches(json.dumps({"webhook_batches": [BATCH]}).encode())
        assert batch == FailedDelivery(
            reference="9007199254740993",
            failed_at=datetime(2026, 4, 10, 3, 34, 27, 511882, tzinfo=UTC),
            outcome="5xx",
            status_code=503,
            events=2,
            url="https://hooks.example/webhooks/x",
        )

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [("4xx_response", "4xx"), ("no_response", "no_response"), ("5xx", "5xx"), ("2xx_response", "2xx")],
    )
    def test_of_batches_name_outcomes_with_or_without_suffix(self, status: str, outcome: str) -> None:
        (batch,) = api_models.read_batches(json.dumps({"webhook_batches": [{**BATCH, "status": status}]}).encode())
        assert batch.outcome == outcome

    def test_of_batches_may_hold_no_more_than_is_required(self) -> None:
        least = {"batch_id": 1, "created_at": "2026-04-10T03:34:27Z"}
        (batch,) = api_models.read_batches(json.dumps({"webhook_batches": [least]}).encode())
        assert (batch.outcome, batch.status_code, batch.events, batch.url) == ("no_response", None, 0, None)

    @pytest.mark.parametrize("document", [b'{"webhook_batches": null}', b'{"webhook_batches": []}'])
    def test_of_no_batches_may_be_null(self, document: bytes) -> None:
        assert api_models.read_batches(document) == []

    @pytest.mark.parametrize(
        "document",
        [
            b"",
            b"[]",
            b"null",
            b'{"webhook_batches": [{}]}',
            b'{"webhook_batches": [{"batch_id": 1, "created_at": "yesterday"}]}',
            b'{"webhook_batches": [{"batch_id": 1, "created_at": "2026-04-10T03:34:27Z", "event_count": -1}]}',
            b'{"webhook_batches": [{"batch_id": 1, "created_at": "2026-04-10T03:34:27Z", "status_code": 1e99}]}',
            b'{"webhook_batches": [{"batch_id": 1, "created_at": "2026-04-10T03:34:27Z", "webhook": "\\u0000"}]}',
            b'{"webhook_batches": [',
            b"\xff\xfe",
        ],
    )
    def test_that_are_odd_are_a_value_error(self, document: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            api_models.read_batches(document)

    def test_of_a_resend_is_read(self) -> None:
        resent = api_models.read_resent(RESENT)
        assert (resent.status_code, resent.record) == (200, "123")

    def test_of_one_body_are_distinguished_by_amount_and_time(self) -> None:
        body = json.dumps([{"event": "open", "timestamp": 1767225600}, {"event": "click", "timestamp": 1767225700}])
        assert api_models.read_contents(body.encode()) == Contents(
            events=2, latest_at=datetime(2026, 1, 1, 0, 1, 40, tzinfo=UTC)
        )

    @pytest.mark.parametrize(
        "body", [b"{}", b"", b"[1]", b"\xff", b'[{"event": "test", "timestamp": 1}]', b"[]", b"[" * 10**6]
    )
    def test_of_a_body_that_is_no_batch_are_none(self, body: bytes) -> None:
        assert api_models.read_contents(body) is None

    def test_of_suppressions_need_only_a_recipient(self) -> None:
        (entry,) = api_models.read_suppressions(b'{"suppression_list": [{"recipient": "x@y.example"}]}')
        assert (entry.address, entry.types, entry.reason) == ("x@y.example", ALL_MAIL, SuppressionReason.MANUAL)

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("hard_bounce", SuppressionReason.HARD_BOUNCE),
            ("spam_complaint", SuppressionReason.COMPLAINT),
            ("unsubscribe_link", SuppressionReason.UNSUBSCRIBE),
            ("list_unsubscribe", SuppressionReason.UNSUBSCRIBE),
            ("api", SuppressionReason.MANUAL),
            ("something new", SuppressionReason.MANUAL),
        ],
    )
    def test_of_suppressions_name_reasons_in_our_words(self, source: str, reason: SuppressionReason) -> None:
        given = {"recipient": "x@y.example", "source": source, "suppression_types": ["non-transactional"]}
        (entry,) = api_models.read_suppressions(json.dumps({"suppression_list": [given]}).encode())
        assert (entry.reason, entry.types) == (reason, frozenset({MailType.NON_TRANSACTIONAL}))


class TestBatches:
    def test_that_failed_and_are_ours_are_listed(
        self, account: MailChannelsAccount, client: MailChannelsClient, receiver: Receiver
    ) -> None:
        ours, others = receiver.endpoint, f"{receiver.url}/webhooks/y"
        account.enrol(ours)
        account.enrol(others)
        wanted = {fail(account, ours, status) for status in (None, 100, 302, 404, 503)}
        fail(account, ours, 200)
        fail(account, others)
        assert {one.reference for page in client.failed(EVER) for one in page} == wanted

    def test_are_listed_by_the_time_asked_for(
        self, account: MailChannelsAccount, client: MailChannelsClient, receiver: Receiver
    ) -> None:
        account.enrol(receiver.endpoint)
        now = datetime.now(UTC)
        inside = fail(account, receiver.endpoint, at=now - timedelta(hours=1))
        fail(account, receiver.endpoint, at=now - timedelta(hours=5))
        span = Span(since=now - timedelta(hours=2, microseconds=1), until=now)
        assert [one.reference for page in client.failed(span) for one in page] == [inside]

    def test_are_asked_for_in_the_other_spelling_where_one_is_refused(
        self, account: MailChannelsAccount, client: MailChannelsClient, receiver: Receiver
    ) -> None:
        account.enrol(receiver.endpoint)
        wanted = fail(account, receiver.endpoint)
        client._suffix = api_models.SUFFIX  # which is refused  # noqa: SLF001
        assert [one.reference for page in client.failed(EVER) for one in page] == [wanted]
        assert client._suffix == ""  # noqa: SLF001

    def test_that_cannot_be_asked_for_say_why(self, account: MailChannelsAccount, client: MailChannelsClient) -> None:
        account.faults.add(Fault(status=400), calls=2)
        with pytest.raises(ProviderApiError, match="400"):
            list(client.failed(EVER))

    def test_are_resent_and_the_receivers_response_is_reported(
        self, account: MailChannelsAccount, client: MailChannelsClient, receiver: Receiver
    ) -> None:
        account.enrol(receiver.endpoint)
        reference = fail(account, receiver.endpoint)
        (batch,) = [one for page in client.failed(EVER) for one in page]
        receiver.codes = [503]
        assert client.resend(batch).status_code == 503
        resent = client.resend(batch)
        assert (resent.status_code, resent.record) == (200, reference)

    @pytest.mark.parametrize("reference", ["1", "no number", "../webhook"])
    def test_that_are_not_there_are_gone(self, client: MailChannelsClient, reference: str) -> None:
        batch = FailedDelivery(
            reference=reference, failed_at=EVER.since, outcome="5xx", status_code=503, events=1, url=None
        )
        with pytest.raises(ProviderApiError) as raised:
            client.resend(batch)
        assert raised.value.kind is ApiErrorKind.GONE


class TestWebhooks:
    URL = "https://hooks.example/webhooks/x?a=b&c=d"

    def test_are_enrolled_once(self, client: MailChannelsClient) -> None:
        assert client.enrol(self.URL) is True
        assert client.enrol(self.URL) is False
        assert client.webhooks() == [Webhook(id=self.URL, url=self.URL)]

    def test_are_enrolled_though_the_answer_was_lost(
        self, account: MailChannelsAccount, client: MailChannelsClient
    ) -> None:
        account.faults.add(faults.lost(), to="POST /webhook")
        assert client.enrol(self.URL) is True
        assert account.webhooks == (self.URL,)

    def test_are_removed_without_the_others(self, account: MailChannelsAccount, client: MailChannelsClient) -> None:
        for url in (self.URL, "https://other.example/1", "https://other.example/2"):
            account.enrol(url)
        client.remove([Webhook(id=self.URL, url=self.URL)])
        assert account.webhooks == ("https://other.example/1", "https://other.example/2")

    def test_that_could_not_be_enrolled_again_are_named(
        self, account: MailChannelsAccount, client: MailChannelsClient
    ) -> None:
        for url in (self.URL, "https://other.example/1", "https://other.example/2"):
            account.enrol(url)
        account.faults.add(faults.failing(500), calls=100, to="POST /webhook")
        with pytest.raises(ProviderApiError, match=r"again.*https://other.example/1, https://other.example/2"):
            client.remove([Webhook(id=self.URL, url=self.URL)])

    @pytest.mark.parametrize("fault", [faults.lost(), faults.failing(502), faults.rate_limited()])
    def test_that_are_perhaps_gone_with_the_others_are_named(
        self, account: MailChannelsAccount, client: MailChannelsClient, fault: Fault
    ) -> None:
        for url in (self.URL, "https://other.example/1", "https://other.example/2"):
            account.enrol(url)
        account.faults.add(fault, calls=100, to="DELETE /webhook")
        with pytest.raises(ProviderApiError, match=r"may have been removed.*https://other.example/1, https://other.ex"):
            client.remove([Webhook(id=self.URL, url=self.URL)])

    def test_are_enrolled_again_although_the_answer_was_lost_and_there_was_nothing_left_to_remove(
        self, account: MailChannelsAccount, client: MailChannelsClient
    ) -> None:
        for url in (self.URL, "https://other.example/1"):
            account.enrol(url)
        account.faults.add(faults.lost(), to="DELETE /webhook")
        account.faults.add(faults.failing(404), to="DELETE /webhook")
        client.remove([Webhook(id=self.URL, url=self.URL)])
        assert account.webhooks == ("https://other.example/1",)

    def test_are_tested_and_what_others_answer_is_left_out(
        self, account: MailChannelsAccount, client: MailChannelsClient, receiver: Receiver
    ) -> None:
        account.enrol(receiver.endpoint)
        account.enrol("http://127.0.0.1:1/other")
        ours = [Webhook(id=receiver.endpoint, url=receiver.endpoint)]
        (result,) = client.validate(ours)
        assert result.passed
        assert "200" in result.detail
        receiver.codes = [401]
        (result,) = client.validate(ours)
        assert not result.passed
        assert "401" in result.detail

    def test_need_the_key(self, account: MailChannelsAccount) -> None:
        with pytest.raises(ProviderApiError, match="api_key") as raised:
            open_client(account, "wrong").webhooks()
        assert raised.value.kind is ApiErrorKind.DENIED


class TestSuppressions:
    def entry(self, address: str, *types: MailType) -> NewSuppression:
        kinds = frozenset(types) or ALL_MAIL
        return NewSuppression(address=address, types=kinds, reason=SuppressionReason.HARD_BOUNCE, note="ü" * 2000)

    def test_are_listed_whole(self, account: MailChannelsAccount, client: MailChannelsClient) -> None:
        for number in range(2500):
            account.suppressions.put(f"r{number}@x.example")
        account.suppressions.put("r0@x.example", "spam_complaint")
        found = [one for page in client.suppressions() for one in page]
        assert len(found) == 2501
        assert {one.reason for one in found if one.address == "r0@x.example"} == {
            SuppressionReason.HARD_BOUNCE,
            SuppressionReason.COMPLAINT,
        }

    def test_are_added_a_thousand_at_a_time(self, client: MailChannelsClient) -> None:
        given = [self.entry(f"r{number}@x.example", MailType.NON_TRANSACTIONAL) for number in range(1001)]
        assert list(client.suppress(given)) == [(1000, 1000), (1001, 1)]
        found = [one for page in client.suppressions() for one in page]
        assert {one.address for one in found} == {entry.address for entry in given}
        assert {one.types for one in found} == {frozenset({MailType.NON_TRANSACTIONAL})}

    def test_that_are_there_already_keep_no_other_from_being_added(
        self, account: MailChannelsAccount, client: MailChannelsClient
    ) -> None:
        """A call is all or nothing, and says 409 for all where one is known."""
        account.suppressions.put("r3@x.example", "api")
        steps = list(client.suppress([self.entry(f"r{number}@x.example") for number in range(8)]))
        assert (steps[-1].done, sum(step.added for step in steps)) == (8, 7)
        assert account.suppressions.recipients() == {f"r{number}@x.example" for number in range(8)}

    def test_are_removed_whatever_put_them_there(
        self, account: MailChannelsAccount, client: MailChannelsClient
    ) -> None:
        account.suppressions.put("a+b/c@x.example")
        client.unsuppress("a+b/c@x.example")
        assert account.suppressions.recipients() == set()
