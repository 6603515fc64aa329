"""One module per provider, each playing it from its documents. A new one is a module here and a row below."""

from collections.abc import Mapping

from simulator.dialects.ark import Ark
from simulator.dialects.base import Dialect
from simulator.dialects.cloudmailin import CloudMailin
from simulator.dialects.mailchannels import MailChannels
from simulator.dialects.mailwebhook import MailWebhook
from simulator.dialects.postal import Postal

DIALECTS: Mapping[str, type[Dialect]] = {
    dialect.NAME: dialect for dialect in (MailChannels, Ark, Postal, CloudMailin, MailWebhook)
}
