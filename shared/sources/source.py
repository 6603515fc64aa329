"""A source ready for use: its provider's adapter, and its credentials with parsed keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection

from shared.encryption import Vault
from shared.errors import CredentialsError, TidingsError, suggest
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import Provider
from shared.sources import store
from shared.sources.store import SourceRow

_URLS = ("api_base", "keys_url", "webhook_url")
WITHOUT_TENANT = ("set_aside", "accept")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A configured provider account, ready for use."""

    id: int
    slug: str
    version: int
    provider: Provider
    credentials: Any
    settings: SourceSettings = field(default_factory=SourceSettings)


def provider_called(name: str) -> Provider:
    """Return the provider's adapter. Raises CredentialsError, which lists the known names."""
    if name not in PROVIDERS:
        names = ", ".join(sorted(PROVIDERS))
        raise CredentialsError(f"provider must be one of {names}, not {name!r}.{suggest(name, PROVIDERS)}")
    return PROVIDERS[name]


def read_settings(raw: Mapping[str, Any]) -> SourceSettings:
    """Parse and check a source's settings. Raises CredentialsError, which names the field."""
    known = SourceSettings.__dataclass_fields__
    for name, value in raw.items():
        if name not in known:
            raise CredentialsError(
                f"settings.{name} is unknown.{suggest(name, known)} Known settings are {', '.join(known)}"
            )
        if value is not None and not isinstance(value, str):
            raise CredentialsError(f"settings.{name} must be text")
    for name in _URLS:
        if raw.get(name):
            _check_url(f"settings.{name}", raw[name])
    until = None
    if (given := raw.get("quarantine_until")) is not None:
        try:
            until = datetime.fromisoformat(given)
        except ValueError:
            until = None
        if until is None or until.tzinfo is None:
            raise CredentialsError(f"settings.quarantine_until must be an RFC 3339 time with its zone, not {given!r}")
    without_tenant = raw.get("events_without_tenant") or WITHOUT_TENANT[0]
    if without_tenant not in WITHOUT_TENANT:
        raise CredentialsError(
            f"settings.events_without_tenant must be one of {', '.join(WITHOUT_TENANT)}, not {without_tenant!r}"
        )
    return SourceSettings(
        sub_accounts=tuple(word for word in map(str.strip, (raw.get("sub_accounts") or "").split(",")) if word),
        events_without_tenant=without_tenant,
        api_base=raw.get("api_base"),
        keys_url=raw.get("keys_url"),
        webhook_url=raw.get("webhook_url"),
        quarantine_until=until,
    )


def open_source(row: SourceRow, vault: Vault) -> Source:
    """Open a stored source. Raises CredentialsError or SecretsError."""
    provider = provider_called(row.provider)
    settings = read_settings(row.settings)
    credentials = provider.read_credentials(vault.open(row.credentials), row.fetched_keys)
    # A provider whose events name accounts or tenants has these fields.
    if settings.sub_accounts and hasattr(credentials, "sub_accounts"):
        credentials = replace(credentials, sub_accounts=settings.sub_accounts)
    if settings.events_without_tenant == "accept" and hasattr(credentials, "accepts_without_tenant"):
        credentials = replace(credentials, accepts_without_tenant=True)
    return Source(
        id=row.id,
        slug=row.slug,
        version=row.version,
        provider=provider,
        credentials=credentials,
        settings=settings,
    )


def _check_url(name: str, url: str) -> None:
    """Raise CredentialsError unless this is a URL without secrets: settings are shown to everyone who may read."""
    if not url.startswith(("http://", "https://")):
        raise CredentialsError(f"{name} must be an http or https URL, not {url!r}")
    try:
        named = urlsplit(url).netloc
    except ValueError as error:
        raise CredentialsError(f"{name} is not a valid URL: {error}") from None
    if "@" in named:
        raise CredentialsError(
            f"{name} must not hold a user name or password: settings are shown."
            " They belong in credentials, which are kept encrypted; write the URL without them"
        )


class SourceCache:
    """Opens sources by id, deleted ones included, and each again when its version has changed."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._opened: dict[int, tuple[int, Source | TidingsError]] = {}

    def of(self, connection: Connection, versions: Mapping[int, int]) -> Mapping[int, Source | TidingsError]:
        """Return the sources with these ids, each at this version or a later one; the error if it cannot be opened.

        The caller reads the versions together with its work, so that a change that was answered is in force for it.
        """
        changed = [id_ for id_, version in versions.items() if self._opened.get(id_, (None,))[0] != version]
        for row in store.by_ids(connection, changed) if changed else ():
            try:
                self._opened[row.id] = (row.version, open_source(row, self._vault))
            except TidingsError as error:
                self._opened[row.id] = (row.version, error)
        return {id_: self._opened[id_][1] for id_ in versions if id_ in self._opened}
