"""Postmark's API: the webhooks of a server, and the suppressions of a message stream.

Source: postmarkapp.com/developer/api, "Webhooks API" and "Suppressions API". It lists no failed webhooks.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote as escape

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
from shared.providers.postmark import api_models
from shared.providers.postmark.webhook import Credentials

PROVIDER = "Postmark"
BASE = "https://api.postmarkapp.com"

_ENTRIES: Final = 50
_TRIGGERS: Mapping[str, Mapping[str, bool]] = {
    "Open": {"Enabled": True, "PostFirstOpenOnly": False},
    "Click": {"Enabled": True},
    "Delivery": {"Enabled": True},
    # The content of a message is not needed, and is personal data.
    "Bounce": {"Enabled": True, "IncludeContent": False},
    "SpamComplaint": {"Enabled": True, "IncludeContent": False},
    "SubscriptionChange": {"Enabled": True},
}


def headers(credentials: Credentials) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    return {"X-Postmark-Server-Token": credentials.api_key or ""}


def create_client(
    http: ApiClient,
    credentials: Credentials,
    is_ours: Callable[[str | None], bool],  # noqa: ARG001 - the same signature for every provider
) -> ProviderApi:
    """Return the client of the source's message stream."""
    return PostmarkClient(http=http, stream=credentials.message_stream, webhook=credentials.webhook)


@dataclass(frozen=True, kw_only=True)
class PostmarkClient(WithoutFailedDeliveries, WithoutTest):
    """The API of the server that the token belongs to, for one of its message streams.

    `webhook` has the user and password, or the headers, that Postmark is to send.
    """

    http: ApiClient
    stream: str
    webhook: Mapping[str, object]

    TAKES_TYPES = False

    def webhooks(self) -> Sequence[Webhook]:
        """Return the webhooks of all message streams of the server."""
        return self.http.request("GET", "/webhooks", api_models.read_webhooks)

    def enrol(self, url: str) -> bool:
        """Create a webhook of the message stream for all events, unless the stream has one with this URL."""
        query = {"MessageStream": self.stream}
        if any(
            known.url == url for known in self.http.request("GET", "/webhooks", api_models.read_webhooks, query=query)
        ):
            return False
        body = {"Url": url, "MessageStream": self.stream, "Triggers": _TRIGGERS, **self.webhook}
        # Not repeated after a lost answer, because that would create a second webhook.
        self.http.request("POST", "/webhooks", nothing, body=body, repeatable=False)
        return True

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove webhooks; those that no longer exist are ignored."""
        for webhook in webhooks:
            self.http.delete(f"/webhooks/{escape(webhook.id, safe='')}")

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the suppressions of the message stream, which come in one answer."""
        yield self.http.request("GET", f"{self._path}/dump", api_models.read_suppressions)

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add entries, up to 50 in a call. Those that Postmark refuses are an error once the others are added."""
        refused: list[str] = []
        for first in range(0, len(entries), _ENTRIES):
            part = entries[first : first + _ENTRIES]
            body = api_models.addresses(entry.address for entry in part)
            failed = self.http.request("POST", self._path, api_models.read_refused, body=body)
            refused += failed
            yield Step(first + len(part), len(part) - len(failed))
        if refused:
            raise ProviderApiError(f"{PROVIDER} refused {len(refused)} of {len(entries)} entries. {refused[0]}")

    def unsuppress(self, address: str) -> None:
        """Remove an address; ignore one that is not there. Postmark keeps those that complained."""
        body = api_models.addresses([address])
        refused = self.http.request("POST", f"{self._path}/delete", api_models.read_refused, body=body)
        if refused:
            raise ProviderApiError(f"{PROVIDER} did not remove an entry. {refused[0]}")

    @property
    def _path(self) -> str:
        return f"/message-streams/{escape(self.stream, safe='')}/suppressions"
