"""The APIs of Amazon SES and SNS: the subscriptions of the topics, and the account's suppression list in a region.

Sources: Amazon's API references of SES v2 (ListSuppressedDestinations, PutSuppressedDestination,
DeleteSuppressedDestination) and of SNS (ListSubscriptionsByTopic, Subscribe, Unsubscribe). SNS lists no failed
notifications.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import quote as escape

from shared.http import aws_signature
from shared.http.aws_signature import AccessKey
from shared.providers.api.base import (
    ApiErrorKind,
    ListedSuppression,
    NewSuppression,
    ProviderApi,
    ProviderApiError,
    Step,
    Webhook,
)
from shared.providers.api.client import ApiClient, nothing
from shared.providers.api.missing import WithoutFailedDeliveries, WithoutTest
from shared.providers.ses import api_models
from shared.providers.webhooks.sns import Credentials

PROVIDER = "Amazon SES"
BASE = "https://amazonaws.com"
"""Replaced by the address of each service in the region of the topics."""

_ENTRIES: Final = 1000
_LIST: Final = "/v2/email/suppression/addresses"
_VERSION: Final = "2010-03-31"

T = TypeVar("T")


def headers(_credentials: Credentials) -> dict[str, str]:
    """Return nothing: each call is signed."""
    return {}


def create_client(
    http: ApiClient,
    credentials: Credentials,
    is_ours: Callable[[str | None], bool],  # noqa: ARG001 - the same signature for every provider
) -> ProviderApi:
    """Return the client of the topics' region. Raises ProviderApiError for topics of several regions."""
    if len(credentials.regions) != 1:
        regions = ", ".join(sorted(credentials.regions))
        raise ProviderApiError(
            f"The topics of the source {http.slug} are in several regions ({regions}), "
            "each of which has its own suppression list. Create a source for each region."
        )
    (region,) = credentials.regions
    return SesClient(
        http=_sign_calls(http, credentials.access_key, region, "ses", "email"),
        sns=_sign_calls(http, credentials.access_key, region, "sns", "sns"),
        topics=sorted(credentials.topic_arns),
    )


def _sign_calls(http: ApiClient, key: AccessKey | None, region: str, service: str, host: str) -> ApiClient:
    """Return a client of one service. `service` is its name in the signature, `host` its name in the URL."""

    def sign(method: str, url: str, given: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        if key is None:
            raise ProviderApiError(f"The source {http.slug} has no access key.")
        now = datetime.now(UTC)
        return aws_signature.sign(method, url, given, body, key, region=region, service=service, now=now)

    domain = f"amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    base = f"https://{host}.{region}.{domain}" if http.base == BASE else http.base
    return replace(http, base=base, sign=sign)


@dataclass(frozen=True, kw_only=True)
class SesClient(WithoutFailedDeliveries, WithoutTest):
    """The APIs of an account in one region: `http` calls SES, `sns` calls SNS about the source's `topics`."""

    http: ApiClient
    sns: ApiClient
    topics: Sequence[str]

    TAKES_TYPES = False

    def webhooks(self) -> Sequence[Webhook]:
        """Return the subscriptions of the topics by HTTP. One that is not confirmed yet is not enabled."""
        return [one for topic in self.topics for one in self._subscriptions(topic)]

    def enrol(self, url: str) -> bool:
        """Subscribe the URL to the topics that lack it. A worker confirms each subscription when SNS asks for it."""
        is_changed = False
        for topic in self.topics:
            if not any(known.url == url and known.enabled for known in self._subscriptions(topic)):
                # If it is repeated, SNS only asks again for the confirmation.
                self._call("Subscribe", nothing, TopicArn=topic, Protocol=url.partition(":")[0], Endpoint=url)
                is_changed = True
        return is_changed

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove subscriptions. Those that no longer exist are ignored. SNS itself removes unconfirmed ones."""
        for webhook in webhooks:
            if webhook.enabled:
                try:
                    self._call("Unsubscribe", nothing, SubscriptionArn=webhook.id)
                except ProviderApiError as error:
                    if error.kind is not ApiErrorKind.GONE:
                        raise

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the account's suppression list. SES shows no text of a bounce."""
        query: Mapping[str, str | int] = {"PageSize": _ENTRIES}
        seen: set[str] = set()
        while True:
            page = self.http.request("GET", _LIST, api_models.read_suppressions, query=query)
            yield page.entries
            if page.token is None or page.token in seen:
                return
            seen.add(page.token)
            query = {"PageSize": _ENTRIES, "NextToken": page.token}

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add the entries one by one. SES has two reasons: every entry that is not a complaint becomes a bounce."""
        for done, entry in enumerate(entries, start=1):
            self.http.request("PUT", _LIST, nothing, body=api_models.suppression(entry))
            yield Step(done, 1)

    def unsuppress(self, address: str) -> None:
        """Remove an address. Do nothing if it is not on the list."""
        self.http.delete(f"{_LIST}/{escape(address, safe='')}")

    def _subscriptions(self, topic: str) -> Sequence[Webhook]:
        found: list[Webhook] = []
        token, seen = "", set[str]()
        while token not in seen:
            seen.add(token)
            page = self._call(
                "ListSubscriptionsByTopic", api_models.read_subscriptions, TopicArn=topic, NextToken=token or None
            )
            found += page.webhooks
            token = page.token or ""
        return found

    def _call(self, action: str, read: Callable[[bytes], T], **parameters: str | None) -> T:
        form = {"Action": action, "Version": _VERSION, **{name: text for name, text in parameters.items() if text}}
        return self.sns.request("POST", "/", read, form=list(form.items()))
