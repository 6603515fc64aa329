"""Mailgun's API: the webhooks and suppressions of a sending domain.

Source: documentation.mailgun.com, "Webhooks", "Bounces", "Complaints" and "Unsubscribes". It lists no failed webhooks.
"""

import base64
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote as escape

from shared.providers.api.base import (
    ListedSuppression,
    NewSuppression,
    ProviderApi,
    Step,
    Webhook,
)
from shared.providers.api.client import ApiClient, nothing
from shared.providers.api.fields import without_password
from shared.providers.api.missing import WithoutFailedDeliveries, WithoutTest
from shared.providers.mailgun import api_models
from shared.providers.mailgun.webhook import Credentials

PROVIDER = "Mailgun"
BASE = "https://api.mailgun.net"

_ENTRIES: Final = 1000
_KINDS: Final = (
    "accepted",
    "delivered",
    "opened",
    "clicked",
    "unsubscribed",
    "complained",
    "temporary_fail",
    "permanent_fail",
)


def headers(credentials: Credentials) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    return {"Authorization": "Basic " + base64.b64encode(f"api:{credentials.api_key}".encode()).decode("ascii")}


def create_client(
    http: ApiClient,
    credentials: Credentials,
    is_ours: Callable[[str | None], bool],  # noqa: ARG001 - the same signature for every provider
) -> ProviderApi:
    """Return the client of the source's domain."""
    return MailgunClient(http=http, domain=credentials.domain or "")


@dataclass(frozen=True, kw_only=True)
class MailgunClient(WithoutFailedDeliveries, WithoutTest):
    """The API of one sending domain.

    Mailgun keeps up to three URLs for each kind of event. What is a webhook here is one URL, for whichever kinds.
    """

    http: ApiClient
    domain: str

    TAKES_TYPES = False

    def webhooks(self) -> Sequence[Webhook]:
        """Return the URLs of the domain's webhooks."""
        urls = {url: None for kind in self._urls().values() for url in kind}
        return [Webhook(id=without_password(url), url=without_password(url)) for url in urls]

    def enrol(self, url: str) -> bool:
        """Add the URL to each kind of event that does not have it. A second call completes one that failed."""
        known, is_changed = self._urls(), False
        for kind in _KINDS:
            urls = known.get(kind, [])
            if url not in map(without_password, urls):
                self._set(kind, [*urls, url], is_new=not urls)
                is_changed = True
        return is_changed

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove URLs from every kind of event, and keep the others."""
        going = {webhook.url for webhook in webhooks}
        for kind, urls in self._urls().items():
            staying = [url for url in urls if without_password(url) not in going]
            if len(staying) < len(urls):
                self._set(kind, staying, is_new=False)

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the domain's bounces, complaints and unsubscribes from all mail. Each list is in alphabetical order."""
        for word in api_models.LISTS:
            query: Mapping[str, str | int] | None = {"limit": _ENTRIES}
            while query:
                read = partial(api_models.read_suppressions, word=word)
                page = self.http.request("GET", self._list(word), read, query=query)
                yield page.entries
                query = page.next if page.next != query else None

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add entries to the lists of their reasons, up to 1,000 in a call."""
        done = 0
        for word in api_models.LISTS:
            wanted = [entry for entry in entries if api_models.list_for(entry.reason) == word]
            for first in range(0, len(wanted), _ENTRIES):
                part = wanted[first : first + _ENTRIES]
                body = [api_models.suppression(entry, word) for entry in part]
                self.http.request("POST", self._list(word), nothing, body=body)
                done += len(part)
                yield Step(done, len(part))

    def unsuppress(self, address: str) -> None:
        """Remove an address from every list. Do nothing if it is on none."""
        for word in api_models.LISTS:
            self.http.delete(f"{self._list(word)}/{escape(address, safe='')}")

    def _urls(self) -> Mapping[str, Sequence[str]]:
        """Return the URLs of each kind of event."""
        return self.http.request("GET", self._webhooks, api_models.read_webhooks)

    def _set(self, kind: str, urls: Sequence[str], *, is_new: bool) -> None:
        form = [("url", url) for url in urls]
        if is_new:
            # Not repeated after a lost answer: Mailgun would refuse the kind as taken, though it is done.
            self.http.request("POST", self._webhooks, nothing, form=[("id", kind), *form], repeatable=False)
        elif urls:
            self.http.request("PUT", f"{self._webhooks}/{kind}", nothing, form=form)
        else:
            self.http.delete(f"{self._webhooks}/{escape(kind, safe='')}")

    @property
    def _webhooks(self) -> str:
        return f"/v3/domains/{escape(self.domain, safe='')}/webhooks"

    def _list(self, word: str) -> str:
        return f"/v3/{escape(self.domain, safe='')}/{word}"
