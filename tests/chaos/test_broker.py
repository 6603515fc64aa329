"""Redis only carries wake-ups: without it responses take no longer and nothing is lost."""

import time
from concurrent.futures import ThreadPoolExecutor

from shared.broker import TaskNotifier
from tests.support import traffic
from tests.support.cluster import SimulatedSource, flush, frozen

ANSWER_SECONDS = 10.0  # generous: the machine may be busy with other things


def test_flushing_everything_again_and_again_loses_nothing(source: SimulatedSource) -> None:
    happenings = traffic.happenings(600, seed=11)
    bodies = traffic.paced(source.bodies(happenings), seconds=3)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(source.provider.send, bodies)
        flushed = 0
        while not sending.done():
            flush(source.cluster.redis)
            flushed += 1
            time.sleep(0.02)
    done = sending.result()
    assert flushed > 10
    assert set(done.statuses) == {200}
    source.assert_every_acknowledged_event_stored_once(happenings, done)


def test_a_lost_wake_up_costs_only_the_wait_for_the_sweep(source: SimulatedSource) -> None:
    happenings = traffic.happenings(200, seed=12)
    source.cluster.redis.kill()
    done = source.provider.send(source.bodies(happenings))
    assert set(done.statuses) == {200}
    assert done.slowest_seconds < ANSWER_SECONDS
    assert source.cluster.pending()

    for receiver in source.cluster.names("receiver"):
        source.cluster.restart(receiver)  # it would have sent one more wake-up, had it lived
    source.cluster.redis.start()

    source.assert_every_acknowledged_event_stored_once(happenings, done)


def test_a_broker_that_is_frozen_costs_no_request_anything(source: SimulatedSource) -> None:
    happenings = traffic.happenings(200, seed=13)
    with frozen(source.cluster.redis):
        done = source.provider.send(source.bodies(happenings))
    assert set(done.statuses) == {200}
    assert done.slowest_seconds < ANSWER_SECONDS
    source.assert_every_acknowledged_event_stored_once(happenings, done)


def test_a_worker_that_was_busy_while_the_broker_was_down_receives_wake_ups_again(source: SimulatedSource) -> None:
    cluster = source.cluster
    cluster.stop("worker 2")  # which would do the work in its place
    first, second = traffic.happenings(20, seed=14), traffic.happenings(20, seed=15)
    with cluster.hold_workers():
        done = source.provider.send(source.bodies(first))
        cluster.wait_for(lambda: bool(cluster.leased()), "worker")
        cluster.redis.kill()
    cluster.wait_for(lambda: not cluster.leased(), "worker")
    cluster.redis.start()
    source.assert_every_acknowledged_event_stored_once(first, done)

    done = source.provider.send(source.bodies(second))

    source.assert_every_acknowledged_event_stored_once(first + second, done)


def test_a_worker_drops_thousands_of_expired_wake_ups_and_works_on(source: SimulatedSource) -> None:
    cluster = source.cluster
    cluster.stop("worker 2")
    first, second = traffic.happenings(20, seed=16), traffic.happenings(20, seed=17)
    notifier = TaskNotifier(cluster.redis.url, expiry_seconds=1)
    with cluster.hold_workers():
        done = source.provider.send(source.bodies(first))
        cluster.wait_for(cluster.has_waiting_workers, "worker")
        assert all(notifier.notify() for _ in range(3000))
        time.sleep(1.5)  # until they have expired
    notifier.close()
    source.assert_every_acknowledged_event_stored_once(first, done)

    done = source.provider.send(source.bodies(second))

    source.assert_every_acknowledged_event_stored_once(first + second, done)
    assert cluster.processes["worker"].is_running, cluster.log_tails("worker")
