"""Whatever dies under load, and in whatever order: what was answered with 200 has its effect, and has it once."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos import traffic
from tests.chaos.house import House, flush
from tests.chaos.stage import Stage


def deaths(house: House) -> list[Callable[[], None]]:
    """Every way to die that there is, each with what an operator or a supervisor does about it."""

    def die(name: str, how: str) -> Callable[[], None]:
        def death() -> None:
            getattr(house.processes[name], how)()
            time.sleep(0.1)
            house.bring_back(name)

        return death

    def restart_redis() -> None:
        house.redis.kill()
        house.redis.start()

    def crash_postgres() -> None:
        house.postgres.kill()
        house.postgres.start()

    return [
        die("receiver", "kill"),
        die("receiver 2", "kill_child"),
        die("worker", "kill"),
        die("worker 2", "kill_parent"),
        house.processes["worker"].kill_child,  # it makes itself another one
        die("beat", "kill"),
        restart_redis,
        lambda: flush(house.redis),
        house.postgres.restart,
        crash_postgres,
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_acknowledged_is_lost_or_done_twice_in_whatever_order_everything_is_killed(
    stage: Stage, seed: int
) -> None:
    told = traffic.happenings(3000, seed=seed)
    order = deaths(stage.house)
    random.Random(seed).shuffle(order)
    poison = b"%d: authentic, and no JSON" % seed
    over = threading.Event()
    bodies = traffic.paced([poison, *stage.bodies(told, seed=seed)], seconds=8, until=over)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(stage.provider.send, bodies, repeats=0.1)
        try:
            for death in order:
                time.sleep(0.2)
                death()
        finally:
            over.set()
    done = sending.result()

    stage.house.wait_until_ready()
    stage.every_acknowledged_event_had_its_effect_once(told, done, dead=1)


def test_two_beats_and_four_workers_do_each_thing_once(stage: Stage) -> None:
    stage.house.start_and_wait("beat 2", "worker 3", "worker 4")
    told = traffic.happenings(1000, seed=4)
    # Everything is told twice, in different bodies, so that workers meet over the same events and messages.
    bodies = stage.bodies(told, seed=4) + stage.bodies(told, seed=5)
    random.Random(4).shuffle(bodies)
    done = stage.provider.send(bodies, repeats=0.1)
    assert set(done.statuses) == {200}
    stage.every_acknowledged_event_had_its_effect_once(told, done)


def test_a_worker_that_slept_past_its_lease_writes_nothing_when_it_wakes(stage: Stage) -> None:
    house = stage.house
    house.stop("worker 2")
    sleeper = house.processes["worker"]
    told = traffic.happenings(100, seed=6)
    with house.holding_workers():
        done = stage.provider.send(stage.bodies(told))
        house.must_come(lambda: bool(house.leased()), "worker")
        sleeper.freeze()
    house.let_time_pass()
    house.processes["sleeper"] = house.processes.pop("worker")
    house.start("worker 2")
    stage.every_acknowledged_event_had_its_effect_once(told, done)
    before = stage.house.states(stage.source_id), house.rows("SELECT count(*) FROM state_changes")

    said = sleeper.log.stat().st_size
    sleeper.thaw()

    house.must_come(lambda: b"lease was lost" in sleeper.log.read_bytes()[said:], "worker")
    assert (stage.house.states(stage.source_id), house.rows("SELECT count(*) FROM state_changes")) == before
    stage.every_acknowledged_event_had_its_effect_once(told, done)


def test_what_kills_every_worker_that_touches_it_ends_dead_and_its_neighbours_are_all_processed(stage: Stage) -> None:
    house = stage.house
    house.stop("worker", "worker 2")
    told = traffic.happenings(60, seed=7)
    bodies = stage.bodies(told)
    middle = len(bodies) // 2
    done = stage.provider.send([*bodies[:middle], traffic.DEADLY, *bodies[middle:]])
    house.start("worker that dies", application="tests.chaos.deadly")

    house.settle(leases_run_out_seconds=0.5, ring=True)

    stage.every_acknowledged_event_had_its_effect_once(told, done, dead=1)
    [(state, reason, attempts)] = house.rows(
        "SELECT state, reason, attempts FROM parked_receipts WHERE source_id = %(id)s", id=stage.source_id
    )
    assert (state, reason) == ("dead", "attempts_exhausted")
    assert attempts == 6, "the attempt that found five before it"
