"""A system for each test."""

from collections.abc import Iterator

import pytest

from tests.support.system import System, open_system
from tests.support.transitional import Workshop


@pytest.fixture
def system(database_url: str) -> Iterator[System]:
    with open_system(database_url) as system:
        yield system


@pytest.fixture
def workshop(system: System) -> Workshop:
    """The system, under the names of the tests of erasure and fan-out."""
    return Workshop(system)
