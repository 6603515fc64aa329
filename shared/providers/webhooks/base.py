"""What every provider's module offers, and the values that cross its border."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.events.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What arrived: header names in lower case, the body byte for byte."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCodes:
    """What to answer so that this provider does the right thing.

    No code is safe everywhere: see docs/decisions. Success is exactly 200 for all.
    """

    bad_signature: int = 401
    too_large: int = 413
    encoded: int = 415
    unavailable: int = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLookup:
    """Where a worker finds a public key that a signature named.

    `url` is the provider's fixed address. A source's `settings.keys_url` replaces it whole; its
    `settings.api_base` replaces it too, with `api_path` below it, where the keys are part of the API.
    `query` is added to it, and empty where one document holds all keys.
    """

    url: str
    api_path: str | None
    query: Mapping[str, str]


class Provider(Protocol):
    """A provider's dialect. Each module of this package that is named in the registry is one of these.

    `Credentials` of a module are a frozen value that `read_credentials` makes once and the others reuse, so
    that keys are parsed when a source is loaded and not with every request.
    """

    NAME: str
    STATUS_CODES: StatusCodes
    DEDUPE_WINDOW_SECONDS: int | None
    """How long an identical body counts as a repetition; None means as long as keys are kept."""
    SECRET_FIELDS: frozenset[str]
    """The fields of the credentials that are never shown in clear."""

    def read_credentials(self, raw: Mapping[str, Any], fetched_keys: Mapping[str, str], /) -> Any:
        """Check what the operator gave and make it ready; `fetched_keys` are keys that workers fetched.

        Raises CredentialsError with a sentence that names the field.
        """

    def verify(self, request: Request, credentials: Any, now: datetime, /) -> None:
        """Return if the provider sent this; raise VerificationError otherwise, and never anything else."""

    def idempotency_key(self, request: Request, /) -> str | None:
        """What the provider names this request by, stable over its retries; None to use the body's hash."""

    def parse(self, body: bytes, credentials: Any, /) -> list[Event]:
        """The events of a body, in its order, one for each recipient.

        Raises PayloadError, and never anything else, if the body as a whole is not what the provider sends.
        A bad item of a batch becomes an `unknown` event that says what is wrong with it.
        """

    def tenants(self, credentials: Any, /) -> frozenset[str]:
        """Whose events are taken, where the credentials say so: each of them then names one of these.

        Empty where they do not: then an event may name anyone or nobody.
        """

    def key_lookup(self, key_id: str, /) -> KeyLookup | None:
        """Where to fetch the key of that id; None for providers whose keys are secrets."""

    def read_keys(self, document: bytes, /) -> Mapping[str, str]:
        """The keys in what that address answered, by id, each as text for `read_credentials`.

        Raises PayloadError.
        """
