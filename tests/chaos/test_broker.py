"""Redis is only the doorbell: without it nobody waits longer for an answer, and nothing is lost."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from shared import doorbell
from shared.doorbell import Doorbell
from tests.chaos import traffic
from tests.chaos.house import flush, frozen
from tests.chaos.stage import Stage

ANSWER_SECONDS = 5.0  # generous: the machine may be busy with other things


def test_flushing_everything_again_and_again_loses_nothing(stage: Stage) -> None:
    told = traffic.happenings(600, seed=11)
    bodies = traffic.paced(stage.bodies(told), seconds=3)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(stage.provider.send, bodies)
        flushed = 0
        while not sending.done():
            flush(stage.house.redis)
            flushed += 1
            time.sleep(0.02)
    done = sending.result()
    assert flushed > 10
    assert set(done.statuses) == {200}
    stage.every_acknowledged_event_had_its_effect_once(told, done)


def test_a_bell_that_nobody_hears_costs_only_the_wait_for_the_sweep(stage: Stage) -> None:
    told = traffic.happenings(200, seed=12)
    stage.house.redis.kill()
    done = stage.provider.send(stage.bodies(told))
    assert set(done.statuses) == {200}
    assert done.slowest_seconds < ANSWER_SECONDS
    assert stage.house.pending()

    for receiver in stage.house.names("receiver"):
        stage.house.bring_back(receiver)  # it would have rung once more, had it lived
    stage.house.redis.start()

    stage.every_acknowledged_event_had_its_effect_once(told, done)


def test_a_broker_that_is_frozen_costs_no_request_anything(stage: Stage) -> None:
    told = traffic.happenings(200, seed=13)
    with frozen(stage.house.redis):
        done = stage.provider.send(stage.bodies(told))
    assert set(done.statuses) == {200}
    assert done.slowest_seconds < ANSWER_SECONDS
    stage.every_acknowledged_event_had_its_effect_once(told, done)


def test_a_worker_that_was_busy_while_the_broker_was_gone_hears_the_bell_again(stage: Stage) -> None:
    house = stage.house
    house.stop("worker 2")  # which would do the work in its place
    first, second = traffic.happenings(20, seed=14), traffic.happenings(20, seed=15)
    with house.holding_workers():
        done = stage.provider.send(stage.bodies(first))
        house.must_come(lambda: bool(house.leased()), "worker")
        house.redis.kill()
    house.must_come(lambda: not house.leased(), "worker")
    house.redis.start()
    stage.every_acknowledged_event_had_its_effect_once(first, done)

    done = stage.provider.send(stage.bodies(second))

    stage.every_acknowledged_event_had_its_effect_once(first + second, done)


def test_a_worker_that_has_no_time_for_thousands_of_bells_lets_go_of_them_and_works_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = stage.house
    house.stop("worker 2")
    first, second = traffic.happenings(20, seed=16), traffic.happenings(20, seed=17)
    monkeypatch.setattr(doorbell, "_EXPIRES", timedelta(seconds=1))
    bell = Doorbell(house.redis.url)
    with house.holding_workers():
        done = stage.provider.send(stage.bodies(first))
        house.must_come(house.has_waiting_workers, "worker")
        assert all(bell.ring() for _ in range(3000))
        time.sleep(1.5)  # until they have expired
    bell.close()
    stage.every_acknowledged_event_had_its_effect_once(first, done)

    done = stage.provider.send(stage.bodies(second))

    stage.every_acknowledged_event_had_its_effect_once(first + second, done)
    assert house.processes["worker"].is_running, house.last_words("worker")
