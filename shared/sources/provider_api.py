"""The management APIs of providers. A new one is an `api.py` in the provider's folder and a row here."""

import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType

from shared.providers.api.base import INTERACTIVE_RETRIES, ProviderApi, ProviderApiError, RetryBudget, is_ours
from shared.providers.api.client import ApiClient, name_keys, write_rotation
from shared.providers.ark import api as ark
from shared.providers.mailchannels import api as mailchannels
from shared.providers.mailgun import api as mailgun
from shared.providers.postmark import api as postmark
from shared.providers.resend import api as resend
from shared.providers.sendgrid import api as sendgrid
from shared.providers.ses import api as ses
from shared.providers.sparkpost import api as sparkpost
from shared.sources.source import Source

APIS: Mapping[str, ModuleType] = {
    "mailchannels": mailchannels,
    "ark": ark,
    "postmark": postmark,
    "sendgrid": sendgrid,
    "mailgun": mailgun,
    "resend": resend,
    "sparkpost": sparkpost,
    "ses": ses,
}


def require_failed_list(source: Source) -> None:
    """Raise ProviderApiError if the source's provider has an API that does not list failed webhooks."""
    provider = source.provider
    if provider.name in APIS and not provider.lists_failed:
        raise ProviderApiError(
            f"The API of {APIS[provider.name].PROVIDER} does not list failed webhooks, so {source.slug} cannot be "
            f"reconciled. It repeats a request by itself: {provider.retries}."
        )


def open_client(
    source: Source,
    retries: RetryBudget = INTERACTIVE_RETRIES,
    *,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> ProviderApi:
    """Return the client of a source's management API. Raises ProviderApiError, which says what to do instead."""
    name = source.provider.name
    api = APIS.get(name)
    if api is None:
        raise ProviderApiError(source.provider.no_api or f"{name} has no management API.")
    fields = source.provider.api_fields
    if source.credentials.api_key is None:
        raise ProviderApiError(
            f"The source {source.slug} has no {name_keys(fields)}, which its provider's API needs. Set one: "
            f"{write_rotation(source.slug, fields)}"
        )
    http = ApiClient(
        provider=api.PROVIDER,
        slug=source.slug,
        base=(source.settings.api_base or api.BASE).rstrip("/"),
        headers=api.headers(source.credentials),
        retries=retries,
        key_fields=fields,
        sleep=sleep,
        jitter=jitter,
    )
    ours = partial(is_ours, slug=source.slug, webhook_url=source.settings.webhook_url)
    client: ProviderApi = api.create_client(http, source.credentials, ours)
    return client
