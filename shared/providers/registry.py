"""The providers that there are. A new one is a module beside these and a row here."""

from collections.abc import Mapping

from shared.providers.ark import webhook as ark
from shared.providers.cloudmailin import webhook as cloudmailin
from shared.providers.mailchannels import webhook as mailchannels
from shared.providers.mailwebhook import webhook as mailwebhook
from shared.providers.postal import webhook as postal
from shared.providers.webhooks.base import Provider

PROVIDERS: Mapping[str, Provider] = {
    module.NAME: module for module in (mailchannels, ark, postal, cloudmailin, mailwebhook)
}
