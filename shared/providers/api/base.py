"""What every client of a management API offers, and the values that cross its border."""

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
    """What the provider could not deliver; `reference` is its id there, `outcome` such as `5xx` or `no_response`.

    `events` is how many it holds, `url` where it was posted to.
    """

    reference: str
    failed_at: datetime
    outcome: str
    status_code: int | None
    events: int
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is in the body of a request: how many events, and when the last of them happened, if they say."""

    events: int
    latest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From `since` until before `until`."""

    since: datetime
    until: datetime


def is_ours(url: str | None, slug: str, webhook_url: str | None) -> bool:
    """Whether a webhook of the account leads to this source: others' deliveries are none of our business."""
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
    """The provider's API did not do what was asked of it; the message says why, and what to do about it.

    `after_seconds` is how long the provider asked to be left alone; None if it did not.
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
    """How long to bear with an API: how many tries, how long each, the longest wait between two.

    `resend_seconds` is for calls during which the provider itself waits for our receiver.
    """

    tries: int
    timeout_seconds: float
    resend_seconds: float
    longest_wait_seconds: float


WORKER_RETRIES = RetryBudget(tries=2, timeout_seconds=10.0, resend_seconds=15.0, longest_wait_seconds=5.0)
"""Of a worker, who comes back anyway."""
INTERACTIVE_RETRIES = RetryBudget(tries=5, timeout_seconds=15.0, resend_seconds=30.0, longest_wait_seconds=60.0)
"""Of a command, whose user waits for the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendResult:
    """What came of sending a delivery again: what our receiver answered the provider, None for nothing.

    `record` is the provider's id of this new attempt, where it tells one; `receipt_id` what our receiver said that it
    made of it, and `payload` the JSON that was sent, as far as the provider shows them.
    """

    status_code: int | None
    record: str | None = None
    receipt_id: UUID | None = None
    payload: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A place that the provider posts to. `id` is what its API calls it by."""

    id: str
    url: str
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What came of the provider's test of a webhook; `detail` says what was answered."""

    url: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSuppression:
    """One entry of the provider's own list. `word` is the provider's reason; `sender` the only one it holds for."""

    address: str
    types: frozenset[MailType]
    reason: SuppressionReason
    word: str
    note: str | None
    created_at: datetime | None
    sender: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSuppression:
    """One entry to be put on the provider's list."""

    address: str
    types: frozenset[MailType]
    reason: SuppressionReason
    note: str


class Step(NamedTuple):
    """How far a long change has got: of all entries so many are `done`, and `added` of them in this step."""

    done: int
    added: int


class ProviderApi(Protocol):
    """One provider's API, for one source. Every method raises ProviderApiError."""

    TEST_IS_HARMLESS: bool
    """Whether its test tells nothing that could be taken for the truth about a message."""
    TAKES_TYPES: bool
    """Whether its list of suppressions tells transactional mail from other mail."""

    def failed(self, span: Span) -> Iterator[Sequence[FailedDelivery]]:
        """What it could not deliver to this source in that time, a page at a time, each once."""

    def sent(self, delivery: FailedDelivery) -> bytes | None:
        """The JSON of one, where the provider shows it. Raises ProviderApiError of kind GONE."""

    def resend(self, delivery: FailedDelivery) -> ResendResult:
        """Have one sent again, now, and wait for what comes of it. Raises ProviderApiError of kind GONE."""

    def contents(self, body: bytes) -> Contents | None:
        """What is in a body of this provider's; None if it is none."""

    def webhooks(self) -> Sequence[Webhook]:
        """All places that the account's events are posted to."""

    def enrol(self, url: str) -> bool:
        """Have events posted there; False if they already are."""

    def remove(self, webhooks: Collection[Webhook]) -> None:
        """Have no more events posted there; all other webhooks stay."""

    def validate(self, webhooks: Collection[Webhook]) -> Sequence[Validation]:
        """Have a test posted to these, and perhaps to others of the account as well."""

    def suppressions(self) -> Iterator[Sequence[ListedSuppression]]:
        """The provider's own list, a page at a time, each entry once."""

    def suppress(self, entries: Sequence[NewSuppression]) -> Iterator[Step]:
        """Put these on the provider's list, a call at a time. What is there already stays as it is."""

    def unsuppress(self, address: str) -> None:
        """Take an address off the provider's list, whatever put it there."""
