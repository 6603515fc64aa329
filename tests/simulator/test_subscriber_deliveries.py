"""However a subscriber fails, in the end it has missed nothing; and it got twice only what it took in silence."""

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from shared.db import deliveries
from simulator.subscribing import behaviours
from simulator.subscribing.behaviours import Behaviour
from simulator.subscribing.subscriber import Subscriber
from tests.workers import downstream as downstreams
from tests.workers import workshop as workshops
from tests.workers.downstream import Downstream

_TIMEOUT_SECONDS = 1
_CHANGES = 3


@pytest.fixture
def downstream(database_url: str) -> Iterator[Downstream]:
    loopback = (ip_network("127.0.0.0/8"),)
    with (
        workshops.opened(database_url, egress_allow=loopback) as workshop,
        downstreams.opened(workshop) as opened,
    ):
        yield opened


@pytest.fixture
def subscriber(downstream: Downstream) -> Iterator[Subscriber]:
    with Subscriber() as subscriber:
        subscription = downstream.subscribe(subscriber.endpoint, timeout_s=_TIMEOUT_SECONDS, retry_schedule=[60] * 5)
        subscriber.trust(downstream.secrets[subscription])
        yield subscriber


def replay_dead(downstream: Downstream) -> None:
    dead = [row[0] for row in downstream.workshop.rows("SELECT id FROM deliveries WHERE status = 'dead'")]
    with downstream.workshop.ctx.engine.begin() as connection:
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
    downstream: Downstream, subscriber: Subscriber, behaviour: Behaviour, status: str, doubles: bool
) -> None:
    subscriber.behave(behaviour)
    names = [downstream.change() for _ in range(_CHANGES)]
    downstream.deliver()
    assert [found for found, _ in downstream.statuses()] == [status] * _CHANGES

    subscriber.behave(behaviours.healthy())
    replay_dead(downstream)
    downstream.come_due()
    downstream.deliver()
    tally = subscriber.tally
    assert tally.missed(names) == []
    assert set(tally.doubled()) == (set(names) if doubles else set())
    assert (tally.bad_signatures, tally.mislabelled) == (0, 0)
