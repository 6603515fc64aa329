"""A system for each test."""

from collections.abc import Iterator

import pytest

from tests.support.system import System, open_system


@pytest.fixture
def system(database_url: str) -> Iterator[System]:
    with open_system(database_url) as system:
        yield system
