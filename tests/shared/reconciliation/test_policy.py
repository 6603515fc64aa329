"""What is searched for, when it is retried, when it is given up, and which request belongs to which delivery."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.api.base import Contents, FailedDelivery, Span, is_ours
from shared.reconciliation import policy as reconciliation_policy
from shared.reconciliation.policy import most_similar

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def delivery(events: int = 2) -> FailedDelivery:
    return FailedDelivery(reference="1", failed_at=NOW, outcome="5xx", status_code=503, events=events, url=None)


def contents(seconds: float | None, events: int = 2) -> Contents:
    """Return the time this many seconds before the failed delivery."""
    return Contents(events=events, latest_at=None if seconds is None else NOW - timedelta(seconds=seconds))


class TestWhatIsListed:
    def test_goes_back_three_days_the_first_time(self) -> None:
        assert reconciliation_policy.span_to_list(None, NOW) == Span(since=NOW - 3 * DAY, until=NOW)

    def test_begins_a_while_before_the_last_time(self) -> None:
        assert reconciliation_policy.span_to_list(NOW - DAY, NOW).since == NOW - DAY - reconciliation_policy.OVERLAP

    def test_goes_back_31_days_at_most(self) -> None:
        assert reconciliation_policy.span_to_list(NOW - 90 * DAY, NOW).since == NOW - 31 * DAY

    def test_is_what_a_person_says(self) -> None:
        span = reconciliation_policy.span_to_list(NOW, NOW, since=NOW - 60 * DAY, until=NOW - DAY)
        assert span == Span(since=NOW - 60 * DAY, until=NOW - DAY)

    @given(days=st.floats(0, 100))
    def test_is_asked_for_in_parts_that_no_provider_finds_too_long_and_that_leave_nothing_out(
        self, days: float
    ) -> None:
        span = Span(since=NOW - timedelta(days=days), until=NOW)
        parts = list(reconciliation_policy.steps(span))
        assert all(part.since < part.until <= part.since + 31 * DAY for part in parts)
        edges = [span.since, *(part.until for part in parts)]
        assert [part.since for part in parts] == edges[:-1]
        assert not parts or edges[-1] == span.until

    @pytest.mark.parametrize("known", [None, 0, 1, 30, 31, 90])
    def test_without_interruption_is_remembered_to_its_end(self, known: int | None) -> None:
        until = None if known is None else NOW - known * DAY
        for part in reconciliation_policy.steps(reconciliation_policy.span_to_list(until, NOW)):
            until = reconciliation_policy.listed_until(until, part, NOW)
        assert until == NOW

    def test_behind_a_gap_does_not_count(self) -> None:
        yesterday = Span(since=NOW - DAY, until=NOW)
        assert reconciliation_policy.listed_until(NOW - 5 * DAY, yesterday, NOW) == NOW - 5 * DAY
        assert reconciliation_policy.listed_until(None, yesterday, NOW) is None

    def test_is_never_what_is_to_come(self) -> None:
        until = NOW - DAY / 4
        for part in reconciliation_policy.steps(
            reconciliation_policy.span_to_list(until, NOW, until=NOW + 27_000 * DAY)
        ):
            until = reconciliation_policy.listed_until(until, part, NOW) or until
        assert until == NOW
        assert reconciliation_policy.listed_until(NOW - DAY, Span(since=NOW - DAY, until=NOW + DAY), NOW) == NOW

    def test_is_searched_again_where_the_future_is_said_to_be_listed(self) -> None:
        assert reconciliation_policy.is_fresh(NOW, NOW)
        assert not reconciliation_policy.is_fresh(NOW + DAY, NOW)
        span = reconciliation_policy.span_to_list(NOW + DAY, NOW)
        assert span == reconciliation_policy.span_to_list(None, NOW)
        assert reconciliation_policy.listed_until(NOW + DAY, span, NOW) == NOW

    def test_a_second_time_takes_nothing_back(self) -> None:
        last_week = Span(since=NOW - 8 * DAY, until=NOW - 7 * DAY)
        assert reconciliation_policy.listed_until(NOW - DAY, last_week, NOW) == NOW - DAY


@pytest.mark.parametrize(
    ("url", "webhook_url", "ours"),
    [
        ("https://hooks.example/webhooks/main", None, True),
        ("https://hooks.example/behind/a/proxy/webhooks/main/", None, True),
        ("https://ann:secret@hooks.example/webhooks/main?token=1", None, True),
        ("https://hooks.example/webhooks/domain", None, False),
        ("https://hooks.example/other-webhooks/main", None, False),
        ("https://hooks.example/", None, False),
        (None, None, False),
        ("https://hooks.example/a", "https://hooks.example/a/", True),
        ("https://hooks.example/webhooks/main", "https://hooks.example/a", False),
        (None, "https://hooks.example/a", False),
    ],
)
def test_our_webhooks_are_distinguished_from_others(url: str | None, webhook_url: str | None, ours: bool) -> None:
    assert is_ours(url, "main", webhook_url) is ours


class TestAfterAFailure:
    def test_the_pauses_grow_to_half_a_day_and_end_after_a_week(self) -> None:
        delays = [
            reconciliation_policy.retry_delay(attempts) for attempts in range(1, reconciliation_policy.MAX_ATTEMPTS)
        ]
        pauses = [delay for delay in delays if delay is not None]
        assert len(pauses) == len(delays)
        assert pauses == sorted(pauses)
        assert pauses[0] == timedelta(minutes=15)
        assert pauses[-1] == DAY / 2
        assert 7 * DAY < sum(pauses, timedelta()) < 14 * DAY
        assert reconciliation_policy.retry_delay(reconciliation_policy.MAX_ATTEMPTS) is None

    @pytest.mark.parametrize(
        ("code", "taken"), [(200, True), (204, True), (199, False), (302, False), (503, False), (None, False)]
    )
    def test_only_2xx_was_taken(self, code: int | None, taken: bool) -> None:
        assert reconciliation_policy.is_accepted(code) is taken


class TestTheNextRun:
    def next_run(self, **changes: object) -> timedelta:
        given = {"failures": 0, "stopped": False, "finished": True, "asked_seconds": None, **changes}
        return reconciliation_policy.next_run(NOW, **given) - NOW  # type: ignore[arg-type]

    def test_comes_in_a_quarter_of_an_hour(self) -> None:
        assert self.next_run() == timedelta(minutes=15)

    def test_comes_at_once_if_there_was_not_time_for_all(self) -> None:
        assert self.next_run(finished=False) == timedelta()

    def test_comes_soon_while_our_stopped(self) -> None:
        assert self.next_run(stopped=True) == timedelta(minutes=5)

    def test_comes_ever_later_while_the_provider_fails_but_within_hours(self) -> None:
        pauses = [self.next_run(failures=failures, finished=False) for failures in range(1, 50)]
        assert pauses == sorted(pauses)
        assert pauses[0] == timedelta(minutes=2)
        assert pauses[-1] == timedelta(hours=4)

    def test_comes_when_the_provider_wants_it_but_within_hours(self) -> None:
        assert self.next_run(failures=1, asked_seconds=3600.0) == timedelta(hours=1)
        assert self.next_run(failures=1, asked_seconds=1e9) == timedelta(hours=4)


class TestWhichRequestItIs:
    def test_has_the_same_number_of_events(self) -> None:
        assert most_similar(delivery(), [("a", contents(1, events=3)), ("b", contents(500))]) == "b"

    def test_has_no_event_that_is_later_than_the_delivery(self) -> None:
        assert most_similar(delivery(), [("live", contents(-3600)), ("b", contents(500))]) == "b"

    def test_may_come_from_a_provider_whose_clocks_differ_a_little(self) -> None:
        assert most_similar(delivery(), [("a", contents(-30))]) == "a"

    def test_of_several_is_that_whose_last_event_is_the_closest(self) -> None:
        assert most_similar(delivery(), [("a", contents(86_400)), ("b", contents(5)), ("c", contents(60))]) == "b"

    def test_is_one_without_times_only_if_there_is_no_other(self) -> None:
        assert most_similar(delivery(), [("a", contents(None)), ("b", contents(500))]) == "b"
        assert most_similar(delivery(), [("a", contents(None))]) == "a"

    def test_may_be_none(self) -> None:
        assert most_similar(delivery(), []) is None
        assert most_similar(delivery(), [("a", contents(1, events=1))]) is None
