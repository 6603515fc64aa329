"""A receiver, and an account of MailChannels whose webhook leads to it; each test file has its own `server`."""

from collections.abc import Iterator

import pytest

from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.server import ProviderServer
from tests.support.simulator_http import Caller, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def account(server: ProviderServer, receiver: Receiver) -> MailChannelsAccount:
    account = server.account("mc", MailChannelsAccount)
    account.enrol(receiver.endpoint)
    return account


@pytest.fixture
def call(server: ProviderServer, account: MailChannelsAccount) -> Caller:
    return Caller(base=server.settings("mc")["api_base"], headers={"X-Api-Key": account.dialect.api_key})
