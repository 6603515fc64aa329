"""MailChannels' Email API: webhooks, the batches that it posted, and its suppression list.

Source: the OpenAPI document of the Email API (1.0.0), and docs.mailchannels.com/email-api/webhook-retries.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import quote as escape

from shared.providers.api import pagination
from shared.providers.api.base import (
    Contents,
    FailedDelivery,
    GoneError,
    ListedSuppression,
    NewSuppression,
    ProviderApi,
    ProviderApiError,
    RateLimitedError,
    ResendResult,
    Span,
    Step,
    UnreachableError,
    Validation,
    Webhook,
)
from shared.providers.api.client import ApiClient, nothing
from shared.providers.mailchannels import api_models as documents
from shared.providers.mailchannels.credentials import Credentials

PROVIDER = "MailChannels"
BASE = "https://api.mailchannels.net/tx/v1"

_BATCHES: Final = 500
_ENTRIES: Final = 1000
_BAD_REQUEST: Final = 400
_CONFLICT: Final = 409
_TOO_LARGE: Final = 413

T = TypeVar("T")


def headers(credentials: Credentials) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    return {"X-Api-Key": credentials.api_key or ""}


def create_client(
    caller: ApiClient,
    credentials: Credentials,  # noqa: ARG001 - the same signature for every provider
    is_ours: Callable[[str | None], bool],
) -> ProviderApi:
    """Return the client of the account that `api_key` opens."""
    return MailChannelsClient(caller=caller, is_ours=is_ours)


@dataclass(slots=True, kw_only=True)
class MailChannelsClient:
    """The API of the account that a source's `api_key` opens; `is_ours` tells this source's webhooks from others."""

    caller: ApiClient
    is_ours: Callable[[str | None], bool]
    _suffix: str = field(default="", init=False)

    TEST_IS_HARMLESS = True
    TAKES_TYPES = True

    def failed(self, span: Span) -> Iterator[Sequence[FailedDelivery]]:
        """Batches of this source's webhook that were not answered with 2xx."""
        for page in pagination.by_offset(
            lambda offset: self._batches(span, offset), _BATCHES, lambda one: one.reference
        ):
            yield [batch for batch in page if self.is_ours(batch.url) and batch.outcome != documents.TAKEN]

    def _batches(self, span: Span, offset: int) -> Sequence[FailedDelivery]:
        query: dict[str, str | int] = {
            "created_after": _instant(span.since, math.floor),
            "created_before": _instant(span.until, math.ceil),
            "limit": _BATCHES,
            "offset": offset,
        }

        def ask(statuses: str) -> Sequence[FailedDelivery]:
            given = {**query, "statuses": statuses}
            return self.caller.ask("GET", "/webhook-batch", documents.read_batches, query=given)

        return self._in_either_spelling(ask)

    def _in_either_spelling(self, ask: Callable[[str], T]) -> T:
        """The filter says `5xx` where batches say `5xx_response`: where one is refused, the other is tried."""
        try:
            return ask(_statuses(self._suffix))
        except ProviderApiError as error:
            if error.status != _BAD_REQUEST:
                raise
            other = "" if self._suffix else documents.SUFFIX
            try:
                found = ask(_statuses(other))
            except ProviderApiError:
                raise error from None
            self._suffix = other
            return found

    def sent(self, delivery: FailedDelivery) -> bytes | None:  # noqa: ARG002
        """None: what is in a batch is not shown."""
        return None

    def resend(self, delivery: FailedDelivery) -> ResendResult:
        """Have a batch sent again: the answer to the call tells what our receiver answered."""
        path = f"/webhook-batch/{escape(delivery.reference, safe='')}/resend"
        try:
            return self._while_receiver_is_asked("POST", path, documents.read_resent)
        except ProviderApiError as error:
            if error.status == _BAD_REQUEST:
                raise GoneError(str(error), status=error.status) from None
            raise

    def contents(self, body: bytes) -> Contents | None:
        """A batch is an array of events."""
        return documents.read_contents(body)

    def webhooks(self) -> Sequence[Webhook]:
        """The enrolled URLs."""
        return self.caller.ask("GET", "/webhook", documents.read_webhooks)

    def enrol(self, url: str) -> bool:
        """Enrol a URL; an answer that was lost and a second try make no difference."""
        if any(webhook.url == url for webhook in self.webhooks()):
            return False
        try:
            self.caller.ask("POST", "/webhook", nothing, query={"endpoint": url})
        except ProviderApiError as error:
            if error.status != _CONFLICT:
                raise
        return True

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove all, for there is no other way, and enrol again those that are to stay."""
        going = {webhook.url for webhook in webhooks}
        staying = [webhook.url for webhook in self.webhooks() if webhook.url not in going]
        self._remove_all(staying)
        for position, url in enumerate(staying):
            try:
                self.enrol(url)
            except ProviderApiError as error:
                lost = ", ".join(staying[position:])
                raise ProviderApiError(
                    f"All webhooks were removed, and these could not be enrolled again; do that now: {lost} ({error})"
                ) from error

    def _remove_all(self, staying: Sequence[str]) -> None:
        try:
            with suppress(GoneError):  # an answer was lost, and it was done the first time
                self.caller.ask("DELETE", "/webhook", nothing)
        except (UnreachableError, RateLimitedError) as error:
            if not staying:
                raise
            raise ProviderApiError(
                "All webhooks may have been removed, and not only those that should be. See which there are, and "
                f"enrol again what is missing of these: {', '.join(staying)} ({error})"
            ) from error

    def validate(self, webhooks: Collection[Webhook]) -> Sequence[Validation]:
        """MailChannels tests every webhook of the account; those that were not asked for are left out here."""
        wanted = {webhook.url for webhook in webhooks}
        done = self._while_receiver_is_asked("POST", "/webhook/validate", documents.read_validations)
        return [validation for validation in done if validation.url in wanted]

    def _while_receiver_is_asked(self, method: str, path: str, read: Callable[[bytes], T]) -> T:
        return self.caller.ask(method, path, read, timeout_seconds=self.caller.patience.resend_seconds)

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """The suppression list; a recipient may be on it for several reasons."""

        def read(offset: int) -> Sequence[ListedSuppression]:
            query = {"limit": _ENTRIES, "offset": offset}
            return self.caller.ask("GET", "/suppression-list", documents.read_suppressions, query=query)

        return pagination.by_offset(read, _ENTRIES, lambda one: (one.address, one.word))

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """As many as one call takes, all or none; where some are known already, in halves down to these."""
        waiting = [entries[first : first + _ENTRIES] for first in range(0, len(entries), _ENTRIES)]
        done = 0
        while waiting:
            part = waiting.pop(0)
            was_added = self._add(part)
            if was_added or len(part) == 1:
                done += len(part)
                yield Step(done, len(part) if was_added else 0)
            else:
                middle = len(part) // 2
                waiting[:0] = [part[:middle], part[middle:]]

    def _add(self, entries: Sequence[NewSuppression]) -> bool:
        """Whether all were added; if not, none was: some were there already, or they were too many at once."""
        body = {"suppression_entries": list(map(documents.suppression, entries)), "add_to_sub_accounts": False}
        try:
            self.caller.ask("POST", "/suppression-list", nothing, body=body)
        except ProviderApiError as error:
            if error.status == _CONFLICT or (error.status == _TOO_LARGE and len(entries) > 1):
                return False
            raise
        return True

    def unsuppress(self, address: str) -> None:
        """Remove what any source put there."""
        path = f"/suppression-list/recipients/{escape(address, safe='')}"
        self.caller.ask("DELETE", path, nothing, query={"source": "all"})


def _statuses(suffix: str) -> str:
    return ",".join(status + suffix if status.endswith("xx") else status for status in documents.FAILED)


def _instant(moment: datetime, round_: Callable[[float], int]) -> str:
    """Whole seconds, which is all that the filter takes."""
    return f"{datetime.fromtimestamp(round_(moment.timestamp()), UTC):%Y-%m-%dT%H:%M:%SZ}"
