"""A source ready for use: its provider's adapter, and its credentials with parsed keys."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection

from shared.encryption import Vault
from shared.errors import CredentialsError, TidingsError, suggest
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import PULLS, WITHOUT_TENANT, Provider, QueueSettings, SourceSettings
from shared.sources import store
from shared.sources.store import SourceRow

_URLS = ("api_base", "keys_url", "webhook_url")
_OBJECTS = frozenset({"generic", "queue"})
_MIN_QUEUE_PATH = 2  # the account and the name
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}")


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
        expected, kind = (Mapping, "an object") if name in _OBJECTS else (str, "text")
        if value is not None and not isinstance(value, expected):
            raise CredentialsError(f"settings.{name} must be {kind}")
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
    return SourceSettings(
        sub_accounts=tuple(word for word in map(str.strip, (raw.get("sub_accounts") or "").split(",")) if word),
        events_without_tenant=_read_word(raw, "events_without_tenant", WITHOUT_TENANT),
        pull_suppressions=_read_word(raw, "pull_suppressions", PULLS),
        api_base=raw.get("api_base"),
        keys_url=raw.get("keys_url"),
        webhook_url=raw.get("webhook_url"),
        quarantine_until=until,
        generic=raw.get("generic"),
        queue=_read_queue(raw["queue"]) if raw.get("queue") is not None else None,
    )


def open_source(row: SourceRow, vault: Vault) -> Source:
    """Open a stored source. Raises CredentialsError or SecretsError."""
    provider = provider_called(row.provider)
    settings = read_settings(row.settings)
    credentials = provider.read_credentials(vault.open(row.credentials), row.fetched_keys, settings)
    own_codes = provider.status_codes_of(credentials)
    return Source(
        id=row.id,
        slug=row.slug,
        version=row.version,
        provider=replace(provider, status_codes=own_codes) if own_codes else provider,
        credentials=credentials,
        settings=settings,
    )


def _read_queue(raw: Mapping[str, Any]) -> QueueSettings:
    """Parse `{url, region?, endpoint_url?}`. Raises CredentialsError."""
    known = QueueSettings.__dataclass_fields__
    for name, value in raw.items():
        if name not in known:
            raise CredentialsError(
                f"settings.queue.{name} is unknown.{suggest(name, known)} Known settings are {', '.join(known)}"
            )
        if value is not None and not isinstance(value, str):
            raise CredentialsError(f"settings.queue.{name} must be text")
    url = raw.get("url") or ""
    _check_url("settings.queue.url", url)
    parts = urlsplit(url)
    if not parts.hostname or len([part for part in parts.path.split("/") if part]) < _MIN_QUEUE_PATH:
        raise CredentialsError(
            f"settings.queue.url must be the URL of a queue of SQS, as its page shows it, not {url!r}"
        )
    endpoint = raw.get("endpoint_url") or f"{parts.scheme}://{parts.netloc}/"
    _check_url("settings.queue.endpoint_url", endpoint)
    labels = [label for label in parts.hostname.split(".") if _REGION.fullmatch(label)]
    region = raw.get("region") or next(iter(labels), None)
    if region is None:
        raise CredentialsError("settings.queue.region must be set: the URL of the queue names none, such as eu-west-1")
    if not _REGION.fullmatch(region):
        raise CredentialsError(f"settings.queue.region must be a region of AWS such as eu-west-1, not {region!r}")
    return QueueSettings(url=url, region=region, endpoint_url=endpoint)


def _read_word(raw: Mapping[str, Any], name: str, allowed: Sequence[str]) -> str:
    """Return a setting that is one of these words; the first is the default. Raises CredentialsError."""
    word: str = raw.get(name) or allowed[0]
    if word not in allowed:
        raise CredentialsError(f"settings.{name} must be one of {', '.join(allowed)}, not {word!r}")
    return word


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
