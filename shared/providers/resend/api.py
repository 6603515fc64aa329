"""Resend's API: webhooks, what was posted to them, sending it again, and the suppression list.

Source: resend.com/docs/api-reference, "Webhooks" (with events, attempts and replays, since September 2026) and
"Suppressions".
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote as escape

from shared.providers.api.base import (
    Contents,
    FailedDelivery,
    ListedSuppression,
    NewSuppression,
    ProviderApi,
    ProviderApiError,
    ResendResult,
    Span,
    Step,
    Webhook,
)
from shared.providers.api.client import ApiClient, nothing
from shared.providers.api.missing import WithoutTest
from shared.providers.resend import api_models
from shared.providers.resend.webhook import Credentials

PROVIDER = "Resend"
BASE = "https://api.resend.com"

_PAGE: Final = 100
_ENTRIES: Final = 100
_POLLS: Final = 10
_POLL_SECONDS: Final = 1.0

T = TypeVar("T")


def headers(credentials: Credentials) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    return {"Authorization": f"Bearer {credentials.api_key}"}


def create_client(http: ApiClient, credentials: Credentials, is_ours: Callable[[str | None], bool]) -> ProviderApi:
    """Return the client of the account that the `api_key` belongs to."""
    return ResendClient(http=http, credentials=credentials, is_ours=is_ours)


@dataclass(frozen=True, kw_only=True)
class ResendClient(WithoutTest):
    """The API of the account that a source's `api_key` belongs to.

    `is_ours` returns whether a webhook URL belongs to this source.
    """

    http: ApiClient
    credentials: Credentials
    is_ours: Callable[[str | None], bool]

    TAKES_TYPES = False

    def failed(self, span: Span) -> Iterator[Sequence[FailedDelivery]]:
        """Yield the events that this source's webhooks have not accepted yet, whether or not Resend will retry them."""
        for webhook in filter(lambda webhook: self.is_ours(webhook.url), self.webhooks()):
            read = partial(api_models.read_events, webhook=webhook)
            for page in self._pages(f"{self._path(webhook.id)}/events", read):
                yield [
                    one.delivery for one in page if one.is_open and span.since <= one.delivery.failed_at < span.until
                ]
                if page and page[-1].delivery.failed_at < span.since:  # the newest come first
                    break

    def resend(self, delivery: FailedDelivery) -> ResendResult:
        """Replay an event, and wait for the attempt: the answer to a replay only says that it is queued."""
        path = self._event_path(delivery.reference)
        known = self.http.request("GET", f"{path}/attempts", api_models.read_attempts)
        self.http.request("POST", f"{path}/replay", nothing)
        for _ in range(_POLLS):
            attempts = self.http.request("GET", f"{path}/attempts", api_models.read_attempts)
            if attempts and attempts != known:
                return attempts[0]
            self.http.sleep(_POLL_SECONDS)
        return ResendResult(status_code=None)

    def sent(self, delivery: FailedDelivery) -> bytes | None:
        """Return the payload of an event."""
        return self.http.request("GET", self._event_path(delivery.reference), api_models.read_payload)

    def contents(self, body: bytes) -> Contents | None:
        """Return the time of the one event in a body."""
        return api_models.read_contents(body)

    def webhooks(self) -> Sequence[Webhook]:
        """Return the webhooks of the account."""
        return [known.webhook for known in self._webhooks()]

    def enrol(self, url: str) -> bool:
        """Create a webhook for all events of sent mail, or enable the existing one for them.

        Raises ProviderApiError, with what to do, if the source does not have the secret that it is signed with.
        """
        known = next((one for one in self._webhooks() if one.webhook.url == url), None)
        is_changed = True
        if known is None:
            # Not repeated after a lost answer, because that would create a second webhook.
            body: Mapping[str, object] = {"endpoint": url, "events": api_models.EVENTS}
            webhook_id = self.http.request("POST", "/webhooks", api_models.read_id, body=body, repeatable=False)
        else:
            webhook_id = known.webhook.id
            events = sorted({*known.events, *api_models.EVENTS})
            is_changed = not known.webhook.enabled or set(events) != set(known.events)
            if is_changed:
                self.http.request(
                    "PATCH", self._path(webhook_id), nothing, body={"events": events, "status": "enabled"}
                )
        secret = self.http.request("GET", self._path(webhook_id), api_models.read_secret)
        if secret not in self.credentials.secrets:
            raise ProviderApiError(
                f"The webhook posts to {url}, signed with a secret that {self.http.slug} does not have, so its "
                "events are refused and repeated for 28 hours. Copy the Signing secret from the webhook's page at "
                f"Resend, and set it: tidings sources rotate {self.http.slug} "
                '--credentials \'{"secrets": ["whsec_…"]}\''
            )
        return is_changed

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove webhooks; those that no longer exist are ignored."""
        for webhook in webhooks:
            self.http.delete(self._path(webhook.id))

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the suppression list of the account."""
        return self._pages("/suppressions", api_models.read_suppressions)

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add entries, up to 100 in a call. Resend keeps no reason of ours."""
        for first in range(0, len(entries), _ENTRIES):
            part = entries[first : first + _ENTRIES]
            body = {"emails": [entry.address for entry in part]}
            self.http.request("POST", "/suppressions/batch/add", nothing, body=body)
            yield Step(first + len(part), len(part))

    def unsuppress(self, address: str) -> None:
        """Remove an address; ignore one that is not there."""
        self.http.delete(f"/suppressions/{escape(address, safe='')}")

    def _webhooks(self) -> Sequence[api_models.KnownWebhook]:
        return [known for page in self._pages("/webhooks", api_models.read_webhooks) for known in page]

    def _pages(self, path: str, read: Callable[[bytes], api_models.Page[T]]) -> Iterator[Sequence[T]]:
        """Yield the pages of a list, each after the last id of the one before."""
        after: str | None = None
        while True:
            query: dict[str, str | int] = {"limit": _PAGE, **({"after": after} if after else {})}
            page = self.http.request("GET", path, read, query=query)
            yield page.items
            if page.after is None or page.after == after:
                return
            after = page.after

    def _path(self, webhook_id: str) -> str:
        return f"/webhooks/{escape(webhook_id, safe='')}"

    def _event_path(self, reference: str) -> str:
        webhook_id, _, event_id = reference.partition("/")
        return f"{self._path(webhook_id)}/events/{escape(event_id, safe='')}"
