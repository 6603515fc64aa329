"""A source made ready for use: its provider's adapter, and credentials whose keys are parsed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from shared.encryption import Vault
from shared.errors import CredentialsError
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import Provider
from shared.sources.store import SourceRow

_URLS = ("api_base", "keys_url", "webhook_url")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """What can be set for one source besides its credentials."""

    api_base: str | None = None
    keys_url: str | None = None
    webhook_url: str | None = None
    """The public URL that the provider posts to: what is enrolled there, and told from others' webhooks by."""
    quarantine_until: datetime | None = None
    """Until then requests that fail verification are kept apart rather than refused: while a secret is mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who posts, ready for use."""

    id: int
    slug: str
    version: int
    provider: Provider
    credentials: Any
    settings: SourceSettings = field(default_factory=SourceSettings)


def provider_called(name: str) -> Provider:
    """The adapter of that name. Raises CredentialsError that lists the names there are."""
    if name not in PROVIDERS:
        raise CredentialsError(f"provider must be one of {', '.join(sorted(PROVIDERS))}, not {name!r}")
    return PROVIDERS[name]


def read_settings(raw: Mapping[str, Any]) -> SourceSettings:
    """Check a source's settings. Raises CredentialsError with a sentence that names the field."""
    known = SourceSettings.__dataclass_fields__
    for name, value in raw.items():
        if name not in known:
            raise CredentialsError(f"settings.{name} is not known; there are {', '.join(known)}")
        if value is not None and not isinstance(value, str):
            raise CredentialsError(f"settings.{name} must be text")
    for name in _URLS:
        url = raw.get(name)
        if url:
            _check_url(f"settings.{name}", url)
    return SourceSettings(
        api_base=raw.get("api_base"),
        keys_url=raw.get("keys_url"),
        webhook_url=raw.get("webhook_url"),
        quarantine_until=_moment(raw.get("quarantine_until")),
    )


def open_source(row: SourceRow, vault: Vault) -> Source:
    """Make a stored source ready. Raises CredentialsError or SecretsError."""
    provider = provider_called(row.provider)
    return Source(
        id=row.id,
        slug=row.slug,
        version=row.version,
        provider=provider,
        credentials=provider.read_credentials(vault.open(row.credentials), row.fetched_keys),
        settings=read_settings(row.settings),
    )


def _check_url(name: str, url: str) -> None:
    """Raise CredentialsError unless this is a URL that may be shown to whoever may read."""
    if not url.startswith(("http://", "https://")):
        raise CredentialsError(f"{name} must be an http or https URL, not {url!r}")
    try:
        named = urlsplit(url).netloc
    except ValueError as error:
        raise CredentialsError(f"{name} is no URL: {error}") from None
    if "@" in named:
        raise CredentialsError(
            f"{name} must not hold a user name or password: settings are shown."
            " They belong in credentials, which are kept encrypted; write the URL without them"
        )


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise CredentialsError(f"settings.quarantine_until must be a time with its zone (RFC 3339), not {text!r}")
    return moment
