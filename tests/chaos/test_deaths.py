"""Whatever dies under load, in any order: every acknowledged webhook has its effect exactly once."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import traffic
from tests.support.cluster import Cluster, SimulatedSource, flush


def deaths(cluster: Cluster) -> list[Callable[[], None]]:
    """All ways in which a process can die, each with the reaction of an operator or a supervisor."""

    def die(name: str, how: str) -> Callable[[], None]:
        def death() -> None:
            getattr(cluster.processes[name], how)()
            time.sleep(0.1)
            cluster.restart(name)

        return death

    def restart_redis() -> None:
        cluster.redis.kill()
        cluster.redis.start()

    def crash_postgres() -> None:
        cluster.postgres.kill()
        cluster.postgres.start()

    return [
        die("receiver", "kill"),
        die("receiver 2", "kill_child"),
        die("worker", "kill"),
        die("worker 2", "kill_parent"),
        cluster.processes["worker"].kill_child,  # it makes itself another one
        die("beat", "kill"),
        restart_redis,
        lambda: flush(cluster.redis),
        cluster.postgres.restart,
        crash_postgres,
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_acknowledged_is_lost_or_done_twice_in_whatever_order_everything_is_killed(
    source: SimulatedSource, seed: int
) -> None:
    happenings = traffic.happenings(3000, seed=seed)
    order = deaths(source.cluster)
    random.Random(seed).shuffle(order)
    poison = b"%d: authentic, and no JSON" % seed
    over = threading.Event()
    bodies = traffic.paced([poison, *source.bodies(happenings, seed=seed)], seconds=8, until=over)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(source.provider.send, bodies, repeats=0.1)
        try:
            for death in order:
                time.sleep(0.2)
                death()
        finally:
            over.set()
    done = sending.result()

    source.cluster.wait_until_ready()
    source.assert_every_acknowledged_event_stored_once(happenings, done, dead=1)


def test_two_beats_and_four_workers_do_each_thing_once(source: SimulatedSource) -> None:
    source.cluster.start_and_wait("beat 2", "worker 3", "worker 4")
    happenings = traffic.happenings(1000, seed=4)
    # Every event is sent twice, in different bodies, so that workers compete for the same events and messages.
    bodies = source.bodies(happenings, seed=4) + source.bodies(happenings, seed=5)
    random.Random(4).shuffle(bodies)
    done = source.provider.send(bodies, repeats=0.1)
    assert set(done.statuses) == {200}
    source.assert_every_acknowledged_event_stored_once(happenings, done)


def test_a_worker_that_slept_past_its_lease_writes_nothing_when_it_wakes(source: SimulatedSource) -> None:
    cluster = source.cluster
    cluster.stop("worker", "worker 2")
    happenings = traffic.happenings(100, seed=6)
    done = source.provider.send([traffic.SLEEPY, *source.bodies(happenings)])
    cluster.start("worker that sleeps", application="tests.chaos.crashing_worker")
    sleeper = cluster.processes["worker that sleeps"]
    # Not sooner: frozen while it connects to the database, it would wake to an error instead.
    cluster.wait_for(lambda: b"stops itself" in sleeper.log.read_bytes(), "worker that sleeps")
    sleeper.freeze()
    cluster.make_receipts_due()
    cluster.start("worker 2")
    source.assert_every_acknowledged_event_stored_once(happenings, done, dead=1)
    # Suppressions and alerts change by periodic tasks, too.
    changes = "SELECT count(*) FROM state_changes WHERE source_id = %(id)s AND type LIKE 'message.%%'"
    before = source.cluster.states(source.source_id), cluster.rows(changes, id=source.source_id)

    def has_lost_its_lease() -> bool:
        sleeper.thaw()  # again and again: it may stop itself after the first time
        return b"lease lost" in sleeper.log.read_bytes()

    cluster.wait_for(has_lost_its_lease, "worker that sleeps")
    assert (source.cluster.states(source.source_id), cluster.rows(changes, id=source.source_id)) == before
    source.assert_every_acknowledged_event_stored_once(happenings, done, dead=1)


def test_a_receipt_that_kills_every_worker_ends_dead_and_all_others_are_processed(
    source: SimulatedSource,
) -> None:
    cluster = source.cluster
    cluster.stop("worker", "worker 2")
    happenings = traffic.happenings(60, seed=7)
    bodies = source.bodies(happenings)
    middle = len(bodies) // 2
    done = source.provider.send([*bodies[:middle], traffic.DEADLY, *bodies[middle:]])
    cluster.start("worker that dies", application="tests.chaos.crashing_worker")

    cluster.wait_until_processed(due_after_seconds=0.5, ring=True)

    source.assert_every_acknowledged_event_stored_once(happenings, done, dead=1)
    [(state, reason, attempts)] = cluster.rows(
        "SELECT state, reason, attempts FROM parked_receipts WHERE source_id = %(id)s", id=source.source_id
    )
    assert (state, reason) == ("dead", "attempts_exhausted")
    assert attempts > 5  # the attempt that finds five before it, or more: its lease runs out, too
