"""Commands on a database of their own."""

from collections.abc import Iterator

import pytest

from shared.encryption import new_key
from tests.api.house import opened
from tests.ops.commands import Commands


@pytest.fixture
def commands(database_url: str) -> Iterator[Commands]:
    """The command line, set up by its settings."""
    key = new_key()
    # Whatever the tests' own environment names must not be met.
    settings = {"TIDINGS_DATABASE_URL": database_url, "TIDINGS_SECRET_KEYS": key, "TIDINGS_BROKER_URL": ""}
    with opened(database_url, key) as house:
        yield Commands(house, settings)
