"""Registry of providers. A new one is a package beside these and a row here."""

from collections.abc import Mapping

from shared.providers import ark, cloudmailin, mailchannels, mailwebhook, postal
from shared.providers.webhooks.base import Provider

PROVIDERS: Mapping[str, Provider] = {
    package.NAME: package for package in (mailchannels, ark, postal, cloudmailin, mailwebhook)
}
