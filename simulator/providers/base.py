"""The interface of every simulated provider.

The dialects are written from the providers' documents, apart from `shared.providers` and without its code, so
that a mistake in one of the two cannot hide in the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

from shared.vocabulary import EventType
from simulator.mail import Happening, Message

Headers = dict[str, str]

QUERY = ":query"
"""The name under which the query of a request's URL is among its headers. No header can have a colon in its name."""


class Forgery(StrEnum):
    """The ways in which a request can be other than its provider signed it."""

    TAMPERED = "tampered"
    """Changed after it was signed."""
    REDIGESTED = "redigested"
    """Changed after it was signed, with a digest that fits the change."""
    STALE = "stale"
    """Signed longer ago than a receiver should accept."""
    FUTURE = "future"
    """Signed at a time that has not come yet."""
    WRONG_KEY = "wrong key"
    """Signed with another key, under the name of a known one."""
    UNKNOWN_KEY = "unknown key"
    """Signed with an unknown key id."""
    MALFORMED = "malformed"
    """Signed in a header that cannot be read."""
    UNSIGNED = "unsigned"
    """Not signed at all."""
    FOREIGN = "foreign account"
    """Properly signed by the provider, but for another of its customers."""


class Signed(NamedTuple):
    """A request as it goes out."""

    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """The retries of a provider after a response other than 2xx; status 0 means no response.

    `delays_seconds` are the waits after the first failure and those that follow. None for `statuses`: all.
    """

    delays_seconds: tuple[float, ...] = ()
    statuses: frozenset[int] | None = None

    def next_delay(self, failures: int, status: int) -> float | None:
        """Return the delay after this number of failures, the last with `status`; None to give up."""
        if failures > len(self.delays_seconds):
            return None
        if self.statuses is not None and status not in self.statuses:
            return None
        return self.delays_seconds[failures - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The differences between the providers' dialects."""

    speaks: frozenset[EventType]
    """The kinds of happenings that it has words for."""
    events_per_body: int
    """The maximum number of events per request."""
    one_recipient: bool
    """Whether an event is about one recipient only."""
    nameless: bool
    """Whether an event may name no recipient."""
    timed: bool
    """Whether its events contain a time."""
    explains: bool
    """Whether its events contain the reason of a failure."""
    publishes_keys: bool
    """Whether its keys can be fetched, rather than being secrets."""
    rotates: bool
    """Whether two keys can be in use at once."""
    forgeries: frozenset[Forgery]
    """The possible forgeries of its signature."""
    retry: RetryRule
    refused_with_200: bool = False
    """Whether a refused request may be answered with 200.

    Some providers switch the webhook off after a refusal, or drop the event for good. Of others the first key is not
    known from the start, so a worker refuses requests that come before it is fetched.
    """


class Dialect(Protocol):
    """One provider; each module of this package has a class for one."""

    NAME: str
    TRAITS: Traits
    KEYS_PATH: str | None
    """Where the provider serves its public keys."""

    @property
    def key_id(self) -> str:
        """The name of the key that it signs with at present."""

    def credentials(self) -> dict[str, Any]:
        """Return the credentials for `POST /v1/sources`.

        Of public keys only the first, which is what was copied from the provider at the time; of secrets all.
        """

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """Return the JSON of these events. Raises ValueError if the provider has no such event."""

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:
        """Return all headers of the request, signed with the current key or the named one."""

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """Return a forged request. Raises ValueError if this provider has no such forgery."""

    def rotate(self) -> str:
        """Switch to a new key, keep the old one valid, and return the new one's name."""

    def key_document(self, query: Mapping[str, str]) -> bytes | None:
        """Return the response at KEYS_PATH; None for 404."""

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the query of `GET /v1/messages` that finds the message of this provider."""


@runtime_checkable
class Enveloping(Protocol):
    """A dialect whose signature is a part of the body, so that the body is complete only when it is sent."""

    def envelop(self, body: bytes, now: datetime, key_id: str | None = None) -> bytes:
        """Return the body with its signature."""


def make_request(dialect: Dialect, body: bytes, now: datetime, key_id: str | None = None) -> Signed:
    """Return the request with this body as it goes out now."""
    if isinstance(dialect, Enveloping):
        body = dialect.envelop(body, now, key_id)
    return Signed(dialect.sign(body, now, key_id), body)


def unsupported(dialect: str, what: str) -> ValueError:
    """Return the error for a forgery or an event that a dialect does not have."""
    return ValueError(f"{dialect} does not support this: {what}")
