"""The client of a source's management API, as commands and workers open it, at a simulated account."""

from shared.providers.api.base import NewSuppression, ProviderApi
from shared.providers.registry import PROVIDERS
from shared.sources import provider_api
from shared.sources.source import Source, read_settings
from shared.vocabulary import ALL_MAIL, SuppressionReason
from simulator.providers.base import Dialect
from simulator.server import ProviderServer


def open_client(server: ProviderServer, slug: str, **credentials: object) -> ProviderApi:
    """Open the client of the account that is played under this slug; `credentials` replaces some of the dialect's."""
    dialect: Dialect = server.dialects[slug]
    provider = PROVIDERS[dialect.NAME]
    settings = read_settings(server.settings(slug))
    given = {**dialect.credentials(), **credentials}
    opened = provider.read_credentials(given, {}, settings)
    source = Source(id=1, slug=slug, version=1, provider=provider, credentials=opened, settings=settings)
    return provider_api.open_client(source, sleep=lambda _: None)


def entry(address: str, reason: SuppressionReason = SuppressionReason.MANUAL) -> NewSuppression:
    return NewSuppression(address=address, types=ALL_MAIL, reason=reason, note="by hand")


def listed(client: ProviderApi) -> dict[str, tuple[str, str]]:
    """Read the provider's whole list: our reason and the provider's word by address."""
    return {one.address: (one.reason, one.word) for page in client.suppressions() for one in page}
