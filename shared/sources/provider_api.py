"""The management APIs that can be spoken to. A new one is a module beside this and a row here."""

import random
import time
from collections.abc import Callable, Mapping
from functools import partial

from shared.providers.api.base import OF_A_PERSON, ManagementClient, ManagementError, Patience, is_ours
from shared.providers.api.client import Caller
from shared.providers.ark import api as ark
from shared.providers.ark.api import ArkClient
from shared.providers.ark.webhook import Credentials as ArkCredentials
from shared.providers.mailchannels import api as mailchannels
from shared.providers.mailchannels.api import MailChannelsClient
from shared.providers.mailchannels.webhook import Credentials as MailChannelsCredentials
from shared.sources.source import Source

PROVIDERS = frozenset({"mailchannels", "ark"})

_WITHOUT: Mapping[str, str] = {
    "postal": "Postal has no API for its webhooks: it tries each six times within 36 minutes, and then drops it",
    "cloudmailin": "CloudMailin has no API for the webhooks of outbound events: they are set on its dashboard",
    "mailwebhook": "MailWebhook is not asked: it retries by itself, and its dashboard replays events that are dead",
}


class NoApiError(ManagementError):
    """The provider of a source has no management API, or the source no key to it."""


def open_client(
    source: Source,
    patience: Patience = OF_A_PERSON,
    *,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> ManagementClient:
    """The client for a source. Raises NoApiError with a sentence that says what there is instead."""
    credentials = source.credentials
    if source.provider.NAME not in PROVIDERS:
        name = source.provider.NAME
        raise NoApiError(f"{_WITHOUT.get(name, f'{name} has no API that could be asked')}.")
    if credentials.api_key is None:
        raise NoApiError(
            f"The source {source.slug} has no `api_key`, without which its provider's API cannot be asked. Give it "
            f"one: tidings sources rotate {source.slug} --credentials '{{\"api_key\": …}}'"
        )
    ours: Callable[[str | None], bool] = partial(is_ours, slug=source.slug, webhook_url=source.settings.webhook_url)

    def caller(provider: str, base: str, headers: Mapping[str, str]) -> Caller:
        base = (source.settings.api_base or base).rstrip("/")
        return Caller(
            provider=provider,
            slug=source.slug,
            base=base,
            headers=headers,
            patience=patience,
            sleep=sleep,
            jitter=jitter,
        )

    match credentials:
        case MailChannelsCredentials(api_key=str(api_key)):
            headers = {"X-Api-Key": api_key}
            return MailChannelsClient(caller=caller(mailchannels.PROVIDER, mailchannels.BASE, headers), is_ours=ours)
        case ArkCredentials(api_key=str(api_key), tenant_id=tenant_id):
            headers = {"Authorization": f"Bearer {api_key}"}
            return ArkClient(caller=caller(ark.PROVIDER, ark.BASE, headers), tenant_id=tenant_id, is_ours=ours)
    raise NoApiError(f"{source.provider.NAME} has no API that could be asked.")
