"""Ark's API, as its documentation describes it and as the simulator plays it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest

from shared.providers.api.base import (
    INTERACTIVE_RETRIES,
    ApiErrorKind,
    FailedDelivery,
    NewSuppression,
    ProviderApiError,
    Span,
    Webhook,
    is_ours,
)
from shared.providers.api.client import ApiClient
from shared.providers.ark import api_models
from shared.providers.ark.api import ArkClient
from shared.vocabulary import ALL_MAIL, MailType, SuppressionReason
from simulator.connection import Exchange
from simulator.deliveries import Delivery
from simulator.providers.api import faults
from simulator.providers.api.faults import Fault
from simulator.providers.ark.api import ArkAccount
from simulator.providers.ark.webhooks import Ark
from simulator.providers.base import Signed
from simulator.server import ProviderServer
from tests.support.simulator_http import Receiver

EVER = Span(since=datetime.now(UTC) - timedelta(days=2), until=datetime.now(UTC) + timedelta(days=1))
HOOK = Webhook(id="456", url="https://hooks.example/webhooks/x")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def account() -> Iterator[ArkAccount]:
    with ProviderServer({"ark": Ark()}) as server:
        account = server.account("ark", ArkAccount)
        account.base = server.api_base("ark")  # type: ignore[attr-defined]
        yield account


def open_client(account: ArkAccount, tenant_id: str | None) -> ArkClient:
    http = ApiClient(
        provider="Ark",
        slug="x",
        base=account.base,  # type: ignore[attr-defined]
        headers={"Authorization": f"Bearer {account.dialect.api_key}"},
        retries=INTERACTIVE_RETRIES,
        sleep=lambda _: None,
    )
    return ArkClient(http=http, tenant_id=tenant_id, is_ours=partial(is_ours, slug="x", webhook_url=None))


@pytest.fixture(params=["of a tenant", "flat"])
def client(request: pytest.FixtureRequest, account: ArkAccount) -> ArkClient:
    return open_client(account, account.dialect.tenant_id if request.param == "of a tenant" else None)


def fail(account: ArkAccount, url: str, status: int | None = 503, *, at: datetime | None = None) -> Delivery:
    return account.log.record(
        url=url,
        request=Signed({}, b'{"status": "Sent", "message": {"id": 1, "to": "a@x.example"}, "timestamp": 1767225600}'),
        events=1,
        created_at=at or datetime.now(UTC),
        exchange=Exchange(status=status, body=b"", seconds=0.1),
    )


def listed(client: ArkClient, span: Span = EVER) -> list[FailedDelivery]:
    return [one for page in client.failed(span) for one in page]


class TestDocuments:
    @pytest.mark.parametrize(
        "document",
        [
            {"success": True, "data": {"webhooks": [{"id": "456", "url": HOOK.url, "enabled": True}]}, "meta": {}},
            {"data": [{"id": 456, "url": HOOK.url}]},
        ],
    )
    def test_of_webhooks_are_read_in_either_form(self, document: object) -> None:
        assert api_models.read_webhooks(json.dumps(document).encode()) == [HOOK]

    @pytest.mark.parametrize(
        ("status_code", "success", "outcome"),
        [(None, False, "no_response"), (503, False, "5xx"), (200, True, "2xx"), (None, True, "2xx")],
    )
    def test_of_deliveries_name_outcomes(self, status_code: int | None, success: bool, outcome: str) -> None:
        given = {"id": "whr_abc", "timestamp": "2026-01-01T00:00:00.5Z", "statusCode": status_code, "success": success}
        body = json.dumps({"data": [given], "page": 1, "total": 7}).encode()
        assert api_models.read_deliveries(body, HOOK) == (
            [
                FailedDelivery(
                    reference="456/whr_abc",
                    failed_at=datetime(2026, 1, 1, 0, 0, 0, 500000, tzinfo=UTC),
                    outcome=outcome,
                    status_code=status_code,
                    events=1,
                    url=HOOK.url,
                )
            ],
            7,
        )

    @pytest.mark.parametrize("document", [b"", b"{}", b"[]", b'{"data": 5}', b'{"data": [{}]}', b'{"data": [', b"\xff"])
    def test_that_are_odd_are_a_value_error(self, document: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            api_models.read_deliveries(document, HOOK)

    def test_of_a_delivery_show_request_and_response(self) -> None:
        receipt = uuid4()
        answered: list[tuple[object, UUID | None]] = [
            (json.dumps({"receipt": str(receipt)}), receipt),
            ({"receipt": str(receipt)}, receipt),
            ("OK", None),
            ("", None),
            (None, None),
            (5, None),
            ({"receipt": 5}, None),
        ]
        for body, expected in answered:
            document = {"data": {"request": {"payload": {"a": 1}}, "response": {"statusCode": 200, "body": body}}}
            assert api_models.read_exchange(json.dumps(document).encode()) == (expected, b'{"a": 1}')

    def test_of_a_delivery_may_show_the_payload_as_text_or_not_at_all(self) -> None:
        for shown, expected in (('{"a": 1}', b'{"a": 1}'), (None, None)):
            document = {"data": {"request": {"payload": shown}, "response": None}}
            assert api_models.read_exchange(json.dumps(document).encode()) == (None, expected)
        assert api_models.read_exchange(b'{"data": {}}') == (None, None)

    def test_of_a_body_have_the_time_of_the_event(self) -> None:
        bare = {"status": "Sent", "timestamp": 1767225600.25}
        for body in (bare, {"event": "MessageSent", "timestamp": 1999999999, "uuid": "u", "payload": bare}):
            found = api_models.read_contents(json.dumps(body).encode())
            assert found is not None
            assert (found.events, found.latest_at) == (1, datetime(2026, 1, 1, 0, 0, 0, 250000, tzinfo=UTC))
        assert api_models.read_contents(b"[]") is None

    @pytest.mark.parametrize(
        ("word", "reason", "types"),
        [
            ("hard fail", SuppressionReason.HARD_BOUNCE, ALL_MAIL),
            ("Too many soft fails", SuppressionReason.SOFT_BOUNCE, ALL_MAIL),
            ("complaint", SuppressionReason.COMPLAINT, ALL_MAIL),
            ("unsubscribe", SuppressionReason.UNSUBSCRIBE, {MailType.NON_TRANSACTIONAL}),
            ("by hand", SuppressionReason.MANUAL, ALL_MAIL),
            (None, SuppressionReason.MANUAL, ALL_MAIL),
        ],
    )
    def test_of_suppressions_name_reasons_in_our_words(
        self, word: str | None, reason: SuppressionReason, types: frozenset[MailType]
    ) -> None:
        given = {"id": "1", "address": "a@x.example", "reason": word, "createdAt": "2026-01-01T00:00:00.000Z"}
        ((entry,), total) = api_models.read_suppressions(json.dumps({"data": [given], "total": 1}).encode())
        assert (entry.address, entry.reason, entry.types, total) == ("a@x.example", reason, types, 1)


class TestDeliveries:
    def test_that_failed_and_are_ours_are_listed_over_all_pages(
        self, account: ArkAccount, client: ArkClient, receiver: Receiver
    ) -> None:
        ours, others = receiver.endpoint, f"{receiver.url}/webhooks/y"
        webhook_id = account.enrol(ours)
        account.enrol(others)
        wanted = {f"{webhook_id}/{account.delivery_id(fail(account, ours))}" for _ in range(250)}
        fail(account, ours, 200)
        fail(account, others)
        assert {one.reference for one in listed(client)} == wanted

    def test_are_listed_by_the_time_asked_for(self, account: ArkAccount, client: ArkClient, receiver: Receiver) -> None:
        account.enrol(receiver.endpoint)
        now = datetime.now(UTC)
        inside = fail(account, receiver.endpoint, at=now - timedelta(hours=1))
        fail(account, receiver.endpoint, at=now - timedelta(hours=5))
        found = listed(client, Span(since=now - timedelta(hours=2), until=now))
        assert [one.reference.rpartition("/")[2] for one in found] == [account.delivery_id(inside)]

    def test_are_replayed_and_what_was_sent_and_answered_is_looked_up(
        self, account: ArkAccount, client: ArkClient, receiver: Receiver
    ) -> None:
        account.enrol(receiver.endpoint)
        failed = fail(account, receiver.endpoint)
        (delivery,) = listed(client)
        resent = client.resend(delivery)
        assert (resent.status_code, resent.receipt_id) == (200, None)
        assert resent.record not in (None, delivery.reference)
        assert resent.payload is not None
        assert json.loads(resent.payload) == json.loads(failed.request.body)
        sent = client.sent(delivery)
        assert sent is not None
        assert json.loads(sent) == json.loads(failed.request.body)

    def test_that_were_replayed_are_so_though_it_cannot_be_looked_up(
        self, account: ArkAccount, client: ArkClient, receiver: Receiver
    ) -> None:
        account.enrol(receiver.endpoint)
        fail(account, receiver.endpoint)
        (delivery,) = listed(client)
        account.faults.add(faults.failing(500), calls=100, to="GET ")
        resent = client.resend(delivery)
        assert (resent.status_code, resent.payload) == (200, None)

    def test_that_are_not_there_are_gone(self, account: ArkAccount, client: ArkClient, receiver: Receiver) -> None:
        account.enrol(receiver.endpoint)
        fail(account, receiver.endpoint)
        (delivery,) = listed(client)
        with pytest.raises(ProviderApiError) as raised:
            client.resend(replace(delivery, reference=f"{delivery.reference}x"))
        assert raised.value.kind is ApiErrorKind.GONE


class TestWebhooks:
    def test_are_enrolled_once_for_all_events(self, account: ArkAccount, client: ArkClient) -> None:
        assert client.enrol(HOOK.url) is True
        assert client.enrol(HOOK.url) is False
        (webhook,) = account.webhooks.all()
        assert (webhook.url, webhook.all_events, webhook.enabled) == (HOOK.url, True, True)

    def test_that_are_switched_off_are_switched_on(self, account: ArkAccount, client: ArkClient) -> None:
        webhook_id = account.enrol(HOOK.url)
        account.webhooks.change(webhook_id, {"enabled": False})
        assert client.enrol(HOOK.url) is True
        (webhook,) = account.webhooks.all()
        assert webhook.enabled

    def test_are_not_made_twice_where_the_answer_is_lost(self, account: ArkAccount, client: ArkClient) -> None:
        account.faults.add(faults.lost(), to="POST ")
        with pytest.raises(ProviderApiError) as raised:
            client.enrol(HOOK.url)
        assert raised.value.kind is ApiErrorKind.UNREACHABLE
        assert client.enrol(HOOK.url) is False
        assert len(account.webhooks.all()) == 1

    def test_are_removed(self, account: ArkAccount, client: ArkClient) -> None:
        account.enrol(HOOK.url)
        account.enrol("https://other.example/1")
        going = [webhook for webhook in client.webhooks() if webhook.url == HOOK.url]
        client.remove(going)
        client.remove(going)
        assert [webhook.url for webhook in account.webhooks.all()] == ["https://other.example/1"]

    def test_are_tested(self, account: ArkAccount, client: ArkClient, receiver: Receiver) -> None:
        account.enrol(receiver.endpoint)
        (result,) = client.validate(client.webhooks())
        assert result.passed
        receiver.codes = [500]
        (result,) = client.validate(client.webhooks())
        assert not result.passed
        assert "500" in result.detail

    def test_of_another_tenant_are_not_there(self, account: ArkAccount) -> None:
        with pytest.raises(ProviderApiError, match="tenant not found"):
            open_client(account, "tnt/another").webhooks()


class TestSuppressions:
    def test_are_listed_whole(self, account: ArkAccount, client: ArkClient) -> None:
        for number in range(230):
            account.suppressions.put(f"r{number}@x.example", "hard fail")
        assert len([one for page in client.suppressions() for one in page]) == 230

    def test_are_added_one_by_one_in_arks_words(self, account: ArkAccount, client: ArkClient) -> None:
        reasons = {"a@x.example": SuppressionReason.COMPLAINT, "b@x.example": SuppressionReason.MANUAL}
        given = [
            NewSuppression(address=address, types=ALL_MAIL, reason=reason, note="by hand")
            for address, reason in reasons.items()
        ]
        assert list(client.suppress(given)) == [(1, 1), (2, 1)]
        assert {one.address: one.reason for one in account.suppressions.all()} == {
            "a@x.example": "complaint",
            "b@x.example": "by hand",
        }

    def test_are_removed_if_they_are_there(self, account: ArkAccount, client: ArkClient) -> None:
        account.suppressions.put("a+b/c@x.example")
        client.unsuppress("a+b/c@x.example")
        client.unsuppress("a+b/c@x.example")
        assert account.suppressions.all() == []

    def test_that_cannot_be_added_say_why(self, account: ArkAccount, client: ArkClient) -> None:
        account.faults.add(Fault(status=422))
        given = [NewSuppression(address="a@x.example", types=ALL_MAIL, reason=SuppressionReason.MANUAL, note="")]
        with pytest.raises(ProviderApiError, match="422"):
            list(client.suppress(given))
