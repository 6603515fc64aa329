"""Subscriptions: which requests are valid, and which changes match."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import backoff
from shared.errors import InvalidFieldError
from shared.subscriptions import validation
from shared.subscriptions.model import ChangeSubject, SigningSecret, Subscription, matches
from shared.subscriptions.validation import TYPES, WILDCARDS
from shared.vocabulary import CHANGE_TYPES

DEFAULT_SCHEDULE = backoff.DELIVERY_SCHEDULES["default"]
LONG_SCHEDULE = backoff.DELIVERY_SCHEDULES["standard_webhooks"]


def subscription(**wishes: Any) -> Subscription:
    given_: dict[str, Any] = {"types": ("*",), **wishes}
    return Subscription(
        id="1",
        url="https://hooks.example.com",
        secrets=(SigningSecret(value="whsec_", expires_at=datetime.now(UTC)),),
        timeout_s=15,
        retry_schedule=DEFAULT_SCHEDULE,
        **given_,
    )


BOUNCE = ChangeSubject(
    type="message.bounced", source="main", tenant="acme", recipient_domain="example.net", tag="welcome"
)


@pytest.mark.parametrize(
    ("wishes", "wanted"),
    [
        ({}, True),
        ({"types": ["message.*"]}, True),
        ({"types": ["message.bounced"]}, True),
        ({"types": ["message.delivered"]}, False),
        ({"types": ["alert.*", "message.bounced"]}, True),
        ({"types": ["suppression.*"]}, False),
        ({"sources": ["main", "other"]}, True),
        ({"sources": ["other"]}, False),
        ({"tenant": "acme"}, True),
        ({"tenant": "other"}, False),
        ({"recipient_domains": ["example.net"]}, True),
        ({"recipient_domains": ["sub.example.net", "net"]}, False),
        ({"tags": ["welcome"]}, True),
        ({"tags": ["other"]}, False),
        ({"tags": ["welcome"], "sources": ["other"]}, False),
    ],
)
def test_a_change_is_wanted_if_everything_that_is_asked_for_holds(wishes: dict[str, Any], wanted: bool) -> None:
    assert matches(subscription(**wishes), BOUNCE) is wanted


@pytest.mark.parametrize("wish", [{"sources": ["a"]}, {"tenant": "a"}, {"recipient_domains": ["a.b"]}, {"tags": ["a"]}])
def test_a_change_that_says_nothing_of_what_is_asked_for_is_not_wanted(wish: dict[str, Any]) -> None:
    assert not matches(subscription(**wish), ChangeSubject(type="alert.firing"))


def checked(field: str, value: Any) -> Any:
    return validation.validate({field: value})[field]


def refused(field: str, value: Any) -> str:
    with pytest.raises(InvalidFieldError) as error:
        validation.validate({field: value})
    assert error.value.field == field
    return str(error.value)


class TestTypes:
    def test_every_type_that_a_change_can_have_can_be_asked_for(self) -> None:
        assert {*CHANGE_TYPES.values(), "suppression.added", "alert.firing"} <= set(TYPES)
        assert checked("types", [*TYPES, *WILDCARDS]) == [*TYPES, *WILDCARDS]

    def test_a_wildcard_includes_all_types_of_its_kind(self) -> None:
        assert {"*", "message.*", "inbound.*", "suppression.*", "alert.*", "domain.*", "send_limit.*"} == set(WILDCARDS)

    @pytest.mark.parametrize("name", ["message.bonced", "message", "mess*", "", "*.*", "message.bounce*", "BOUNCED"])
    def test_what_is_none_is_refused_with_those_there_are(self, name: str) -> None:
        assert "message.bounced" in refused("types", [name])

    def test_at_least_one_must_be_asked_for(self) -> None:
        refused("types", [])


class TestHeaders:
    @pytest.mark.parametrize(
        "name",
        [
            "webhook-id", "Webhook-Signature", "WEBHOOK-ANYTHING", "Idempotency-Key", "Host", "Content-Type",
            "content-length", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer",
            "Upgrade", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "User-Agent", "Expect", "Date",
            "webhook_signature", "Content_Type", "idempotency_key",
        ],
    )  # fmt: skip
    def test_what_is_ours_or_of_the_connection_cannot_be_set(self, name: str) -> None:
        assert name in refused("headers", {name: "x"})

    @pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nY", "X\0", "Ü", "x" * 101, "X(", '"X"'])
    def test_a_name_is_a_token(self, name: str) -> None:
        refused("headers", {name: "x"})

    @pytest.mark.parametrize("value", ["", " x", "x ", "a\r\nWebhook-Id: 1", "a\nb", "a\0b", "\x7f", "ü", "••••"])
    def test_a_value_is_printable_ascii(self, value: str) -> None:
        refused("headers", {"X-Token": value})

    def test_what_remains_is_kept_as_it_is(self) -> None:
        headers = {"Authorization": "Bearer a b\tc", "X-API-Key": "1", "Cookie": "a=b"}
        assert checked("headers", headers) == headers

    def test_no_name_is_there_twice(self) -> None:
        assert "twice" in refused("headers", {"X-a": "1", "x-A": "2"})
        assert "twice" in refused("headers", {"X-a": "1", "X_a": "2"})

    def test_there_are_not_too_many(self) -> None:
        refused("headers", {f"X-{number}": "x" for number in range(21)})
        refused("headers", {"X-Long": "x" * 5000})

    @given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
    def test_an_accepted_value_never_contains_a_line_break(self, headers: dict[str, str]) -> None:
        try:
            accepted = checked("headers", headers)
        except InvalidFieldError:
            return
        for name, value in accepted.items():
            assert not set(name + value) & set("\r\n\0")
            assert (name + value).isascii()


class TestRetrySchedules:
    def test_a_schedule_can_be_named(self) -> None:
        assert checked("retry_schedule", "default") == list(DEFAULT_SCHEDULE) == [0, 30, 120, 600, 1800]
        assert checked("retry_schedule", "standard_webhooks") == list(LONG_SCHEDULE)
        assert "standard_webhooks" in refused("retry_schedule", "short")

    @pytest.mark.parametrize("schedule", [[], [0], [0, 0, 1], [86_400] * 7])
    def test_a_schedule_is_seconds_before_each_retry(self, schedule: list[int]) -> None:
        assert checked("retry_schedule", schedule) == schedule

    @pytest.mark.parametrize("schedule", [[-1], [1.5], ["1"], [True], [None], [86_401], [1] * 21, [86_400] * 8])
    def test_a_schedule_is_bounded(self, schedule: list[Any]) -> None:
        refused("retry_schedule", schedule)

    @pytest.mark.parametrize("schedule", [5, {"a": 1}, None])
    def test_a_schedule_is_a_list_or_a_name(self, schedule: Any) -> None:
        refused("retry_schedule", schedule)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("timeout_s", [1, 15, 30], [0, 31, -1]),
        ("concurrency", [1, 100], [0, 101]),
        ("rate_per_second", [None, 0.01, 1, 10_000], [0, -1, 10_001, float("nan"), float("inf")]),
        ("payload", ["tidings", "cloudevents"], ["xml", ""]),
        ("name", ["billing"], ["", "  ", "x" * 201]),
        ("tenant", [None, "acme"], ["", "x" * 201]),
        ("tags", [[], ["a", "b"]], [[""], ["x" * 201], [str(number) for number in range(101)]]),
        ("recipient_domains", [[], ["example.com"]], [["a b"], [""], ["a@b.c"]]),
    ],
)
def test_every_wish_has_its_bounds(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert checked(field, value) == value
    for value in bad:
        refused(field, value)


def test_domains_are_written_one_way() -> None:
    assert checked("recipient_domains", ["Example.COM", "@example.com", "bücher.example"]) == [
        "example.com", "xn--bcher-kva.example",
    ]  # fmt: skip
