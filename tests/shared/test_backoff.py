"""Every back-off policy: how long what failed waits before it is tried again."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import backoff
from shared.backoff import Backoff

MINUTE, HOUR = 60.0, 3600.0


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (backoff.RECEIPTS, lambda n: min(2.0**n, 60.0)),
        (backoff.JOBS, lambda n: min(2.0**n, 60.0)),
        (backoff.KEY_LOOKUPS, lambda n: min(10.0 * 2 ** (n - 1), 600.0)),
        (backoff.CIRCUIT_BREAKER, lambda n: min(10.0 * 2 ** (n - 1), 600.0)),
        (backoff.PROVIDER_API, lambda n: min(0.5 * 2 ** (n - 1), 60.0)),
        (backoff.RECONCILIATION_RUNS, lambda n: min(2 * MINUTE * 2 ** (n - 1), 4 * HOUR)),
        (backoff.RESENDS, lambda n: min(15 * MINUTE * 2 ** (n - 1), 12 * HOUR)),
        (backoff.SUPPRESSION_PULLS, lambda n: min(15 * MINUTE * 2 ** max(n - 3, 0), 24 * HOUR)),
        (backoff.PROCESSES, lambda n: min(0.2 * 2 ** (n - 1), 5.0)),
        (backoff.NOTIFICATIONS, lambda n: (10, 30, 120, 600, 1800, 3600)[min(n, 6) - 1]),
    ],
)
def test_a_delay_grows_until_it_stays_at_its_longest(policy: Backoff, expected: Callable[[int], float]) -> None:
    for failures in (*range(1, 21), 10_000):
        assert policy.delay_seconds(failures) == pytest.approx(expected(min(failures, 20)))


@given(st.integers(1, 20), st.floats(-1, 1))
def test_a_delay_is_spread_by_no_more_than_its_part(failures: int, jitter: float) -> None:
    planned = backoff.NOTIFICATIONS.delay_seconds(failures)
    assert 0.8 * planned - 1e-6 <= backoff.NOTIFICATIONS.delay_seconds(failures, jitter=jitter) <= 1.2 * planned + 1e-6
    assert backoff.RECEIPTS.delay_seconds(failures, jitter=jitter) == backoff.RECEIPTS.delay_seconds(failures)


@pytest.mark.parametrize("failures", [0, -1])
def test_before_any_failure_the_first_delay_applies(failures: int) -> None:
    assert backoff.RECEIPTS.delay_seconds(failures) == backoff.RECEIPTS.delay_seconds(1)
