"""Calls of a management API: retried where that may help, and every failure says what to do."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest

from shared.providers.api.base import (
    ApiErrorKind,
    ProviderApiError,
    RetryBudget,
)
from shared.providers.api.client import ApiClient
from simulator.serving import Call, Ending, Response, Server

RETRIES = RetryBudget(tries=3, timeout_seconds=5.0, resend_seconds=5.0, longest_wait_seconds=30.0)
GOOD = Response(status=200, content=b'{"good": true}')


class Provider(Server):
    """Gives the prepared answers, then successful ones."""

    def __init__(self) -> None:
        super().__init__()
        self.responses: list[Response] = []
        self.calls: list[Call] = []

    def answer(self, call: Call) -> Response:
        self.calls.append(call)
        return self.responses.pop(0) if self.responses else GOOD


@dataclass
class Desk:
    """A client that does not wait, and what it would have waited."""

    provider: Provider
    waits: list[float] = field(default_factory=list)

    def client(self, retries: RetryBudget = RETRIES) -> ApiClient:
        return ApiClient(
            provider="MailChannels",
            slug="main",
            base=f"{self.provider.url}/tx/v1",
            headers={"X-Api-Key": "secret"},
            retries=retries,
            sleep=self.waits.append,
            jitter=lambda: 0.5,
        )

    def request(self, *responses: Response, repeatable: bool = True) -> object:
        self.provider.responses = list(responses)
        return self.client().request("POST", "/webhook", json.loads, repeatable=repeatable)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Provider() as provider:
        yield Desk(provider)


def limited(retry_after: str | None = None) -> Response:
    return Response(status=429, headers={} if retry_after is None else {"Retry-After": retry_after})


def test_a_call_is_complete(desk: Desk) -> None:
    body = {"request_id": "ü"}
    assert desk.client().request(
        "POST", "/webhook", json.loads, query={"endpoint": "https://x.example/a?b=c&d"}, body=body
    )
    (call,) = desk.provider.calls
    assert (call.method, call.path) == ("POST", "/tx/v1/webhook")
    assert call.query == {"endpoint": "https://x.example/a?b=c&d"}
    assert json.loads(call.body) == body
    assert call.headers["x-api-key"] == "secret"
    assert call.headers["content-type"] == "application/json"
    assert "expect" not in call.headers


def test_a_post_without_a_body_says_so(desk: Desk) -> None:
    desk.request(GOOD)
    (call,) = desk.provider.calls
    assert call.headers["content-length"] == "0"
    assert "content-type" not in call.headers


@pytest.mark.parametrize(
    "response",
    [
        Response(status=500),
        Response(status=502),
        Response(status=503),
        Response(status=200, content=b'{"good": ', ending=Ending.WHOLE),
        Response(status=200, content=b'{"good": true}', ending=Ending.CUT),
        Response(status=200, ending=Ending.LOST),
    ],
    ids=lambda response: f"{response.status} {response.ending}",
)
def test_a_failure_that_may_pass_is_retried_after_growing_delays(desk: Desk, response: Response) -> None:
    assert desk.request(response, response) == {"good": True}
    assert len(desk.provider.calls) == 3
    assert desk.waits == [0.5, 1.0], "longer each time"


@pytest.mark.parametrize("response", [Response(status=503), Response(status=200, content=b"<html>")])
def test_retries_end_with_the_budget(desk: Desk, response: Response) -> None:
    with pytest.raises(
        ProviderApiError, match=r"MailChannels (answered|sent an unreadable answer to) POST /webhook"
    ) as raised:
        desk.request(response, response, response)
    assert raised.value.kind is ApiErrorKind.UNREACHABLE
    assert len(desk.provider.calls) == 3


def test_a_request_that_may_have_been_performed_is_not_repeated_unless_it_is_repeatable(desk: Desk) -> None:
    with pytest.raises(ProviderApiError) as raised:
        desk.request(Response(status=200, ending=Ending.LOST), repeatable=False)
    assert raised.value.kind is ApiErrorKind.UNREACHABLE
    with pytest.raises(ProviderApiError) as raised:
        desk.request(Response(status=502), repeatable=False)
    assert raised.value.kind is ApiErrorKind.UNREACHABLE
    assert len(desk.provider.calls) == 2
    assert desk.request(limited("1"), repeatable=False) == {"good": True}, "what was refused was not done"


def test_retry_after_is_honoured_in_seconds_and_as_a_date(desk: Desk) -> None:
    desk.request(limited("7"))
    assert desk.waits == [7.25]
    desk.waits.clear()
    desk.request(limited(format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)))
    assert 15 < desk.waits[0] < 21


@pytest.mark.parametrize("text", [None, "", "soon", "-5", "nan", "1e3"])
def test_a_retry_after_that_is_none_is_taken_for_a_short_one(desk: Desk, text: str | None) -> None:
    assert desk.request(limited(text)) == {"good": True}
    assert desk.waits == [0.5]


def test_a_provider_that_is_busy_and_does_not_say_for_how_long_is_left_alone_for_longer_each_time(desk: Desk) -> None:
    assert desk.request(limited(), limited("0")) == {"good": True}
    assert desk.waits == [0.5, 1.0]


def test_retry_after_is_honoured_whatever_is_wrong(desk: Desk) -> None:
    away = Response(status=503, headers={"Retry-After": "7"})
    desk.request(away)
    assert desk.waits == [7.25]
    desk.waits.clear()
    with pytest.raises(ProviderApiError) as raised:
        desk.request(Response(status=503, headers={"Retry-After": "3600"}))
    assert raised.value.kind is ApiErrorKind.UNREACHABLE
    assert raised.value.after_seconds == 3600
    with pytest.raises(ProviderApiError) as raised:
        desk.request(away, repeatable=False)
    assert raised.value.kind is ApiErrorKind.UNREACHABLE
    assert desk.waits == []


def test_a_long_retry_after_is_passed_on_instead_of_waited_for(desk: Desk) -> None:
    with pytest.raises(ProviderApiError) as raised:
        desk.request(limited("3600"))
    assert raised.value.kind is ApiErrorKind.RATE_LIMITED
    assert raised.value.after_seconds == 3600
    assert desk.waits == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_with_what_to_do(desk: Desk, status: int) -> None:
    with pytest.raises(ProviderApiError, match=r"`api_key` of the source main.*tidings sources rotate main") as raised:
        desk.request(Response(status=status))
    assert raised.value.kind is ApiErrorKind.DENIED
    assert len(desk.provider.calls) == 1


def test_not_found_is_distinguished_from_other_errors(desk: Desk) -> None:
    with pytest.raises(ProviderApiError) as raised:
        desk.request(Response(status=404))
    assert raised.value.kind is ApiErrorKind.GONE
    with pytest.raises(ProviderApiError, match="limit must be") as raised:
        desk.request(Response(status=400, content=b'{"errors": ["limit must be\\n1 to 500"]}'))
    assert raised.value.status == 400
    assert "\n" not in str(raised.value)


def test_a_redirect_is_not_followed(desk: Desk) -> None:
    with pytest.raises(ProviderApiError, match="302"):
        desk.request(Response(status=302, headers={"Location": f"{desk.provider.url}/elsewhere"}))
    assert len(desk.provider.calls) == 1


def test_a_refused_connection_is_reported_as_such(desk: Desk) -> None:
    silent = ApiClient(
        provider="Ark", slug="main", base="http://127.0.0.1:1/v1", headers={}, retries=RETRIES, sleep=lambda _: None
    )
    with pytest.raises(ProviderApiError, match="Ark did not answer GET /webhooks") as raised:
        silent.request("GET", "/webhooks", json.loads)
    assert raised.value.kind is ApiErrorKind.UNREACHABLE


def test_an_answer_without_end_is_not_read_to_its_end(desk: Desk) -> None:
    huge = Response(status=200, content=b"[" + b"0," * (9 * 1024 * 1024))
    with pytest.raises(ProviderApiError, match="larger than") as raised:
        desk.request(huge, huge, huge)
    assert raised.value.kind is ApiErrorKind.UNREACHABLE


def test_the_proxy_of_the_environment_is_not_used(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert desk.request() == {"good": True}


def test_one_text_that_strict_parsers_refuse_does_not_make_an_answer_unreadable(desk: Desk) -> None:
    desk.provider.responses = [Response(status=200, content=rb'{"entries": ["cut \ud83d", "\u0000", "\ud83d\ude00"]}')]
    found = desk.client().request("GET", "/list", msgspec.json.decode)
    assert found == {"entries": ["cut \ufffd", "\ufffd", "\U0001f600"]}
