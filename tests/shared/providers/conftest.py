"""A simulated provider and a client of its API. A module that uses them has a fixture `dialect`."""

from collections.abc import Iterator

import pytest

from shared.providers.api.base import ProviderApi
from simulator.providers.base import Dialect
from simulator.server import ProviderServer
from tests.support.management import open_client


@pytest.fixture
def server(dialect: Dialect) -> Iterator[ProviderServer]:
    with ProviderServer({dialect.NAME: dialect}) as opened:
        yield opened


@pytest.fixture
def client(server: ProviderServer, dialect: Dialect) -> ProviderApi:
    return open_client(server, dialect.NAME)
