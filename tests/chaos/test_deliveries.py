"""Whatever dies during deliveries: each subscriber gets every change, and a repetition has the id of the first."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from tests.support import http_sink, rows, traffic
from tests.support.cluster import PATIENCE_SECONDS, Cluster, SimulatedSource, flush
from tests.support.http_sink import HttpSink

DELIVERERS = ("deliverer", "deliverer 2")


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def deaths(cluster: Cluster) -> list[Callable[[], None]]:
    """Every way to die that matters here, each with what a supervisor does about it."""

    def die(name: str) -> Callable[[], None]:
        def death() -> None:
            cluster.processes[name].kill()
            time.sleep(0.1)
            cluster.restart(name)

        return death

    def restart_redis() -> None:
        cluster.redis.kill()
        cluster.redis.start()

    def crash_postgres() -> None:
        cluster.postgres.kill()
        cluster.postgres.start()

    kinds = (*DELIVERERS, *DELIVERERS, "worker", "worker 2", "beat")
    return [*map(die, kinds), restart_redis, lambda: flush(cluster.redis), crash_postgres]


def settle(cluster: Cluster, subscriptions: Sequence[UUID]) -> None:
    """Wait until everything that was logged has been delivered to these; leases and waiting times are made to pass."""
    began_at = aged_at = time.monotonic()
    while left := cluster.rows(
        "SELECT (SELECT count(*) FROM state_changes WHERE (transaction, id) > (f.transaction, f.id)) AS to_follow,"
        " (SELECT count(*) FROM pending_deliveries WHERE subscription_id = ANY(%(ids)s)) AS pending FROM fan_out AS f",
        ids=subscriptions,
    ):
        if left == [(0, 0)]:
            return
        now = time.monotonic()
        assert now < began_at + PATIENCE_SECONDS, (
            f"still to be delivered: {left}; {cluster.rows('SELECT last_error FROM endpoint_health')}\n"
            f"{cluster.log_tails(*DELIVERERS)}"
        )
        if now > aged_at + 2:
            with cluster.engine.begin() as connection:
                connection.exec_driver_sql(
                    "UPDATE pending_deliveries SET"
                    " lease_until = CASE WHEN lease_until > now() THEN now() - interval '1 s' ELSE lease_until END,"
                    " available_at = least(available_at, now()) WHERE delivery_id IN ("
                    "SELECT delivery_id FROM pending_deliveries ORDER BY delivery_id FOR UPDATE SKIP LOCKED)"
                )
                connection.exec_driver_sql("UPDATE endpoint_health SET open_until = NULL")
            aged_at = now
        time.sleep(0.05)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_subscriber_misses_a_change_in_whatever_order_everything_is_killed(
    source: SimulatedSource, sink: HttpSink, seed: int
) -> None:
    cluster = source.cluster
    cluster.start_and_wait(*DELIVERERS)
    with cluster.engine.begin() as connection:
        subscriptions = [
            rows.insert_subscription(
                connection, cluster.vault, f"{sink.url}/{number}", sources=[source.slug], ordered=ordered
            )
            for number, ordered in enumerate((False, True))
        ]
    order = deaths(cluster)
    random.Random(seed).shuffle(order)
    happenings = traffic.happenings(800, seed=seed)
    bodies = traffic.paced(source.bodies(happenings, seed=seed), seconds=8)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(source.provider.send, bodies)
        for death in order:
            time.sleep(0.3)
            death()
    done = sending.result()
    cluster.wait_until_ready()
    source.assert_every_acknowledged_event_stored_once(happenings, done)
    settle(cluster, [id_ for id_, _ in subscriptions])

    logged = {
        f"{row[0]}-{row[1]}"
        for row in cluster.rows(
            "SELECT transaction::text, id FROM state_changes WHERE source_id = %(id)s", id=source.source_id
        )
    }
    assert logged
    for number, (subscription, _) in enumerate(subscriptions):
        heard = Counter(request.id for request in sink.received if request.path == f"/{number}")
        assert set(heard) == logged
        made = cluster.rows(
            "SELECT status, count(*), count(DISTINCT (change_transaction, change_id)) FROM deliveries"
            " WHERE subscription_id = %(id)s GROUP BY status",
            id=subscription,
        )
        assert made == [("delivered", len(logged), len(logged))]
    said = {(request.id, request.json["type"], request.json["timestamp"]) for request in sink.received}
    assert len(said) == len(logged)
