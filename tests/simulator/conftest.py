"""A receiver, and MailChannels' account that leads to it; the `server` with the account is the test's own."""

from collections.abc import Iterator

import pytest

from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.server import ProviderServer
from tests.simulator.ends import Caller, Receiver


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
