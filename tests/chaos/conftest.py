"""One cluster for the whole folder, on servers with production's settings; every test finds it complete and running."""

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from cli import embedded
from cli.supervisor.watchdog import Watchdog
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.support.cluster import Cluster, SimulatedSource

_numbers = count(1)
_PROCESSES = ("receiver", "receiver 2", "worker", "worker 2", "beat")


@pytest.fixture(scope="package")
def running_cluster(session_dir: Path, watchdog: Watchdog) -> Iterator[Cluster]:
    """Two receivers, two workers and beat."""
    # Created again if tests of other folders ran in between: each cluster has its own secret keys.
    directory = Path(tempfile.mkdtemp(prefix="chaos-", dir=session_dir))
    directory.chmod(0o711)
    with (
        embedded.postgres(directory / "postgres", watchdog=watchdog) as postgres,
        embedded.redis(directory / "redis", watchdog=watchdog) as redis,
    ):
        cluster = Cluster(postgres, redis, directory, watchdog)
        try:
            cluster.start_and_wait(*_PROCESSES)
            yield cluster
        finally:
            cluster.close()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with everything in its place before and after."""
    yield running_cluster
    running_cluster.restore(*_PROCESSES)


@pytest.fixture
def source(cluster: Cluster) -> SimulatedSource:
    """A source without any receipt."""
    number = next(_numbers)
    dialect = MailChannels(seed=number)
    slug = f"mc-{number}"
    return SimulatedSource(cluster, slug, dialect, cluster.add_source(slug, dialect))
