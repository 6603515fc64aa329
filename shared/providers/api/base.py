"""The interface of a management API client, and the values that it takes and returns."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from shared.errors import TidingsError
from shared.vocabulary import MailType, SuppressionReason


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDelivery:
    """A webhook delivery that failed, as the provider lists it.

    `reference` is the provider's id, `outcome` a result such as `5xx` or `no_response`, `events` the number of events
    in it, and `url` the address it was posted to.
    """

    reference: str
    failed_at: datetime
    outcome: str
    status_code: int | None
    events: int
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The number of events in a request body, and the time of the latest one if the events have times."""

    events: int
    latest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The half-open time range from `since` (included) to `until` (excluded)."""

    since: datetime
    until: datetime


def is_ours(url: str | None, slug: str, webhook_url: str | None) -> bool:
    """Return whether a webhook of the account posts to this source. Deliveries to other URLs are ignored."""
    if url is None:
        return False
    if webhook_url is not None:
        return url.rstrip("/") == webhook_url.rstrip("/")
    return urlsplit(url).path.rstrip("/").endswith(f"/webhooks/{slug}")


class ApiErrorKind(StrEnum):
    """Why a call failed, as far as callers react differently."""

    UNREACHABLE = "unreachable"
    """No response, an unreadable one, or a server error: a retry may help."""
    RATE_LIMITED = "rate limited"
    """Too many calls: nothing was done."""
    DENIED = "denied"
    """The provider does not accept the API key."""
    GONE = "gone"
    """The provider does not have it, or no longer."""
    OTHER = "other"


class ProviderApiError(TidingsError):
    """A call to the provider's API failed; the message says why, and what to do.

    `after_seconds` is the wait that the provider asked for; None if it named none.
    """

    def __init__(
        self,
        message: str,
        kind: ApiErrorKind = ApiErrorKind.OTHER,
        *,
        status: int | None = None,
        after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.after_seconds = after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """The limits of retries: the number of tries, the timeout of each, and the longest wait between two.

    `resend_seconds` is the timeout of calls during which the provider waits for our receiver.
    """

    tries: int
    timeout_seconds: float
    resend_seconds: float
    longest_wait_seconds: float


WORKER_RETRIES = RetryBudget(tries=2, timeout_seconds=10.0, resend_seconds=15.0, longest_wait_seconds=5.0)
"""For workers, which run again anyway."""
INTERACTIVE_RETRIES = RetryBudget(tries=5, timeout_seconds=15.0, resend_seconds=30.0, longest_wait_seconds=60.0)
"""For commands, whose user waits for the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendResult:
    """The result of a resend: `status_code` is our receiver's answer to the provider, None if there was none.

    `record` is the provider's id of the new attempt, `receipt_id` the receipt that our receiver named in its answer,
    and `payload` the JSON that was sent. Each is None if the provider does not show it.
    """

    status_code: int | None
    record: str | None = None
    receipt_id: UUID | None = None
    payload: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A URL that the provider posts to. `id` is its id in the provider's API."""

    id: str
    url: str
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The result of the provider's test of a webhook; `detail` describes the answer."""

    url: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSuppression:
    """One entry of the provider's suppression list.

    `word` is the provider's reason. With a `sender`, the entry applies to mail of this sender only.
    """

    address: str
    types: frozenset[MailType]
    reason: SuppressionReason
    word: str
    note: str | None
    created_at: datetime | None
    sender: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSuppression:
    """One entry to add to the provider's suppression list."""

    address: str
    types: frozenset[MailType]
    reason: SuppressionReason
    note: str


class Step(NamedTuple):
    """The progress of a long change: `done` counts all entries so far, `added` those that this step added."""

    done: int
    added: int


class ProviderApi(Protocol):
    """One provider's API, for one source. Every method raises ProviderApiError."""

    TAKES_TYPES: bool
    """Whether its suppression list distinguishes transactional mail from other mail."""

    def failed(self, span: Span) -> Iterator[Sequence[FailedDelivery]]:
        """Yield the failed deliveries to this source in a time range, page by page, each once."""

    def sent(self, delivery: FailedDelivery) -> bytes | None:
        """Return the body of a failed delivery; None if the API shows none. ProviderApiError may be of kind GONE."""

    def resend(self, delivery: FailedDelivery) -> ResendResult:
        """Request another attempt, and wait for its outcome. ProviderApiError may be of kind GONE."""

    def contents(self, body: bytes) -> Contents | None:
        """Return the number and time of the events in a body; None if it is not one of this provider's bodies."""

    def webhooks(self) -> Sequence[Webhook]:
        """Return all webhooks of the account."""

    def enrol(self, url: str) -> bool:
        """Add a webhook for this URL. Return False if there is one already."""

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Remove these webhooks and keep all others."""

    def validate(self, webhooks: Collection[Webhook]) -> Sequence[Validation]:
        """Request a test event for these webhooks; some providers test all webhooks of the account."""

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """Yield the provider's suppression list page by page, each entry once."""

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Add entries to the provider's list, one call per step. Existing entries stay unchanged."""

    def unsuppress(self, address: str) -> None:
        """Remove an address from the provider's list, whatever its reason."""
