"""Without wake-ups, workers and deliverers look for work by their own clock, and an alert says why."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

import pytest
import redis as redis_client

from tests.support import traffic
from tests.support.cluster import Cluster, SimulatedSource


@contextmanager
def out_of_memory(cluster: Cluster) -> Iterator[None]:
    with redis_client.Redis.from_url(cluster.redis.url) as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextmanager
def read_only(cluster: Cluster) -> Iterator[None]:
    with redis_client.Redis.from_url(cluster.redis.url) as client:
        client.replicaof("127.0.0.1", 1)
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextmanager
def absent(cluster: Cluster) -> Iterator[None]:
    cluster.redis.kill()
    for name in (*cluster.names("worker"), *cluster.names("deliverer")):  # they must also start without it
        cluster.restart(name)
    yield  # the cluster starts it again


@contextmanager
def without_beat(cluster: Cluster) -> Iterator[None]:
    cluster.stop("beat")
    stopping = threading.Event()

    def lose_wake_ups() -> None:
        with redis_client.Redis.from_url(cluster.redis.url) as client:
            while not stopping.wait(0.001):
                client.flushall()

    thread = threading.Thread(target=lose_wake_ups)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


FAULTS: Mapping[str, tuple[Callable[[Cluster], AbstractContextManager[None]], str]] = {
    "out of memory": (out_of_memory, "maxmemory"),
    "read-only": (read_only, "read only"),
    "absent": (absent, "refuse"),
    "without beat": (without_beat, "beat"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_receipts_are_processed_and_an_alert_fires(source: SimulatedSource, fault: str) -> None:
    cluster = source.cluster
    cluster.start("deliverer")
    begin, words = FAULTS[fault]
    happenings = traffic.happenings(20, seed=31)
    began = cluster.rows("SELECT now()")[0][0]
    with begin(cluster):
        done = source.provider.send(source.bodies(happenings))
        assert set(done.statuses) == {200}
        source.assert_every_acknowledged_event_stored_once(happenings, done)
        found = "SELECT FROM periodic_tasks WHERE task = 'tidings.deliver' AND ran_at > greatest(wake_up_at, %(began)s)"
        cluster.wait_for(lambda: bool(cluster.rows(found, began=began)), "deliverer")
        fired = (
            "SELECT FROM alert_steps JOIN alerts ON alerts.id = alert_id"
            " WHERE rule = 'broker-unusable' AND state = 'firing' AND alerts.summary LIKE %(words)s"
        )
        cluster.wait_for(lambda: bool(cluster.rows(fired, words=f"%{words}%")), "worker", "worker 2")
    with cluster.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE alerts CASCADE")  # a resolved one would cool down


def test_a_worker_without_a_broker_ends_if_the_process_that_runs_its_tasks_has_ended(cluster: Cluster) -> None:
    """Celery replaces that process only while it is connected. A supervisor starts the whole worker again."""
    worker = cluster.processes["worker"]
    logged = worker.log.stat().st_size

    def has_said(words: bytes) -> bool:
        """Whether the worker has logged this since; earlier tests have left their lines."""
        return words in worker.log.read_bytes()[logged:]

    cluster.redis.kill()
    cluster.wait_for(lambda: has_said(b"Cannot connect"), "worker")
    worker.kill_child()
    cluster.wait_for(lambda: not worker.is_running, "worker")
    assert has_said(b"was not replaced")


class SlowProxy:
    """Passes bytes on between clients and a server, each part late."""

    def __init__(self, port: int, delay_seconds: float) -> None:
        self._to = port
        self._delay_seconds = delay_seconds
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self._sockets[0].getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                self._sockets.append(client)
                server = socket.create_connection(("127.0.0.1", self._to))
                self._sockets.append(server)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                time.sleep(self._delay_seconds)
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)


def test_receipts_are_processed_with_a_slow_broker(source: SimulatedSource) -> None:
    cluster = source.cluster
    url = cluster.environment["TIDINGS_BROKER_URL"]
    proxy = SlowProxy(int(url.rpartition(":")[2].partition("/")[0]), delay_seconds=1.0)
    cluster.environment["TIDINGS_BROKER_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
    names = list(cluster.processes)
    try:
        for name in names:
            cluster.restart(name)
        for name in cluster.names("receiver"):
            cluster.wait_for(lambda name=name: cluster.answers(name, "/readyz"), name)  # type: ignore[misc]
        happenings = traffic.happenings(20, seed=32)
        done = source.provider.send(source.bodies(happenings))
        assert set(done.statuses) == {200}
        source.assert_every_acknowledged_event_stored_once(happenings, done)
    finally:
        cluster.environment["TIDINGS_BROKER_URL"] = url
        for name in names:
            cluster.restart(name)
        proxy.close()
