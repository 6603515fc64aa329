"""The API on a real database. Building its application takes longer than resetting the database between tests."""

from collections.abc import Iterator

import pytest

from tests.support.databases import DatabasePool, Snapshot
from tests.support.system import BEGIN, LOOPBACK, System, open_system

Reusable = tuple[System, Snapshot]


@pytest.fixture(scope="session")
def session_system(databases: DatabasePool) -> Iterator[Reusable]:
    """A system for all tests, one after the other."""
    with databases.database() as url, open_system(url, begin=BEGIN) as system:
        yield system, system.take_snapshot()


@pytest.fixture
def system(session_system: Reusable) -> Iterator[System]:
    """An empty system."""
    system, snapshot = session_system
    yield system
    system.reset(snapshot)


@pytest.fixture(scope="module")
def shared_system(databases: DatabasePool) -> Iterator[System]:
    """A system that the tests of a module share, because they only read."""
    with databases.database() as url, open_system(url, begin=BEGIN) as system:
        yield system


@pytest.fixture(scope="session")
def session_delivery_system(databases: DatabasePool) -> Iterator[Reusable]:
    """A system that delivers to this machine, for all tests that deliver, one after the other."""
    with databases.database() as url, open_system(url, begin=BEGIN, egress_allow=LOOPBACK) as system:
        yield system, system.take_snapshot()


@pytest.fixture
def delivery_system(session_delivery_system: Reusable) -> Iterator[System]:
    """An empty system that delivers to this machine."""
    system, snapshot = session_delivery_system
    yield system
    system.reset(snapshot)
