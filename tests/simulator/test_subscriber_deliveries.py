"""However a subscriber fails, it misses nothing, and gets twice only what it accepted without answering."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from shared.deliveries import store as deliveries
from simulator.subscribing import behaviours
from simulator.subscribing.behaviours import Behaviour
from simulator.subscribing.subscriber import Subscriber
from tests.support.system import LOOPBACK, System, open_system

_TIMEOUT_SECONDS = 3
_CHANGES = 3


@pytest.fixture
def system(database_url: str) -> Iterator[System]:
    with open_system(database_url, egress_allow=LOOPBACK) as system:
        yield system


@pytest.fixture
def subscriber(system: System) -> Iterator[Subscriber]:
    with Subscriber() as subscriber:
        subscription = system.insert_subscription(
            subscriber.endpoint, timeout_s=_TIMEOUT_SECONDS, retry_schedule=[60] * 5
        )
        subscriber.trust(system.signing_secrets[subscription])
        yield subscriber


def replay_dead(system: System) -> None:
    dead = [row[0] for row in system.rows("SELECT id FROM deliveries WHERE status = 'dead'")]
    with system.ctx.engine.begin() as connection:
        deliveries.replay(connection, dead, datetime.now(UTC))


@pytest.mark.parametrize(
    ("behaviour", "status", "doubles"),
    [
        pytest.param(behaviours.healthy(), "delivered", False, id="healthy"),
        pytest.param(behaviours.slow(0.2), "delivered", False, id="a little slow"),
        pytest.param(behaviours.slow(_TIMEOUT_SECONDS * 2), "retry", True, id="too slow"),
        pytest.param(behaviours.hanging(), "retry", False, id="hanging"),
        pytest.param(behaviours.dripping(), "delivered", False, id="dripping"),
        pytest.param(behaviours.oversize(), "delivered", False, id="oversize"),
        pytest.param(behaviours.wrong_content(), "delivered", False, id="wrong content"),
        pytest.param(behaviours.cut_off(), "delivered", False, id="cut off"),
        pytest.param(behaviours.resetting(), "retry", False, id="resetting"),
        pytest.param(behaviours.forgetful(), "retry", True, id="forgetful"),
        pytest.param(behaviours.answering(500), "retry", False, id="500"),
        pytest.param(behaviours.answering(429, retry_after="30"), "retry", False, id="429"),
        pytest.param(behaviours.answering(404), "dead", False, id="404"),
        pytest.param(behaviours.redirecting("http://127.0.0.1:9/"), "dead", False, id="redirecting"),
    ],
)
def test_whatever_a_subscriber_does_it_misses_nothing_in_the_end(
    system: System, subscriber: Subscriber, behaviour: Behaviour, status: str, doubles: bool
) -> None:
    subscriber.behave(behaviour)
    names = [system.log_change() for _ in range(_CHANGES)]
    system.deliver()
    assert [found for found, _ in system.delivery_statuses()] == [status] * _CHANGES

    subscriber.behave(behaviours.healthy())
    replay_dead(system)
    system.make_deliveries_due()
    system.deliver()
    tally = subscriber.tally
    assert tally.missed(names) == []
    assert set(tally.doubled()) == (set(names) if doubles else set())
    assert (tally.bad_signatures, tally.mislabelled) == (0, 0)
