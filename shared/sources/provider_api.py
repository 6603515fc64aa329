"""The management APIs of providers. A new one is an `api.py` in the provider's folder and a row here."""

import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType

from shared.providers.api.base import INTERACTIVE_RETRIES, ProviderApi, ProviderApiError, RetryBudget, is_ours
from shared.providers.api.client import ApiClient
from shared.providers.ark import api as ark
from shared.providers.mailchannels import api as mailchannels
from shared.sources.source import Source

APIS: Mapping[str, ModuleType] = {"mailchannels": mailchannels, "ark": ark}


def open_client(
    source: Source,
    patience: RetryBudget = INTERACTIVE_RETRIES,
    *,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> ProviderApi:
    """Return the client of a source's management API. Raises ProviderApiError, which says what to do instead."""
    name = source.provider.NAME
    api = APIS.get(name)
    if api is None:
        raise ProviderApiError(source.provider.NO_API or f"{name} has no management API.")
    if source.credentials.api_key is None:
        raise ProviderApiError(
            f"The source {source.slug} has no `api_key`, which its provider's API needs. Set one: "
            f"tidings sources rotate {source.slug} --credentials '{{\"api_key\": …}}'"
        )
    caller = ApiClient(
        provider=api.PROVIDER,
        slug=source.slug,
        base=(source.settings.api_base or api.BASE).rstrip("/"),
        headers=api.headers(source.credentials),
        patience=patience,
        sleep=sleep,
        jitter=jitter,
    )
    ours = partial(is_ours, slug=source.slug, webhook_url=source.settings.webhook_url)
    client: ProviderApi = api.create_client(caller, source.credentials, ours)
    return client
