"""SparkPost's API: event webhooks, and the suppression list of an account.

Source: developers.sparkpost.com, "Webhooks API" and "Suppression List API". It shows for a day which batches failed,
but cannot have them sent again.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote as escape

from shared.providers.api.base import (
    ApiErrorKind,
    ListedSuppression,
    NewSuppression,
    ProviderApi,
    ProviderApiError,
    Step,
    Validation,
    Webhook,
)
from shared.providers.api.client import ApiClient, nothing
from shared.providers.api.missing import WithoutFailedDeliveries
from shared.providers.sparkpost import api_models
from shared.providers.sparkpost.webhook import EVENTS, Credentials

PROVIDER = "SparkPost"
BASE = "https://api.sparkpost.com/api/v1"

_ENTRIES: Final = 1000
_LIST: Final = "/suppression-list"
# The first opens are opens too, and would be counted twice. Relayed mail has a webhook of another kind.
_EVENTS: Final = [word for word in EVENTS if "initial" not in word and "relay" not in word]
_EMPTY_BATCH: Mapping[str, object] = {"message": {"msys": {}}}


def headers(credentials: Credentials) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    return {"Authorization": credentials.api_key or ""}


def create_client(
    http: ApiClient,
    credentials: Credentials,
    is_ours: Callable[[str | None], bool],  # noqa: ARG001 - the same signature for every provider
) -> ProviderApi:
    """Return the client of the account or subaccount that the `api_key` belongs to."""
    return SparkPostClient(http=http, webhook=credentials.webhook)


@dataclass(frozen=True, kw_only=True)
class SparkPostClient(WithoutFailedDeliveries):
    """The API of an account. `webhook` has the password or the header that SparkPost is to send."""

    http: ApiClient
    webhook: Mapping[str, object]

    TAKES_TYPES = True

    def webhooks(self) -> Sequence[Webhook]:
        """Return the event webhooks of the account."""
        return [known.webhook for known in self._known()]

    def enrol(self, url: str) -> bool:
        """Create a webhook for all events, or switch on the existing one and the events that it lacks.

        SparkPost posts an empty batch to the URL first, and creates no webhook unless that is answered 200.
        """
        timeout_seconds = self.http.retries.resend_seconds
        known = next((one for one in self._known() if one.webhook.url == url), None)
        if known is None:
            body = {"name": "Tidings", "target": url, "events": _EVENTS, "active": True, **self.webhook}
            # Not repeated after a lost answer, because that would create a second webhook.
            self.http.request(
                "POST", "/webhooks", nothing, body=body, repeatable=False, timeout_seconds=timeout_seconds
            )
            return True
        events = [*known.events, *(word for word in _EVENTS if word not in known.events)]
        if known.webhook.enabled and len(events) == len(known.events):
            return False
        body = {"events": events, "active": True}
        self.http.request("PUT", self._path(known.webhook), nothing, body=body, timeout_seconds=timeout_seconds)
        return True

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove webhooks; those that no longer exist are ignored."""
        for webhook in webhooks:
            self.http.delete(self._path(webhook))

    def validate(self, webhooks: Collection[Webhook]) -> Sequence[Validation]:
        """Have an empty batch posted to each webhook."""
        return [self._validate(webhook) for webhook in webhooks]

    def _validate(self, webhook: Webhook) -> Validation:
        try:
            return self.http.request(
                "POST",
                f"{self._path(webhook)}/validate",
                partial(api_models.read_validation, url=webhook.url),
                body=_EMPTY_BATCH,
                timeout_seconds=self.http.retries.resend_seconds,
            )
        except ProviderApiError as error:
            if error.kind is not ApiErrorKind.OTHER:
                raise
            return Validation(url=webhook.url, passed=False, detail=str(error))

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the suppression list, with an entry for each type of mail, without those for one mailing list."""
        cursor: str | None = "initial"
        while cursor:
            query: Mapping[str, str | int] = {"cursor": cursor, "per_page": _ENTRIES}
            page = self.http.request("GET", _LIST, api_models.read_suppressions, query=query)
            yield page.entries
            cursor = page.cursor if page.cursor != cursor else None

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add entries, up to 1,000 in a call. SparkPost keeps no reason of ours but its text."""
        for first in range(0, len(entries), _ENTRIES):
            part = entries[first : first + _ENTRIES]
            body = {"recipients": [row for entry in part for row in api_models.suppressions(entry)]}
            self.http.request("PUT", _LIST, nothing, body=body)
            yield Step(first + len(part), len(part))

    def unsuppress(self, address: str) -> None:
        """Remove an address for all mail; ignore one that is not there."""
        self.http.delete(f"{_LIST}/{escape(address, safe='')}")

    def _known(self) -> Sequence[api_models.KnownWebhook]:
        return self.http.request("GET", "/webhooks", api_models.read_webhooks)

    @staticmethod
    def _path(webhook: Webhook) -> str:
        return f"/webhooks/{escape(webhook.id, safe='')}"
