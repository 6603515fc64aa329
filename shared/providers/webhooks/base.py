"""The interface of a provider, and the values that it takes and returns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.errors import PayloadError
from shared.events.event import Event

QUERY = ":query"
"""The name under which a request's query string is kept with its headers. No header can have a colon in its name."""
PULLED = ":pulled"
"""The name under which a message from a queue has, among its headers, the time at which the queue got it."""
WITHOUT_TENANT = ("set_aside", "accept")
PULLS = ("daily", "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """A webhook request: header names in lower case, the body byte for byte.

    A query string is in the headers, as `QUERY`: it may be what authenticates the request.
    """

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """A queue of Amazon SQS from which a source's events are taken. `endpoint_url` replaces the origin of its URL."""

    url: str
    region: str
    endpoint_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """The settings of one source, besides its credentials."""

    api_base: str | None = None
    keys_url: str | None = None
    webhook_url: str | None = None
    """The public URL that the provider posts to. It is registered there, and distinguishes our webhook from others."""
    quarantine_until: datetime | None = None
    """Until then, requests that fail verification go to quarantine instead of being refused."""
    sub_accounts: tuple[str, ...] = ()
    """Accounts whose events are accepted besides those of the credentials; `*` at the end stands for any text."""
    events_without_tenant: str = "set_aside"
    """One of `WITHOUT_TENANT`: what is done with events that name no tenant, if the source is limited to one."""
    pull_suppressions: str = "daily"
    """One of `PULLS`: whether the provider's suppression list is pulled without being asked for."""
    generic: Mapping[str, Any] | None = None
    """The mapping of a `generic` source; its adapter checks and compiles it."""
    queue: QueueSettings | None = None
    """The queue from which workers take the events; None if the provider posts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCodes:
    """The HTTP status for each failure, chosen so that this provider retries or gives up as it should.

    No code is right for all providers: see docs/decisions/0006. Success is 200 for all. 200 for a failure suits a
    provider that switches the webhook off after any other answer: the request is refused all the same, and listed.
    `hang_seconds` is for a provider that repeats a request only if there is no answer: that long the receiver keeps
    silent before it says `unavailable`.
    """

    bad_signature: int = 401
    too_large: int = 413
    encoded: int = 415
    unavailable: int = 503
    hang_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLookup:
    """Where a worker fetches a public key that a signature named.

    `url` is the provider's fixed address. A source's `settings.keys_url` replaces it. If the keys are part of the API,
    `settings.api_base` followed by `api_path` replaces it too. `query` is added to the URL. `has_all_keys`: one
    document contains all keys, so that fetching it decides all key ids.
    """

    url: str
    api_path: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    has_all_keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialField:
    """One field of a source's credentials, as `sources add --help`, the API and the docs describe it.

    `type` is a word for people ("text", "object", "list"); `secret` fields are always masked.
    """

    name: str
    type: str
    help: str
    required: bool = False
    secret: bool = False
    several: bool = False
    """Whether a list is accepted, of which each is valid: a rotation puts the new one before the old ones."""


def _nothing(*_: Any) -> None:
    return None


def _no_body(_query: str, /) -> bytes:
    return b""


def _no_tenants(_credentials: Any, /) -> frozenset[str]:
    return frozenset()


def _no_keys(_document: bytes, _key_id: str, /) -> Mapping[str, str]:
    raise PayloadError("The provider publishes no keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider: its package builds this value, and the registry lists it.

    The functions do no I/O. Those that most providers do not need have a default.
    """

    name: str
    credential_fields: Sequence[CredentialField]
    setup: str
    """Where an operator enters the webhook's URL. `{slug}` and `{path}` are replaced by the source's."""
    no_api: str | None
    """Why the provider has no management API; None for providers that have one (`api.py`)."""
    api_fields: Sequence[str] = ("api_key",)
    """The credentials that authenticate calls to its management API."""
    signs: str = ""
    """What authenticates a request, and what that covers, for the table in docs/providers.md."""
    retries: str = ""
    """When the provider repeats a request, for the same table; empty if that is not documented."""
    lists_failed: bool = False
    """Whether its API lists the requests that failed, and has them sent again."""
    sends_tests: bool = False
    """Whether its API posts a test to a webhook, and returns the result."""
    tests_look_real: bool = False
    """Whether that test can be mistaken for events of a real message."""
    removes_all_webhooks: bool = False
    """Whether its API can only remove all webhooks of an account, after which the others are registered again."""

    read_credentials: Callable[[Mapping[str, Any], Mapping[str, str], SourceSettings], Any]
    """Check the credentials of a source and parse its keys; the second argument is the keys that workers fetched.

    Builds a frozen value once, when a source is loaded, which the other functions reuse. Raises CredentialsError with
    a sentence that names the field.
    """
    verify: Callable[[WebhookRequest, Any, datetime], None]
    """Return if the provider sent this request; raise VerificationError otherwise, and never anything else."""
    parse: Callable[[bytes, Any], list[Event]]
    """Return the events of a body, in its order, one for each recipient.

    Raises PayloadError, and never anything else, if the body as a whole is not what the provider sends. A bad item of
    a batch becomes an `unknown` event that says what is wrong with it.
    """

    status_codes: StatusCodes = StatusCodes()
    status_codes_of: Callable[[Any], StatusCodes | None] = _nothing
    """Return the status codes of a source by its credentials; None for `status_codes`."""
    dedupe_window_seconds: int | None = None
    """How long an identical body counts as a repetition; None means for as long as keys are kept."""
    has_queues: bool = False
    """Whether workers can take its events from a queue (`settings.queue`), by the `access_key` of its credentials."""
    probes_with_query: bool = False
    """Whether the provider tests a URL by GET with a query. From any other, such a request may be an event."""
    body_of_query: Callable[[str], bytes] = _no_body
    """Return what a GET with this query is stored as, without its secret, where the provider sends events that way.

    Empty for a query that has no event.
    """
    idempotency_key: Callable[[WebhookRequest], str | None] = _nothing
    """Return the provider's id of this request, stable over its retries; None to use the body's hash."""
    single_use_token: Callable[[WebhookRequest], str | None] = _nothing
    """Return the token for which the signature vouches instead of the body: another body under it is a replay."""
    probe: Callable[[WebhookRequest, Any], bytes | None] = _nothing
    """Return the body of the answer to a test of the URL, which is not verified or stored; None for any other request.

    Raises VerificationError for a test that must be authentic to be answered.
    """
    confirmation_url: Callable[[WebhookRequest, SourceSettings], str | None] = _nothing
    """Return the URL that a worker must fetch before this request counts: it confirms the subscription to a topic.

    It is asked about verified requests only. None for any other request.
    """
    tenants: Callable[[Any], frozenset[str]] = _no_tenants
    """Return the only tenants whose events this source accepts; empty if the credentials name none."""
    settings_after_registration: Callable[[Any], Mapping[str, Any] | None] = _nothing
    """Return the settings that a source needs once its webhook is registered by the API; None if it needs none."""
    key_lookup: Callable[[str], KeyLookup | None] = _nothing
    """Return where to fetch the key of that id; None for providers whose keys are secrets."""
    read_keys: Callable[[bytes, str], Mapping[str, str]] = _no_keys
    """Return the keys in a document that was fetched for that id, by their ids, each as text for `read_credentials`.

    Raises PayloadError.
    """


def secret_fields(provider: Provider) -> frozenset[str]:
    """Return the names of the credential fields that are always masked."""
    return frozenset(field.name for field in provider.credential_fields if field.secret)


def describe_credentials(providers: Iterable[Provider]) -> str:
    """Return a Markdown list of the providers' credential fields; `?` marks the optional ones."""
    lines = []
    for provider in providers:
        lines.append(f"- {provider.name}")
        lines.extend(
            f"  - `{field.name}{'' if field.required else '?'}` ({field.type}): {field.help}"
            for field in provider.credential_fields
        )
    return "\n".join(lines)
