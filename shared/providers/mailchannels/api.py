"""MailChannels' Email API: webhooks, the batches it posted, and its suppression list.

Source: the OpenAPI document of the Email API (1.0.0), and docs.mailchannels.com/email-api/webhook-retries.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Final
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
from shared.providers.mailchannels import api_models
from shared.providers.mailchannels.credentials import Credentials

PROVIDER = "MailChannels"
BASE = "https://api.mailchannels.net/tx/v1"

_BATCHES: Final = 500
_ENTRIES: Final = 1000
_BAD_REQUEST: Final = 400
_CONFLICT: Final = 409
_TOO_LARGE: Final = 413
_ALMOST_A_SECOND: Final = timedelta(microseconds=999_999)


def headers(credentials: Credentials) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    return {"X-Api-Key": credentials.api_key or ""}


def create_client(
    http: ApiClient,
    credentials: Credentials,  # noqa: ARG001 - the same signature for every provider
    is_ours: Callable[[str | None], bool],
) -> ProviderApi:
    """Return the client of the account that the `api_key` belongs to."""
    return MailChannelsClient(http=http, is_ours=is_ours)


@dataclass(slots=True, kw_only=True)
class MailChannelsClient:
    """The API of the account that a source's `api_key` belongs to.

    `is_ours` returns whether a webhook URL belongs to this source.
    """

    http: ApiClient
    is_ours: Callable[[str | None], bool]
    _suffix: str = field(default="", init=False)

    TAKES_TYPES = True

    def failed(self, span: Span) -> Iterator[Sequence[FailedDelivery]]:
        """Yield the batches of this source's webhook that were not answered with 2xx."""

        def request_page(suffix: str, offset: int) -> Sequence[FailedDelivery]:
            statuses = (status + suffix if status.endswith("xx") else status for status in api_models.FAILED)
            query: dict[str, str | int] = {
                # The filter takes whole seconds.
                "created_after": f"{span.since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "created_before": f"{span.until.astimezone(UTC) + _ALMOST_A_SECOND:%Y-%m-%dT%H:%M:%SZ}",
                "limit": _BATCHES,
                "offset": offset,
                "statuses": ",".join(statuses),
            }
            return self.http.request("GET", "/webhook-batch", api_models.read_batches, query=query)

        def read(offset: int) -> Sequence[FailedDelivery]:
            """Read a page. The filter takes `5xx` or `5xx_response`: if the API refuses one, the other is sent."""
            try:
                return request_page(self._suffix, offset)
            except ProviderApiError as error:
                if error.status != _BAD_REQUEST:
                    raise
                other = "" if self._suffix else api_models.SUFFIX
                try:
                    found = request_page(other, offset)
                except ProviderApiError:
                    raise error from None
                self._suffix = other
                return found

        for page in pagination.by_offset(read, _BATCHES, lambda one: one.reference):
            yield [batch for batch in page if self.is_ours(batch.url) and batch.outcome != api_models.TAKEN]

    def sent(self, delivery: FailedDelivery) -> bytes | None:  # noqa: ARG002
        """Return None: the API does not show the contents of a batch."""
        return None

    def resend(self, delivery: FailedDelivery) -> ResendResult:
        """Request another attempt of a batch. The answer contains our receiver's status code."""
        path = f"/webhook-batch/{escape(delivery.reference, safe='')}/resend"
        timeout_seconds = self.http.retries.resend_seconds
        try:
            return self.http.request("POST", path, api_models.read_resent, timeout_seconds=timeout_seconds)
        except ProviderApiError as error:
            if error.status == _BAD_REQUEST:
                raise ProviderApiError(str(error), ApiErrorKind.GONE, status=error.status) from None
            raise

    def contents(self, body: bytes) -> Contents | None:
        """Return the number and time of the events in a batch."""
        return api_models.read_contents(body)

    def webhooks(self) -> Sequence[Webhook]:
        """Return the enrolled webhooks."""
        return self.http.request("GET", "/webhook", api_models.read_webhooks)

    def enrol(self, url: str) -> bool:
        """Enrol a URL. This is safe to repeat after a lost answer."""
        if any(webhook.url == url for webhook in self.webhooks()):
            return False
        try:
            self.http.request("POST", "/webhook", nothing, query={"endpoint": url})
        except ProviderApiError as error:
            if error.status != _CONFLICT:
                raise
        return True

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove all webhooks, which is the only call that the API has, and enrol the others again."""
        removed = {webhook.url for webhook in webhooks}
        kept = [webhook.url for webhook in self.webhooks() if webhook.url not in removed]
        try:
            self.http.request("DELETE", "/webhook", nothing)
        except ProviderApiError as error:
            # Gone: the answer to the first attempt was lost, which had removed them.
            if error.kind is not ApiErrorKind.GONE:
                if not kept or error.kind not in {ApiErrorKind.UNREACHABLE, ApiErrorKind.RATE_LIMITED}:
                    raise
                raise ProviderApiError(
                    "All webhooks may have been removed, not only the given ones. List them, and enrol again those of "
                    f"these that are missing: {', '.join(kept)} ({error})"
                ) from error
        for position, url in enumerate(kept):
            try:
                self.enrol(url)
            except ProviderApiError as error:
                lost = ", ".join(kept[position:])
                raise ProviderApiError(
                    f"All webhooks were removed, but enrolling these again failed; enrol them now: {lost} ({error})"
                ) from error

    def validate(self, webhooks: Collection[Webhook]) -> Sequence[Validation]:
        """Request a test of all webhooks of the account, and return the results of the given ones."""
        wanted = {webhook.url for webhook in webhooks}
        timeout_seconds = self.http.retries.resend_seconds
        done = self.http.request(
            "POST", "/webhook/validate", api_models.read_validations, timeout_seconds=timeout_seconds
        )
        return [validation for validation in done if validation.url in wanted]

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the suppression list; a recipient may be on it for several reasons."""

        def read(offset: int) -> Sequence[ListedSuppression]:
            query = {"limit": _ENTRIES, "offset": offset}
            return self.http.request("GET", "/suppression-list", api_models.read_suppressions, query=query)

        return pagination.by_offset(read, _ENTRIES, lambda one: (one.address, one.word))

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add entries in calls of up to 1,000. A call adds all or none, so a rejected part is split in halves."""
        waiting = [entries[first : first + _ENTRIES] for first in range(0, len(entries), _ENTRIES)]
        done = 0
        while waiting:
            part = waiting.pop(0)
            body = {"suppression_entries": list(map(api_models.suppression, part)), "add_to_sub_accounts": False}
            added = len(part)
            try:
                self.http.request("POST", "/suppression-list", nothing, body=body)
            except ProviderApiError as error:  # none was added: some were known already, or they were too many at once
                if error.status != _CONFLICT and (error.status != _TOO_LARGE or len(part) == 1):
                    raise
                added = 0
            if added or len(part) == 1:
                done += len(part)
                yield Step(done, added)
            else:
                middle = len(part) // 2
                waiting[:0] = [part[:middle], part[middle:]]

    def unsuppress(self, address: str) -> None:
        """Remove an address, whatever added it to the list."""
        path = f"/suppression-list/recipients/{escape(address, safe='')}"
        self.http.request("DELETE", path, nothing, query={"source": "all"})
