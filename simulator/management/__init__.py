"""The providers' management APIs: enrolments, what was delivered and what was not, sending again, suppressions."""

from simulator.dialects.ark import Ark
from simulator.dialects.base import Dialect
from simulator.dialects.mailchannels import MailChannels
from simulator.management.account import Account
from simulator.management.ark import ArkAccount
from simulator.management.mailchannels import MailChannelsAccount


def open_account(dialect: Dialect) -> Account | None:
    """The account that the dialect sends for; None where the provider's API is not played."""
    if isinstance(dialect, MailChannels):
        return MailChannelsAccount(dialect)
    if isinstance(dialect, Ark):
        return ArkAccount(dialect)
    return None
