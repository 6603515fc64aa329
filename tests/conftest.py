"""What every test may ask for: a PostgreSQL, a database in it, a Redis. All of them real.

Servers are started once for the whole run, on free ports, in a directory of their own;
TIDINGS_TEST_DATABASE_URL and TIDINGS_TEST_BROKER_URL name others to use instead. A test that kills servers
makes its own by `make_postgres` and `make_redis`.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis as redis_client

from cli import embedded
from cli.supervisor.watchdog import Watchdog
from tests.support.databases import DatabasePool, DatabaseServer


@pytest.fixture(scope="session")
def watchdog() -> Iterator[Watchdog]:
    """Stops every server of this run when the run is killed."""
    with Watchdog() as watchdog:
        yield watchdog


def _new_directory() -> Path:
    # pytest's own are closed to the user that PostgreSQL runs as when the tests are run by root.
    directory = Path(tempfile.mkdtemp(prefix="tidings-test-"))
    directory.chmod(0o711)
    return directory


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A directory for the whole run, which also an unprivileged user can reach."""
    directory = _new_directory()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory for one test, which also an unprivileged user can reach."""
    directory = _new_directory()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(session_dir: Path, watchdog: Watchdog) -> Iterator[DatabaseServer]:
    """One PostgreSQL server for the whole run."""
    if url := os.environ.get("TIDINGS_TEST_DATABASE_URL"):
        yield DatabaseServer(url)
        return
    # The machine does not crash during the tests; what must survive a crash is tested with `make_postgres`.
    # Without autovacuum, which would analyze tables at moments that no test chooses.
    settings = {"fsync": "off", "max_connections": "300", "autovacuum": "off"}
    with embedded.postgres(session_dir / "postgres", watchdog=watchdog, settings=settings) as server:
        yield DatabaseServer(server.url)


@pytest.fixture(scope="session")
def databases(postgres: DatabaseServer) -> Iterator[DatabasePool]:
    """Lends databases that are migrated and otherwise empty."""
    pool = DatabasePool(postgres)
    yield pool
    pool.close()


@pytest.fixture
def database_url(databases: DatabasePool) -> Iterator[str]:
    """A database for one test, in exactly the freshly migrated state."""
    with databases.database() as url:
        yield url


@pytest.fixture
def empty_database(databases: DatabasePool) -> Iterator[str]:
    """The URL of a database without tables."""
    with databases.unmigrated_database() as url:
        yield url


@pytest.fixture(scope="session")
def redis(session_dir: Path, watchdog: Watchdog) -> Iterator[str]:
    """The URL of one Redis server for the whole run. Tests ask for `broker_url`, which is emptied first."""
    if url := os.environ.get("TIDINGS_TEST_BROKER_URL"):
        yield url
        return
    with embedded.redis(session_dir / "redis", watchdog=watchdog) as server:
        yield server.url


@pytest.fixture
def broker_url(redis: str) -> str:
    """An empty Redis for one test."""
    with redis_client.Redis.from_url(redis) as client:
        client.flushall()
    return redis


@pytest.fixture
def make_postgres(watchdog: Watchdog) -> Iterator[Callable[[], embedded.Postgres]]:
    """Starts PostgreSQL servers, with the settings of production, that the test may kill and start again."""
    made: list[embedded.Postgres] = []

    def make() -> embedded.Postgres:
        server = embedded.postgres(_new_directory(), watchdog=watchdog)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.stop()
        shutil.rmtree(server.data_dir, ignore_errors=True)


@pytest.fixture
def make_redis(watchdog: Watchdog) -> Iterator[Callable[[], embedded.Redis]]:
    """Starts Redis servers that the test may kill, freeze and start again."""
    made: list[embedded.Redis] = []

    def make() -> embedded.Redis:
        server = embedded.redis(_new_directory(), watchdog=watchdog)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.stop()
        shutil.rmtree(server.data_dir, ignore_errors=True)
