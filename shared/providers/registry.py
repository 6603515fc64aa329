"""The providers that there are. A new one is a module beside these and a row here."""

from collections.abc import Mapping

from shared.providers import ark, cloudmailin, mailchannels, mailwebhook, postal
from shared.providers.base import Provider

PROVIDERS: Mapping[str, Provider] = {
    module.NAME: module for module in (mailchannels, ark, postal, cloudmailin, mailwebhook)
}
