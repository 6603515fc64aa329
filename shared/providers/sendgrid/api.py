"""SendGrid's API: event webhooks, and the lists of addresses that it does not send to.

Source: Twilio's OpenAPI documents `tsg_webhooks_v3` and `tsg_suppressions_v3`. It lists no failed webhooks. Its test of
a webhook answers 204 whatever the result.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote as escape

from shared.providers.api import pagination
from shared.providers.api.base import (
    ListedSuppression,
    NewSuppression,
    ProviderApi,
    ProviderApiError,
    Step,
    Webhook,
)
from shared.providers.api.client import ApiClient, nothing
from shared.providers.api.missing import WithoutFailedDeliveries, WithoutTest
from shared.providers.sendgrid import api_models
from shared.providers.sendgrid.webhook import Credentials
from shared.providers.webhooks import elliptic

PROVIDER = "SendGrid"
BASE = "https://api.sendgrid.com/v3"

_PAGE: Final = 500
_ENTRIES: Final = 1000
_SETTINGS: Final = "/user/webhooks/event/settings"
_GLOBAL: Final = "/asm/suppressions/global"
_ALL_EVENTS: Mapping[str, object] = {
    "enabled": True,
    "friendly_name": "Tidings",
    **dict.fromkeys(
        ("processed", "deferred", "delivered", "bounce", "dropped", "open", "click", "spam_report", "unsubscribe"), True
    ),
    **dict.fromkeys(("group_unsubscribe", "group_resubscribe"), True),
}


def headers(credentials: Credentials) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    return {"Authorization": f"Bearer {credentials.api_key}"}


def create_client(
    http: ApiClient,
    credentials: Credentials,
    is_ours: Callable[[str | None], bool],  # noqa: ARG001 - the same signature for every provider
) -> ProviderApi:
    """Return the client of the account that the `api_key` belongs to."""
    return SendGridClient(http=http, credentials=credentials)


@dataclass(frozen=True, kw_only=True)
class SendGridClient(WithoutFailedDeliveries, WithoutTest):
    """The API of the account or subuser that a source's `api_key` belongs to."""

    http: ApiClient
    credentials: Credentials

    TAKES_TYPES = False

    def webhooks(self) -> Sequence[Webhook]:
        """Return the event webhooks of the account."""
        return [known.webhook for known in self.http.request("GET", f"{_SETTINGS}/all", api_models.read_webhooks)]

    def enrol(self, url: str) -> bool:
        """Create a signed webhook for all events, or enable the existing one and its signature.

        Raises ProviderApiError, with what to do, if the source does not have the key that the webhook is signed with.
        """
        found = self.http.request("GET", f"{_SETTINGS}/all", api_models.read_webhooks)
        known = next((one for one in found if one.webhook.url == url), None)
        is_changed = known is None or not known.webhook.enabled
        if known is None:
            # Not repeated after a lost answer: SendGrid would refuse the URL as taken, though it is done.
            body = {**_ALL_EVENTS, "url": url}
            known = self.http.request("POST", _SETTINGS, api_models.read_webhook, body=body, repeatable=False)
        elif not known.webhook.enabled:
            self.http.request("PATCH", self._path(known.webhook.id), nothing, body={"enabled": True})
        public_key = known.public_key
        if not public_key:
            path = f"{_SETTINGS}/signed/{escape(known.webhook.id, safe='')}"
            public_key = self.http.request("PATCH", path, api_models.read_key, body={"enabled": True})
            is_changed = True
        key = elliptic.read_p256(public_key)
        if key is None or key not in self.credentials.public_keys:
            raise ProviderApiError(
                f"The webhook posts to {url}, signed with a key that {self.http.slug} does not have, so its events "
                f"are refused and repeated for 24 hours. Give it the key: tidings sources rotate {self.http.slug} "
                f'--credentials \'{{"public_key": "{public_key}"}}\''
            )
        return is_changed

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove webhooks; those that no longer exist are ignored."""
        for webhook in webhooks:
            self.http.delete(self._path(webhook.id))

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the bounces, spam reports, invalid addresses and global unsubscribes.

        Blocks are left out: SendGrid sends to these addresses again.
        """
        for word in api_models.LISTS:
            read_page = partial(api_models.read_suppressions, word=word)

            def read(offset: int, word: str = word, read_page: api_models.ReadPage = read_page) -> api_models.Page:
                query = {"limit": _PAGE, "offset": offset}
                return self.http.request("GET", f"/suppression/{word}", read_page, query=query)

            yield from pagination.by_offset(read, _PAGE, lambda one: one.address)

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add entries to the global unsubscribes, which is the only list that takes addresses."""
        for first in range(0, len(entries), _ENTRIES):
            part = entries[first : first + _ENTRIES]
            body = {"recipient_emails": [entry.address for entry in part]}
            self.http.request("POST", _GLOBAL, nothing, body=body)
            yield Step(first + len(part), len(part))

    def unsuppress(self, address: str) -> None:
        """Remove an address from every list; ignore one that is not there."""
        escaped = escape(address, safe="")
        for word in api_models.LISTS:
            self.http.delete(
                f"{_GLOBAL}/{escaped}" if word == api_models.UNSUBSCRIBES else f"/suppression/{word}/{escaped}"
            )

    def _path(self, webhook_id: str) -> str:
        return f"{_SETTINGS}/{escape(webhook_id, safe='')}"
