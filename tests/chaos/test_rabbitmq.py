"""RabbitMQ as the broker: stopped, restarted, or short of memory, it loses and delays nothing for long."""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from cli import embedded
from cli.embedded.server import Server
from cli.supervisor import ports
from cli.supervisor.watchdog import Watchdog
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.support import traffic
from tests.support.cluster import Cluster, SimulatedSource

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Where Debian's package has the scripts that run as the present user."""


class RabbitMq(Server):
    """A RabbitMQ server with everything it writes in one directory."""

    name: ClassVar[str] = "rabbitmq"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    holds_data: ClassVar[bool] = False

    def __init__(self, data_dir: Path, watchdog: Watchdog) -> None:
        super().__init__(data_dir, watchdog=watchdog)
        self._names_port, self._nodes_port = ports.free_port(), ports.free_port()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def is_ready(self) -> bool:
        with socket.socket() as client:
            return self.is_running and client.connect_ex(("127.0.0.1", self.port)) == 0

    def control(self, *words: str) -> None:
        """Run a command of `rabbitmqctl`."""
        subprocess.run([*self._environment(), str(SCRIPTS / "rabbitmqctl"), "--quiet", *words], check=True, timeout=60)

    def _environment(self) -> list[str]:
        variables = {
            "HOME": self.data_dir,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": self._names_port,
            "RABBITMQ_DIST_PORT": self._nodes_port,
            "RABBITMQ_NODENAME": f"tidings-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_CONFIG_FILE": self.data_dir / "none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.data_dir / "plugins",
            "RABBITMQ_LOG_BASE": self.data_dir / "log",
            "RABBITMQ_MNESIA_BASE": self.data_dir / "mnesia",
        }
        return ["env", *(f"{name}={value}" for name, value in variables.items())]

    def _prepare(self) -> None:
        """There is nothing to prepare."""

    def _command(self) -> list[str]:
        # Without an epmd of its own in this session, RabbitMQ would start one that outlives it.
        return [*self._environment(), "/bin/sh", "-c", f"epmd & exec {SCRIPTS}/rabbitmq-server"]


@pytest.fixture(scope="module")
def rabbitmq_source(session_dir: Path, watchdog: Watchdog) -> Iterator[SimulatedSource]:
    """A source of a cluster whose broker is RabbitMQ."""
    if not (SCRIPTS / "rabbitmq-server").exists() or shutil.which("epmd") is None:
        pytest.skip("RabbitMQ is not installed here; Debian's package is rabbitmq-server.")
    directory = Path(tempfile.mkdtemp(prefix="rabbitmq-", dir=session_dir))
    directory.chmod(0o711)
    with (
        embedded.postgres(directory / "postgres", watchdog=watchdog) as postgres,
        RabbitMq(directory / "rabbitmq", watchdog) as rabbitmq,
    ):
        cluster = Cluster(postgres, rabbitmq, directory, watchdog)
        try:
            cluster.start_and_wait("receiver", "worker", "deliverer", "beat")
            dialect = MailChannels(seed=61)
            yield SimulatedSource(cluster, "mc", dialect, cluster.add_source("mc", dialect))
        finally:
            cluster.close()


@contextmanager
def stopped(broker: RabbitMq) -> Iterator[None]:
    broker.kill()
    try:
        yield
    finally:
        broker.start()


@contextmanager
def memory_alarm(broker: RabbitMq) -> Iterator[None]:
    broker.control("set_vm_memory_high_watermark", "absolute", "1")
    try:
        yield
    finally:
        broker.control("set_vm_memory_high_watermark", "0.4")


FAULTS: Mapping[str, tuple[Callable[[RabbitMq], AbstractContextManager[None]], str]] = {
    "stopped": (stopped, "refuse"),
    "memory alarm": (memory_alarm, "short of memory"),
}


def wait_for_wake_ups(cluster: Cluster) -> None:
    """Wait until messages arrive at workers and deliverers."""
    [(now,)] = cluster.rows("SELECT now()")
    arrived = "SELECT FROM periodic_tasks WHERE wake_up_at > %(now)s AND task IN ('tidings.sweep', 'tidings.deliver')"
    cluster.wait_for(lambda: len(cluster.rows(arrived, now=now)) == 2, "worker", "deliverer", "beat")


@pytest.mark.parametrize("fault", FAULTS)
def test_receipts_are_processed_and_an_alert_fires(rabbitmq_source: SimulatedSource, fault: str) -> None:
    cluster = rabbitmq_source.cluster
    broker = cluster.redis
    assert isinstance(broker, RabbitMq)
    begin, words = FAULTS[fault]
    happenings = traffic.happenings(20, seed=62 + len(fault))
    wait_for_wake_ups(cluster)
    with begin(broker):
        done = rabbitmq_source.provider.send(rabbitmq_source.bodies(happenings))
        assert set(done.statuses) == {200}
        cluster.wait_until_processed()
        assert rabbitmq_source.count_by_state(done.ids) == {"processed": len(done.ids)}
        fired = "SELECT FROM alerts WHERE rule = 'broker-unusable' AND resolved_at IS NULL AND summary LIKE %(words)s"
        cluster.wait_for(lambda: bool(cluster.rows(fired, words=f"%{words}%")), "worker", "deliverer")
    wait_for_wake_ups(cluster)
    cluster.assert_nothing_doubled()
    with cluster.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE alerts CASCADE")  # a resolved one would cool down


def test_a_restart_under_load_loses_nothing(rabbitmq_source: SimulatedSource) -> None:
    cluster = rabbitmq_source.cluster
    happenings = traffic.happenings(300, seed=90)
    bodies = traffic.paced(rabbitmq_source.bodies(happenings), seconds=5)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(rabbitmq_source.provider.send, bodies)
        cluster.redis.restart()
    done = sending.result()
    assert set(done.statuses) == {200}
    cluster.wait_until_processed()
    assert rabbitmq_source.count_by_state(done.ids) == {"processed": len(done.ids)}
    cluster.assert_nothing_doubled()
    wait_for_wake_ups(cluster)
