"""The interface of a provider's package, and the values that it takes and returns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.events.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """A webhook request: header names in lower case, the body byte for byte."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCodes:
    """The HTTP status for each failure, chosen so that this provider retries or gives up as it should.

    No code is right for all providers: see docs/decisions/0006. Success is 200 for all.
    """

    bad_signature: int = 401
    too_large: int = 413
    encoded: int = 415
    unavailable: int = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLookup:
    """Where a worker fetches a public key that a signature named.

    `url` is the provider's fixed address. A source's `settings.keys_url` replaces it. If the keys are part of the API,
    `settings.api_base` followed by `api_path` replaces it too.
    `query` is added to the URL; it is empty if one document contains all keys.
    """

    url: str
    api_path: str | None
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialField:
    """One field of a source's credentials, as `sources add --help`, the API and the docs describe it.

    `type` is a word for people ("text", "object", "list"); `secret` fields are never shown in clear.
    """

    name: str
    type: str
    help: str
    required: bool = False
    secret: bool = False


class Provider(Protocol):
    """A provider. Each package under `shared.providers` that the registry names is one of these.

    `read_credentials` builds a frozen value once, which the other functions reuse: keys are parsed when a source is
    loaded, not with every request.
    """

    NAME: str
    STATUS_CODES: StatusCodes
    DEDUPE_WINDOW_SECONDS: int | None
    """How long an identical body counts as a repetition; None means for as long as keys are kept."""
    CREDENTIAL_FIELDS: Sequence[CredentialField]
    SETUP: str
    """Where an operator enters the webhook's URL. `{slug}` and `{path}` are replaced by the source's."""
    NO_API: str | None
    """Why the provider has no management API; None for providers that have one (`api.py`)."""

    def read_credentials(self, raw: Mapping[str, Any], fetched_keys: Mapping[str, str], /) -> Any:
        """Check the credentials of a source and parse its keys; `fetched_keys` are keys that workers fetched.

        Raises CredentialsError with a sentence that names the field.
        """

    def verify(self, request: WebhookRequest, credentials: Any, now: datetime, /) -> None:
        """Return if the provider sent this; raise VerificationError otherwise, and never anything else."""

    def idempotency_key(self, request: WebhookRequest, /) -> str | None:
        """Return the provider's id of this request, stable over its retries; None to use the body's hash."""

    def parse(self, body: bytes, credentials: Any, /) -> list[Event]:
        """Return the events of a body, in its order, one for each recipient.

        Raises PayloadError, and never anything else, if the body as a whole is not what the provider sends.
        A bad item of a batch becomes an `unknown` event that says what is wrong with it.
        """

    def tenants(self, credentials: Any, /) -> frozenset[str]:
        """Return the only tenants whose events this source accepts; empty if the credentials name none."""

    def key_lookup(self, key_id: str, /) -> KeyLookup | None:
        """Return where to fetch the key of that id; None for providers whose keys are secrets."""

    def read_keys(self, document: bytes, /) -> Mapping[str, str]:
        """Return the keys in a fetched document by their ids, each as text for `read_credentials`.

        Raises PayloadError.
        """


def secret_fields(provider: Provider) -> frozenset[str]:
    """Return the names of the credential fields that are never shown in clear."""
    return frozenset(field.name for field in provider.CREDENTIAL_FIELDS if field.secret)


def describe_credentials(providers: Iterable[Provider]) -> str:
    """Return a Markdown list of the providers' credential fields; `?` marks the optional ones."""
    lines = []
    for provider in providers:
        lines.append(f"- {provider.NAME}")
        lines.extend(
            f"  - `{field.name}{'' if field.required else '?'}` ({field.type}): {field.help}"
            for field in provider.CREDENTIAL_FIELDS
        )
    return "\n".join(lines)
