"""What the outcome of an attempt means, how the health of an endpoint changes, and when the operator is notified."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import backoff
from shared.deliveries import policy as deliveries
from shared.deliveries.policy import Decision
from shared.ids import receipt_id
from shared.subscriptions import circuit_breaker
from shared.subscriptions.circuit_breaker import EndpointHealth
from shared.subscriptions.model import ChangeSubject, Matcher, Subscription, covers, matches
from shared.vocabulary import AttemptStatus, DeliveryStatus, PayloadFormat, SubscriptionState

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DEFAULT_SCHEDULE = backoff.DELIVERY_SCHEDULES["default"]
LONG_SCHEDULE = backoff.DELIVERY_SCHEDULES["standard_webhooks"]
RETRYABLE = [0, 408, 409, 425, 429, 500, 502, 503, 504, 507, 599]
PERMANENT = [101, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 410, 413, 418, 422, 426, 451, 499]
ACCEPTED = [200, 201, 202, 204, 206, 299]


def decide(status: int, attempts: int = 1, **more: float) -> Decision:
    return deliveries.decide(status, attempts=attempts, schedule=DEFAULT_SCHEDULE, **more)


class TestTheAnswer:
    @pytest.mark.parametrize("status", ACCEPTED)
    def test_2xx_is_delivered(self, status: int) -> None:
        assert decide(status) == Decision(status=DeliveryStatus.DELIVERED)
        assert decide(status).attempt_status is AttemptStatus.SUCCESS

    @pytest.mark.parametrize("status", RETRYABLE)
    def test_no_response_5xx_408_409_425_and_429_are_retried_while_attempts_remain(self, status: int) -> None:
        for attempts in range(1, 6):
            assert decide(status, attempts).status is DeliveryStatus.RETRY
            assert decide(status, attempts).attempt_status is AttemptStatus.FAILED
        assert decide(status, 6).status is DeliveryStatus.DEAD

    @pytest.mark.parametrize("status", PERMANENT)
    def test_everything_else_is_dead_at_once(self, status: int) -> None:
        assert decide(status).status is DeliveryStatus.DEAD

    @given(st.integers(100, 999))
    def test_only_410_says_that_the_endpoint_is_gone(self, status: int) -> None:
        assert decide(status).gone == (status == 410)


class TestTheSchedule:
    def test_is_at_once_again_at_once_and_then_30_seconds_2_10_and_30_minutes(self) -> None:
        assert [decide(503, attempts).delay_seconds for attempts in range(1, 7)] == [0, 30, 120, 600, 1800, None]

    def test_can_be_the_long_one(self) -> None:
        delays = [
            deliveries.decide(0, attempts=n, schedule=LONG_SCHEDULE).delay_seconds
            for n in range(1, len(LONG_SCHEDULE) + 2)
        ]
        assert delays == [*LONG_SCHEDULE, None]

    @given(st.integers(1, 5), st.floats(-1, 1))
    def test_is_kept_within_a_fifth(self, attempts: int, jitter: float) -> None:
        planned = DEFAULT_SCHEDULE[attempts - 1]
        delay = decide(500, attempts, jitter=jitter).delay_seconds
        assert delay is not None
        assert 0.8 * planned - 1e-9 <= delay <= 1.2 * planned + 1e-9

    def test_without_retries_a_failure_is_the_end(self) -> None:
        assert deliveries.decide(500, attempts=1, schedule=()).status is DeliveryStatus.DEAD


class TestRetryAfter:
    def test_puts_a_retry_off(self) -> None:
        assert decide(503, 2, retry_after_seconds=90).delay_seconds == 90

    def test_never_brings_it_forward(self) -> None:
        assert decide(503, 2, retry_after_seconds=1).delay_seconds == 30
        assert decide(503, 2, retry_after_seconds=-5).delay_seconds == 30

    def test_counts_for_an_hour_at_most(self) -> None:
        assert decide(503, 2, retry_after_seconds=1e9).delay_seconds == 3600

    @pytest.mark.parametrize("status", [429, 503])
    def test_is_about_the_whole_endpoint_with_429_and_503(self, status: int) -> None:
        assert decide(status, retry_after_seconds=60).pause_seconds == 60
        assert decide(status, 6, retry_after_seconds=60).pause_seconds == 60

    def test_is_about_the_one_request_otherwise(self) -> None:
        assert decide(409, retry_after_seconds=60).pause_seconds is None
        assert decide(409, retry_after_seconds=60).delay_seconds == 60


class TestAdvice:
    @pytest.mark.parametrize(
        ("statuses", "meaning", "action"),
        [
            (
                [0],
                "did not receive an HTTP response",
                "Check DNS, TLS, firewall, public routing, and endpoint timeout.",
            ),
            ([500, 503, 408, 409, 425, 429], "Temporary receiver failure.", "wait for the retry, or replay"),
            ([400, 401, 403, 404, 410, 422, 302], "Permanent receiver rejection.", "payload handling, then replay."),
            ([200, 204], "accepted the delivery as successful.", "internal queue, idempotency, and downstream"),
        ],
    )
    def test_is_given_by_what_the_latest_attempt_shows(self, statuses: list[int], meaning: str, action: str) -> None:
        for status in statuses:
            recommendation = deliveries.recommend_for_status(status)
            assert meaning in recommendation.usually_means
            assert action in recommendation.next_action


FAILED = {"endpoint_failures": 1}


def after(*outcomes: dict[str, int], seconds_apart: float = 1) -> EndpointHealth:
    health = EndpointHealth()
    for number, counts in enumerate(outcomes):
        health = circuit_breaker.next_state(health, NOW + timedelta(seconds=number * seconds_apart), **counts)
    return health


class TestTheBreaker:
    def test_opens_after_five_setbacks_in_a_row(self) -> None:
        assert after(*[FAILED] * 4).open_until is None
        opened = after(*[FAILED] * 5)
        assert opened.trip_count == 1
        assert opened.open_until == NOW + timedelta(seconds=4 + 10)

    def test_rests_longer_each_time_up_to_ten_minutes(self) -> None:
        health, rests, now = after({"endpoint_failures": 5}), [], NOW
        for _ in range(9):
            assert health.open_until
            rests.append((health.open_until - now).total_seconds())
            now = health.open_until
            health = circuit_breaker.next_state(health, now, endpoint_failures=1)
        assert rests == [10, 20, 40, 80, 160, 320, 600, 600, 600]

    def test_is_not_opened_further_by_what_was_under_way(self) -> None:
        opened = after({"endpoint_failures": 5})
        later = circuit_breaker.next_state(opened, NOW + timedelta(seconds=1), endpoint_failures=5)
        assert (later.trip_count, later.open_until) == (1, opened.open_until)
        assert later.failures == 10

    def test_is_closed_by_a_success(self) -> None:
        opened = after({"endpoint_failures": 5})
        assert circuit_breaker.next_state(opened, NOW, successes=1, endpoint_failures=3) == EndpointHealth()

    def test_is_closed_by_any_response_even_an_error(self) -> None:
        opened = after({"endpoint_failures": 5})
        probed = circuit_breaker.next_state(opened, opened.open_until or NOW, rejections=1)
        assert (probed.trip_count, probed.consecutive_failures, probed.open_until) == (0, 0, None)
        assert probed.failures == 6

    def test_rejections_do_not_open_it(self) -> None:
        assert after(*[{"rejections": 3}] * 10).open_until is None

    def test_an_endpoint_that_asks_for_rest_gets_it(self) -> None:
        rested = circuit_breaker.next_state(EndpointHealth(), NOW, endpoint_failures=1, pause_seconds=60)
        assert (rested.open_until, rested.trip_count) == (NOW + timedelta(seconds=60), 0)


class TestHopelessness:
    def test_is_five_days_of_nothing_but_failure(self) -> None:
        health = after(*[FAILED] * 12)
        assert not circuit_breaker.should_disable(health, NOW + timedelta(days=4, hours=23))
        assert circuit_breaker.should_disable(health, NOW + timedelta(days=5))

    def test_is_not_two_failures_however_far_apart(self) -> None:
        assert not circuit_breaker.should_disable(after(FAILED, FAILED), NOW + timedelta(days=50))

    def test_one_success_resets_it(self) -> None:
        health = circuit_breaker.next_state(after(*[FAILED] * 12), NOW, successes=1)
        assert not circuit_breaker.should_disable(health, NOW + timedelta(days=50))


NOTHING: dict[str, Any] = {
    "subscription_state": SubscriptionState.ACTIVE, "is_held_back": False, "is_in_flight": False,
    "is_breaker_open": False, "due_at": None, "resting_until": None,
}  # fmt: skip
LATER = NOW + timedelta(minutes=5)


class TestWaiting:
    @pytest.mark.parametrize(
        ("status", "facts", "cause", "until"),
        [
            ("pending", {"resting_until": NOW, "is_breaker_open": True}, "circuit breaker", NOW),
            ("pending", {"resting_until": NOW}, "pause that its endpoint asked for", NOW),
            ("retry", {"due_at": NOW}, "retry schedule", NOW),
            ("retry", {"due_at": NOW, "resting_until": LATER, "is_breaker_open": True}, "circuit breaker", LATER),
            ("retry", {"due_at": LATER, "resting_until": NOW, "is_breaker_open": True}, "retry schedule", LATER),
            ("pending", {"subscription_state": "paused", "resting_until": NOW}, "paused", None),
            ("pending", {"is_held_back": True}, "an earlier delivery", None),
            ("pending", {"is_in_flight": True}, "attempt in flight", None),
            ("pending", {}, "a deliverer", None),
            ("quarantined", {}, "a person", None),
        ],
    )
    def test_names_what_is_waited_for_and_until_when(
        self, status: str, facts: dict[str, Any], cause: str, until: datetime | None
    ) -> None:
        waits_for, waits_until = deliveries.explain_wait(DeliveryStatus(status), **(NOTHING | facts))
        assert cause in (waits_for or "")
        assert waits_until == until

    @pytest.mark.parametrize("status", ["delivered", "dead"])
    def test_is_over_with_the_delivery(self, status: str) -> None:
        assert deliveries.explain_wait(DeliveryStatus(status), **NOTHING) == (None, None)


SUBSCRIPTION = Subscription(
    id=str(receipt_id(NOW)),
    url="https://example.com/",
    types=("message.*",),
    secrets=(),
    payload=PayloadFormat.TIDINGS,
    timeout_s=15,
    retry_schedule=DEFAULT_SCHEDULE,
)
SUBJECT = ChangeSubject(
    type="message.bounced", source="mc", tenant="acme", recipient_domain="example.net", tag="welcome"
)


class TestMatching:
    @pytest.mark.parametrize(
        ("pattern", "type_", "fits"),
        [
            ("*", "alert.firing", True),
            ("message.*", "message.bounced", True),
            ("message.bounced", "message.bounced", True),
            ("message.*", "messages.bounced", False),
            ("message.bounced", "message.bounced2", False),
            ("alert.*", "message.bounced", False),
        ],
    )
    def test_types_may_end_in_a_star(self, pattern: str, type_: str, fits: bool) -> None:
        assert covers(pattern, type_) is fits

    @pytest.mark.parametrize(
        "wishes",
        [{"sources": ["mc"]}, {"tenant": "acme"}, {"recipient_domains": ["example.net"]}, {"tags": ["x", "welcome"]}],
    )
    def test_every_filter_must_fit(self, wishes: dict[str, object]) -> None:
        other = ChangeSubject(type="message.bounced")
        subscription = replace(SUBSCRIPTION, **wishes)  # type: ignore[arg-type]
        assert matches(subscription, SUBJECT)
        assert not matches(subscription, other)
        assert matches(SUBSCRIPTION, other)

    @given(st.data())
    def test_finding_many_at_once_is_asking_each(self, data: st.DataObject) -> None:
        some = st.lists(st.sampled_from(["a", "b"]), max_size=2)
        subscriptions = data.draw(
            st.lists(
                st.builds(
                    lambda **wishes: replace(SUBSCRIPTION, id=str(receipt_id(NOW)), **wishes),
                    types=st.sampled_from([("*",), ("message.*",), ("alert.firing", "message.bounced")]),
                    sources=some,
                    tenant=st.sampled_from([None, "a", "b"]),
                    recipient_domains=some,
                    tags=some,
                ),
                max_size=6,
            )
        )
        value = st.sampled_from([None, "a", "b", "c"])
        subject = data.draw(
            st.builds(
                ChangeSubject,
                type=st.sampled_from(["message.bounced", "alert.firing", "x"]),
                source=value,
                tenant=value,
                recipient_domain=value,
                tag=value,
            )
        )
        found = Matcher(subscriptions).subscribers_for(subject)
        assert {one.id for one in found} == {one.id for one in subscriptions if matches(one, subject)}
        assert len(found) == len({one.id for one in found})
