"""What every simulated provider offers.

The dialects are written from the providers' documents, apart from `shared.providers` and without its code, so
that a mistake in one of the two cannot hide in the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from shared.vocabulary import EventType
from simulator.mail import Happening, Message

Headers = dict[str, str]


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
    """Signed under a name that nobody has a key for."""
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
    """What a provider does when it is not answered with 2xx; a status of 0 stands for no answer.

    `delays_seconds` are the waits after the first failure and those that follow. None for `statuses`: all.
    """

    delays_seconds: tuple[float, ...] = ()
    statuses: frozenset[int] | None = None

    def next_delay(self, failures: int, status: int) -> float | None:
        """How long to wait after so many failures, the last of them with `status`; None to give up."""
        if failures > len(self.delays_seconds):
            return None
        if self.statuses is not None and status not in self.statuses:
            return None
        return self.delays_seconds[failures - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What tells one provider's dialect from another's."""

    speaks: frozenset[EventType]
    """The kinds of happenings that it has words for."""
    events_per_body: int
    """How many events one request may hold."""
    one_recipient: bool
    """Whether an event is about one recipient only."""
    nameless: bool
    """Whether an event may name no recipient."""
    timed: bool
    """Whether its events tell when they happened."""
    explains: bool
    """Whether its events tell why a delivery failed."""
    publishes_keys: bool
    """Whether its keys can be fetched, rather than being secrets."""
    rotates: bool
    """Whether two keys can be in use at once."""
    forgeries: frozenset[Forgery]
    """The forgeries of its signature that there can be."""
    retry: RetryRule


class Dialect(Protocol):
    """One provider. Each module of this package has a class that is one of these."""

    NAME: str
    TRAITS: Traits
    KEYS_PATH: str | None
    """Where the provider serves its public keys."""

    @property
    def key_id(self) -> str:
        """The name of the key that it signs with at present."""

    def credentials(self) -> dict[str, Any]:
        """What an operator gives Tidings, as `POST /v1/sources` takes it.

        Of public keys only the first, which is what was copied from the provider at the time; of secrets all.
        """

    def body(self, happenings: Sequence[Happening]) -> bytes:
        """The JSON that tells these happenings. Raises ValueError if it cannot."""

    def sign(self, body: bytes, now: datetime, key_id: str | None = None) -> Headers:
        """All headers of the request, signed with the present key or the one named."""

    def forge(self, body: bytes, now: datetime, forgery: Forgery) -> Signed:
        """The request as a forger makes it. Raises ValueError if there is no such forgery here."""

    def rotate(self) -> str:
        """Go over to a new key, keep the old one valid, and return the new one's name."""

    def key_document(self, query: Mapping[str, str]) -> bytes | None:
        """What is served at KEYS_PATH; None for 404."""

    def lookup(self, message: Message) -> dict[str, str]:
        """The query by which `GET /v1/messages` finds what this provider told of the message."""


def unsayable(dialect: str, what: str) -> ValueError:
    """The error for what a dialect has no words for."""
    return ValueError(f"{dialect} cannot say: {what}")
