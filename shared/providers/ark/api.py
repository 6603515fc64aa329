"""Ark's API: webhooks, their deliveries, and suppressions.

Source: arkhq.io/docs/api-reference and the types of its SDKs. Its paths begin with the tenant's; an account
without tenants has the same paths without that.
"""

import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote as escape

from shared.providers.api import pagination
from shared.providers.api.base import (
    ApiErrorKind,
    Contents,
    FailedDelivery,
    ListedSuppression,
    NewSuppression,
    ProviderApi,
    ProviderApiError,
    ResendResult,
    Span,
    Step,
    Validation,
    Webhook,
)
from shared.providers.api.client import ApiClient, nothing
from shared.providers.ark import api_models
from shared.providers.ark.credentials import Credentials

PROVIDER = "Ark"
BASE = "https://api.arkhq.io/v1"

_PAGE: Final = 100
_TEST: Final = {"event": "MessageSent"}

T = TypeVar("T")


def headers(credentials: Credentials) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    return {"Authorization": f"Bearer {credentials.api_key}"}


def create_client(http: ApiClient, credentials: Credentials, is_ours: Callable[[str | None], bool]) -> ProviderApi:
    """Return the client of the tenant, or of the account if the source names no tenant."""
    return ArkClient(http=http, tenant_id=credentials.tenant_id, is_ours=is_ours)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArkClient:
    """The API of a tenant, or of an account without tenants if `tenant_id` is None.

    `is_ours` returns whether a webhook URL belongs to this source.
    """

    http: ApiClient
    tenant_id: str | None
    is_ours: Callable[[str | None], bool]

    TAKES_TYPES = False

    def failed(self, span: Span) -> Iterator[Sequence[FailedDelivery]]:
        """Yield the failed attempts to deliver to this source's webhooks, whether or not Ark will make another."""
        # Whether the limits themselves are meant is not documented: a second more on each side does no harm.
        after, before = math.floor(span.since.timestamp()) - 1, math.ceil(span.until.timestamp()) + 1
        query: dict[str, str | int] = {"success": "false", "after": after, "before": before}
        for webhook in filter(lambda webhook: self.is_ours(webhook.url), self.webhooks()):
            read = partial(api_models.read_deliveries, webhook=webhook)
            for page in self._pages(f"{self._path(webhook.id)}/deliveries", query, read, lambda one: one.reference):
                yield [one for one in page if one.outcome != api_models.TAKEN]

    def resend(self, delivery: FailedDelivery) -> ResendResult:
        """Have a delivery replayed, then look up its payload and the answer if Ark shows them."""
        path, webhook_id = self._delivery_path(delivery.reference), delivery.reference.partition("/")[0]
        read = partial(api_models.read_replay, webhook_id=webhook_id)
        timeout_seconds = self.http.retries.resend_seconds
        resent = self.http.request("POST", f"{path}/replay", read, timeout_seconds=timeout_seconds)
        if resent.record is None:
            return resent
        try:
            exchange = self.http.request("GET", self._delivery_path(resent.record), api_models.read_exchange)
        except ProviderApiError as error:  # the replay was done, even if its payload cannot be read
            if error.kind is ApiErrorKind.DENIED:
                raise
            return resent
        receipt_id, payload = exchange
        return replace(resent, receipt_id=receipt_id, payload=payload)

    def sent(self, delivery: FailedDelivery) -> bytes | None:
        """Return the payload of a delivery."""
        return self.http.request("GET", self._delivery_path(delivery.reference), api_models.read_exchange)[1]

    def contents(self, body: bytes) -> Contents | None:
        """Return the time of the one event in a body."""
        return api_models.read_contents(body)

    def webhooks(self) -> Sequence[Webhook]:
        """Return the webhooks of the tenant."""
        return self.http.request("GET", self._path(), api_models.read_webhooks)

    def enrol(self, url: str) -> bool:
        """Create a webhook for all events, or enable the existing one."""
        known = [webhook for webhook in self.webhooks() if webhook.url == url]
        if any(webhook.enabled for webhook in known):
            return False
        if known:
            self.http.request("PATCH", self._path(known[0].id), nothing, body={"enabled": True})
            return True
        # Not repeated after a lost answer, because that would create a second webhook.
        body = {"name": "Tidings", "url": url, "allEvents": True, "enabled": True}
        self.http.request("POST", self._path(), nothing, body=body, repeatable=False)
        return True

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove webhooks; those that no longer exist are ignored."""
        for webhook in webhooks:
            self.http.delete(self._path(webhook.id))

    def validate(self, webhooks: Collection[Webhook]) -> Sequence[Validation]:
        """Have a test event posted to each webhook."""
        return [
            self.http.request(
                "POST",
                f"{self._path(webhook.id)}/test",
                partial(api_models.read_test, webhook=webhook),
                body=_TEST,
                timeout_seconds=self.http.retries.resend_seconds,
            )
            for webhook in webhooks
        ]

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the tenant's suppression list."""
        return self._pages(f"{self._base}/suppressions", {}, api_models.read_suppressions, lambda one: one.address)

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add the entries one by one."""
        for done, entry in enumerate(entries, start=1):
            self.http.request("POST", f"{self._base}/suppressions", nothing, body=api_models.suppression(entry))
            yield Step(done, 1)

    def unsuppress(self, address: str) -> None:
        """Remove an address. Do nothing if it is not on the list."""
        self.http.delete(f"{self._base}/suppressions/{escape(address, safe='')}")

    @property
    def _base(self) -> str:
        return f"/tenants/{escape(self.tenant_id, safe='')}" if self.tenant_id else ""

    def _path(self, webhook_id: str | None = None) -> str:
        """Return the path of one webhook, or of the list of webhooks."""
        return f"{self._base}/webhooks" + (f"/{escape(webhook_id, safe='')}" if webhook_id is not None else "")

    def _delivery_path(self, reference: str) -> str:
        webhook_id, _, delivery_id = reference.partition("/")
        return f"{self._path(webhook_id)}/deliveries/{escape(delivery_id, safe='')}"

    def _pages(
        self,
        path: str,
        query: Mapping[str, str | int],
        read: Callable[[bytes], tuple[Sequence[T], int | None]],
        key: Callable[[T], Hashable],
    ) -> Iterator[Sequence[T]]:
        def page(number: int) -> tuple[Sequence[T], int | None]:
            return self.http.request("GET", path, read, query={**query, "page": number, "perPage": _PAGE})

        return pagination.by_number(page, _PAGE, key)
