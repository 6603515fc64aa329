"""Commands on a database for each test."""

from collections.abc import Iterator

import pytest

from tests.support.command_line import Commands
from tests.support.system import BEGIN, open_system


@pytest.fixture
def commands(database_url: str) -> Iterator[Commands]:
    """The command line, on an empty system."""
    with open_system(database_url, begin=BEGIN) as system:
        yield Commands(system, system.environment)
