"""A workshop for each test."""

from collections.abc import Iterator

import pytest

from tests.workers import workshop as workshops
from tests.workers.workshop import Workshop


@pytest.fixture
def workshop(database_url: str) -> Iterator[Workshop]:
    with workshops.opened(database_url) as opened:
        yield opened
