"""Every simulated provider. A new one is a folder here and a row below."""

from collections.abc import Mapping

from simulator.providers.api.account import Account
from simulator.providers.ark.api import ArkAccount
from simulator.providers.ark.webhooks import Ark
from simulator.providers.base import Dialect
from simulator.providers.cloudmailin.webhooks import CloudMailin
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.providers.mailwebhook.webhooks import MailWebhook
from simulator.providers.postal.webhooks import Postal

DIALECTS: Mapping[str, type[Dialect]] = {
    dialect.NAME: dialect for dialect in (MailChannels, Ark, Postal, CloudMailin, MailWebhook)
}


def open_account(dialect: Dialect) -> Account | None:
    """Return the account that the dialect sends for; None where the provider has no management API."""
    if isinstance(dialect, MailChannels):
        return MailChannelsAccount(dialect)
    if isinstance(dialect, Ark):
        return ArkAccount(dialect)
    return None
