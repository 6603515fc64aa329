"""Fixtures for every test: a PostgreSQL server, a database in it, and Redis. All of them are real.

Servers are started once for the whole run, on free ports, in a temporary directory. TIDINGS_TEST_DATABASE_URL and
TIDINGS_TEST_BROKER_URL name servers to use instead. A test that kills servers starts separate ones by `make_postgres`
and `make_redis`.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis as redis_client
from sqlalchemy import Engine

from cli import embedded
from cli.supervisor.watchdog import Watchdog
from shared.postgres import engine
from tests.support import log_search
from tests.support.databases import DatabasePool, DatabaseServer

_LONG_FILES = {
    "test_demo.py", "test_growth.py", "test_generated_clients.py", "test_logs.py", "test_transaction_ids.py",
    "test_up.py", "test_effective_state.py", "test_monitoring.py", "test_embedded.py", "test_doctor.py",
}  # fmt: skip
"""Files that take longest. They come first, so that no process is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of long files before all others."""
    items.sort(key=lambda item: item.path.name not in _LONG_FILES)


@pytest.fixture(scope="session", autouse=True)
def _logs_are_searched() -> Iterator[None]:
    """Fail the run if a log of any test contains an address, a secret, or a credential of a source."""
    directory = _new_directory()
    directory.chmod(0o1777)  # some tests start processes as another user
    log_search.collect(directory)
    yield
    faults = list(log_search.list_faults(directory))
    shutil.rmtree(directory, ignore_errors=True)
    assert not faults, "\n".join(faults[:50])


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
    server = embedded.postgres(session_dir / "postgres", watchdog=watchdog, settings=settings)
    server.start()
    yield DatabaseServer(server.url, is_temporary=True)
    server.kill()  # to stop it properly would write what is deleted next


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
def database(database_url: str) -> Iterator[Engine]:
    """An engine for the database of the test."""
    made = engine.create_engine(database_url, application="test", pool_size=10, synchronous_commit=False)
    yield made
    made.dispose()


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
