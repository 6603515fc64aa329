"""A client over its rate is answered with Retry-After, and keys cannot be guessed quickly."""

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.core.rate_limit import TokenBuckets
from api.core.resource import Deps
from shared.auth.keys import Scope, create_key
from shared.settings import Settings
from tests.support.system import ADMIN_KEY, System

PATH = "/v1/keys"


def client_of(system: System, **settings: object) -> FlaskClient:
    configured = Settings(**{"admin_key": ADMIN_KEY, "api_rate": 0.01, "api_burst": 3, **settings})  # type: ignore[arg-type]
    return create_app(
        Deps(settings=configured, engine=system.engine, vault=system.vault, notifier=system.notifier)
    ).test_client()


def bearer(key: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **headers}


class TestBuckets:
    def test_a_burst_is_let_through_and_then_the_rate(self) -> None:
        buckets = TokenBuckets(rate=2, burst=3)
        assert [buckets.take("a", 10).allowed for _ in range(4)] == [True, True, True, False]
        assert buckets.take("a", 10.5).allowed
        assert not buckets.take("a", 10.5).allowed

    def test_each_name_has_its_own(self) -> None:
        buckets = TokenBuckets(rate=1, burst=1)
        assert buckets.take("a", 0).allowed
        assert buckets.take("b", 0).allowed

    def test_it_says_how_many_are_left_and_when_to_come_back(self) -> None:
        buckets = TokenBuckets(rate=0.5, burst=2)
        first = buckets.take("a", 0)
        assert (first.remaining, first.seconds) == (1, 2)
        buckets.take("a", 0)
        refused = buckets.take("a", 0)
        assert (refused.allowed, refused.remaining, refused.seconds) == (False, 0, 2)

    def test_a_rate_of_zero_limits_no_key(self) -> None:
        buckets = TokenBuckets(rate=0, burst=1)
        assert all(buckets.take("a", 0).allowed for _ in range(100))

    def test_it_remembers_a_bounded_number_of_names(self) -> None:
        buckets = TokenBuckets(rate=0.001, burst=1)
        for number in range(20_000):
            buckets.take(str(number), number)
        assert not buckets.take("19999", 20_000).allowed
        assert buckets.take("0", 20_000).allowed

    @given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 5), st.floats(0.5, 5))
    def test_never_more_than_the_burst_and_what_came_back(self, gaps: list[float], burst: int, rate: float) -> None:
        buckets, now, taken = TokenBuckets(rate=rate, burst=burst), 0.0, 0
        for gap in gaps:
            now += gap
            taken += buckets.take("a", now).allowed
            assert taken <= burst + now * rate + 1e-6


def test_a_key_over_its_rate_is_answered_with_retry_after(system: System) -> None:
    client = client_of(system)
    answers = [client.get(PATH, headers=bearer(ADMIN_KEY)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"key";q=3;w=300'
    assert answers[0].headers["RateLimit"].startswith('"key";r=2;t=')
    assert answers[-1].headers["RateLimit"].startswith('"key";r=0;t=')
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 100
    assert answers[-1].content_type == "application/problem+json"


def test_other_keys_are_not_held_up(system: System) -> None:
    client = client_of(system)
    with system.engine.begin() as connection:
        other = create_key(connection, "other", Scope.ADMIN).secret
    for _ in range(4):
        client.get(PATH, headers=bearer(ADMIN_KEY))
    assert client.get(PATH, headers=bearer(other)).status_code == 200


def test_what_is_refused_for_other_reasons_counts_too(system: System) -> None:
    client = client_of(system)
    assert [client.get("/v1/messages?x=1", headers=bearer(ADMIN_KEY)).status_code for _ in range(4)] == [
        422, 422, 422, 429,
    ]  # fmt: skip


def test_with_a_rate_of_nothing_there_is_no_limit(system: System) -> None:
    client = client_of(system, api_rate=0)
    answers = [client.get(PATH, headers=bearer(ADMIN_KEY)) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers


@pytest.mark.parametrize("rate", [1000, 0], ids=["a rate", "no rate"])
def test_keys_cannot_be_guessed_fast(system: System, rate: int) -> None:
    client = client_of(system, api_rate=rate, api_burst=1000)
    answers = [client.get(PATH, headers=bearer(f"guess-{number}")) for number in range(40)]
    assert [answer.status_code for answer in answers].count(401) == 30
    assert answers[-1].status_code == 429
    assert "Retry-After" in answers[-1].headers
    # The right key, guessed in the end, gets the same answer as the others.
    assert client.get(PATH, headers=bearer(ADMIN_KEY)).status_code == 429


def test_a_known_client_is_not_limited_by_guesses_from_its_network(system: System) -> None:
    client = client_of(system, api_rate=1000, api_burst=1000)
    assert client.get(PATH, headers=bearer(ADMIN_KEY)).status_code == 200
    for number in range(40):
        client.get(PATH, headers=bearer(f"guess-{number}"))
    assert client.get(PATH, headers=bearer(ADMIN_KEY)).status_code == 200


@pytest.mark.parametrize(
    ("proxies", "addresses", "refused"),
    [
        (1, [f"192.0.2.{number}" for number in range(40)], 0),
        (1, [f"2001:db8::{number:x}" for number in range(40)], 10),
        (1, [f"198.51.100.{number}, 192.0.2.1" for number in range(40)], 10),
        (0, [f"192.0.2.{number}" for number in range(40)], 10),
    ],
    ids=["each its own", "one network", "made up by the sender", "no proxy is trusted"],
)
def test_guesses_are_counted_by_where_they_come_from(
    system: System, proxies: int, addresses: list[str], refused: int
) -> None:
    client = client_of(system, api_rate=1000, api_burst=1000, proxies=proxies)
    answers = [client.get(PATH, headers=bearer("guess", **{"X-Forwarded-For": address})) for address in addresses]
    assert [answer.status_code for answer in answers].count(429) == refused


def test_no_key_at_all_is_no_guess(system: System) -> None:
    client = client_of(system, api_rate=1000)
    assert {client.get(PATH).status_code for _ in range(40)} == {401}
