"""Create and change sources. The provider's adapter checks credentials; they are stored encrypted and shown masked."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from sqlalchemy import Connection

from shared import json_text
from shared.encryption import SecretsError, Vault
from shared.errors import CredentialsError, InvalidFieldError, TidingsError, suggest
from shared.http.urls import is_printable
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import Provider, QueueSettings, secret_fields
from shared.sources import queues
from shared.sources import store as sources
from shared.sources.source import open_source, provider_called, read_settings
from shared.sources.store import SourceRow

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MASK = "••••"

# Fields that may be shown. An unknown field is masked as well, because it may be a misspelled secret.
_SHOWN = frozenset({"public_keys", "customer_handles", "jwks", "tenant_id", "username", "public_key", "access_key_id"})
_SHOWN_OF_JWK = frozenset({"kty", "kid", "use", "alg", "n", "e", "crv", "x"})  # a private key has more
_MIN_LENGTH_TO_SHOW_END = 16
_HEADER_VALUE = re.compile(r"[!-~]([ !-~]*[!-~])?")  # RFC 9110, 5.5
_FIELD = re.compile(r"\bsettings\.([a-z_]+(?:\.[a-z_]+)*)|`([a-z_]+)`")

_OLD = "old"
"""What stands, in `field.old`, for all values of a field but the newest."""

T = TypeVar("T")


def create(
    connection: Connection,
    vault: Vault,
    *,
    slug: str,
    provider: str,
    credentials: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> SourceRow:
    """Create a source. Raises InvalidFieldError, or ConflictError if the slug is taken."""
    if not SLUG.fullmatch(slug):
        raise InvalidFieldError("slug", slug, "must be 1 to 63 characters of a-z, 0-9 and -, and must not begin with -")
    adapter = _checked("provider", lambda: provider_called(provider))
    _require_known_fields(adapter, credentials)
    _check(connection, slug, adapter, credentials, {}, settings)
    return sources.create(
        connection, slug=slug, provider=provider, credentials=vault.seal(credentials), settings=settings
    )


def find_missing(connection: Connection, slugs: Sequence[str]) -> str | None:
    """Return the first of these slugs that no source has, deleted ones included; None if there is none."""
    known = sources.list_known_slugs(connection, slugs) if slugs else frozenset()
    return next((slug for slug in slugs if slug not in known), None)


def name_missing(connection: Connection, slug: str) -> str:
    """Return the sentence that no source has this slug. It names the nearest one that does."""
    nearest = suggest(slug, [row.slug for row in sources.list_sources(connection)])
    return f"There is no source called {slug!r}.{nearest}"


def require(connection: Connection, slugs: Iterable[str] | None) -> None:
    """Raise InvalidFieldError for a source that does not exist: with a misspelled one, a limit would match nothing."""
    known = [row.slug for row in sources.list_sources(connection)]
    for slug in slugs or ():
        if slug not in known:
            message = (
                f"sources has {slug!r}, which is not a source.{suggest(slug, known)} `tidings sources list` lists them."
            )
            raise InvalidFieldError("sources", slug, message)


def change(
    connection: Connection,
    vault: Vault,
    slug: str,
    *,
    credentials: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> SourceRow | None:
    """Change a source by JSON Merge Patch (RFC 7396). Objects, such as secrets by their ids, are merged too.

    Returns None if there is no such source. Raises InvalidFieldError or SecretsError.
    """
    row = sources.find(connection, slug) if sources.lock(connection, slug) else None
    if row is None:
        return None
    stored = vault.open(row.credentials)
    added = {name for name, value in (credentials or {}).items() if value is not None} - stored.keys()
    _require_known_fields(provider_called(row.provider), added)
    merged_credentials = stored if credentials is None else _merge(stored, credentials)
    merged_settings = row.settings if settings is None else _merge(row.settings, settings)
    _check(
        connection,
        slug,
        provider_called(row.provider),
        merged_credentials,
        row.fetched_keys,
        merged_settings,
        old_queue=row.settings.get("queue"),
    )
    queues.make_due(connection, row.id)
    return sources.update(
        connection,
        row.id,
        credentials=None if credentials is None else vault.seal(merged_credentials),
        settings=None if settings is None else merged_settings,
    )


def rotate(
    connection: Connection, vault: Vault, slug: str, new: Mapping[str, Any], dropped: Iterable[str]
) -> SourceRow | None:
    """Add new secrets or keys to a source, and drop old ones, named as `field` or `field.id`.

    If a provider has only one pair of username and password, the old pair stays valid as `previous`. Of a field that
    accepts several values, the old ones stay valid behind the new ones, until `field.old` is dropped.
    Returns None if there is no such source. Raises InvalidFieldError or SecretsError.
    """
    row = sources.find(connection, slug) if sources.lock(connection, slug) else None
    if row is None:
        return None
    patch = dict(new)
    old = vault.open(row.credentials)
    if "password" in new:
        pair = {name: old[name] for name in ("username", "password") if name in old}
        patch.setdefault("previous", [pair, *(old.get("previous") or [])])
    several = {field.name for field in provider_called(row.provider).credential_fields if field.several}
    for name in several & patch.keys() & old.keys():
        if patch[name] is not None:
            patch[name] = list(dict.fromkeys([*_list(patch[name]), *_list(old[name])]))
    held = list(old) + [f"{name}.{id_}" for name, value in old.items() if isinstance(value, Mapping) for id_ in value]
    held += [f"{name}.{_OLD}" for name in several & old.keys() if len(_list(patch.get(name, old[name]))) > 1]
    for name in dropped:
        field, _, key_id = name.partition(".")
        if name not in held:
            message = f"the source has no {name!r} to drop.{suggest(name, held)} It has {', '.join(held) or 'none'}."
            raise InvalidFieldError(f"credentials.{field}", None, message)
        if field in several and key_id == _OLD:
            patch[field] = _list(new[field]) if field in new else _list(old[field])[:1]
        else:
            patch = _merge_patches(patch, {field: {key_id: None} if key_id else None})
    return change(connection, vault, slug, credentials=patch)


def make_patch(old: Mapping[str, Any], new: Mapping[str, Any], kept: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON Merge Patch (RFC 7396) that makes `new` of `old`; the fields `kept` are only set."""
    patch: dict[str, Any] = {name: None for name in old if name not in new and name not in kept}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if inner := make_patch(before, value):
                patch[name] = inner
        elif before != value:
            patch[name] = value
    return patch


def read_document(field: str, document: str) -> Any:
    """Return what YAML or JSON says. Raises InvalidFieldError, with the position."""
    try:
        json.loads(document)
    except (ValueError, RecursionError):
        pass
    else:  # PyYAML reads neither tabs nor surrogate pairs
        try:
            return json_text.read_of_person(document)
        except ValueError as error:
            raise InvalidFieldError(field, None, f"{field} {error}") from None
    try:
        return yaml.load(document, _Loader)  # noqa: S506 - a safe loader
    except _RepeatedNameError as error:
        raise InvalidFieldError(field, None, f"{field} {error}") from None
    # PyYAML raises any of these for a tag that does not suit its value, such as `!!bool x`.
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, LookupError, TypeError) as error:
        raise InvalidFieldError(field, None, f"{field} is neither YAML nor JSON: {error}") from None


class _RepeatedNameError(ValueError):
    """A mapping gives a name twice."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads YAML in which no mapping gives a name twice."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Return the mapping as it is written: later, it has the names that are merged in too.

        Raises _RepeatedNameError. Names are the same if JSON, as which settings are stored, writes them alike.
        """
        node = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in self.yaml_constructors:  # such as `<<`
                continue
            value = self.construct_object(key)
            name = value if isinstance(value, str) else json.dumps(value, default=str)
            if name in seen:
                raise _RepeatedNameError(f"gives the name {key.value!r} twice, again in line {key.start_mark.line + 1}")
            seen.add(name)
        return node


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _require_known_fields(provider: Provider, names: Iterable[str]) -> None:
    known = [field.name for field in provider.credential_fields]
    for name in names:
        if name not in known:
            message = (
                f"{provider.name} has no credential {name!r}.{suggest(name, known)}"
                f" Its credentials are {', '.join(known)}."
            )
            raise InvalidFieldError(f"credentials.{name}", None, message)


def _merge_patches(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Combine two patches. Unlike merging a patch, this keeps nulls."""
    merged = dict(one)
    for name, value in other.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = _merge_patches(before, value)
        else:
            merged[name] = value
    return merged


def describe(row: SourceRow, vault: Vault, queue: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a source as it is shown: secrets are masked, long ones except for their last four characters.

    `problem` is the reason why the source cannot be used, or None. `queue` is the state of its queue (`queues.read`).
    """
    provider = PROVIDERS.get(row.provider)
    problem = None
    try:
        open_source(row, vault)
    except TidingsError as error:
        problem = str(error)
    try:
        credentials = mask(vault.open(row.credentials), secret_fields(provider) if provider else frozenset())
    except SecretsError:
        credentials = {}
    return {
        "slug": row.slug,
        "provider": row.provider,
        "credentials": credentials,
        "fetched_keys": row.fetched_keys,
        "settings": row.settings,
        "webhook_url": f"/webhooks/{row.slug}",
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "problem": problem,
        "queue": queue,
    }


def mask(credentials: Mapping[str, Any], secret_fields: frozenset[str]) -> dict[str, Any]:
    """Return credentials with their secrets masked."""
    masked = {}
    for name, value in credentials.items():
        keys = value.get("keys") if name == "jwks" and isinstance(value, Mapping) else None
        if name in secret_fields or name not in _SHOWN or (name == "jwks" and not isinstance(keys, list)):
            masked[name] = _hidden(value)
        elif isinstance(keys, list):
            shown_keys = [
                {part: key[part] for part in key if part in _SHOWN_OF_JWK} if isinstance(key, Mapping) else MASK
                for key in keys
            ]
            masked[name] = {"keys": shown_keys}
        else:
            masked[name] = value
    return masked


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _hidden(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_hidden(entry) for entry in value]
    if isinstance(value, str) and len(value) >= _MIN_LENGTH_TO_SHOW_END:
        return MASK + value[-4:]
    return MASK


def _merge(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            before = merged.get(name)
            merged[name] = _merge(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def _check(
    connection: Connection,
    slug: str,
    provider: Provider,
    credentials: Mapping[str, Any],
    fetched_keys: Mapping[str, str],
    settings: Mapping[str, Any],
    old_queue: Any = None,
) -> None:
    if _has_mask(credentials):
        message = f"must not contain {MASK}, which stands for a masked secret; leave the field out to keep the secret"
        raise InvalidFieldError("credentials", None, message)
    api_key = credentials.get("api_key")
    if isinstance(api_key, str) and not _HEADER_VALUE.fullmatch(api_key):
        message = "must be printable ASCII without leading or trailing spaces: it is sent as a header"
        raise InvalidFieldError("credentials.api_key", None, message)
    checked_settings = _checked("settings", lambda: read_settings(settings))
    # Not in `read_settings`: a source that an earlier version stored must still open.
    urls = {name: settings.get(name) for name in ("api_base", "keys_url", "webhook_url")}
    urls |= {f"queue.{name}": value for name, value in (settings.get("queue") or {}).items()}
    for name, url in urls.items():
        if url and not is_printable(url):
            message = f"must be printable ASCII without spaces, not {url!r}"
            raise InvalidFieldError(f"settings.{name}", None, message)
    if checked_settings.generic is not None and provider.name != "generic":
        message = f"is only for sources of the provider generic; {provider.name} has a built-in adapter"
        raise InvalidFieldError("settings.generic", None, message)
    if checked_settings.queue is not None:
        _check_queue(connection, slug, provider, checked_settings.queue, is_new=settings["queue"] != old_queue)
    _checked("credentials", lambda: provider.read_credentials(credentials, fetched_keys, checked_settings))


def _check_queue(connection: Connection, slug: str, provider: Provider, queue: QueueSettings, *, is_new: bool) -> None:
    if not provider.has_queues:
        able = ", ".join(sorted(name for name, one in PROVIDERS.items() if one.has_queues))
        message = f"is for events that come through a queue of SQS, of the provider {able}; {provider.name} posts them"
        raise InvalidFieldError("settings.queue", None, message)
    readers = queues.find_readers(connection).get(queues.identify(queue), ()) if is_new else ()
    if others := set(readers) - {slug}:
        message = (
            f"is already read by the source {', '.join(sorted(others))}, and SQS gives each message to only one"
            " reader: give every source a separate queue, and subscribe both queues to the topic"
        )
        raise InvalidFieldError("settings.queue.url", None, message)


def _has_mask(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_mask(entry) for entry in value.values())
    if isinstance(value, list):
        return any(_has_mask(entry) for entry in value)
    return isinstance(value, str) and MASK in value


def _checked(part: str, check: Callable[[], T]) -> T:
    try:
        return check()
    except CredentialsError as error:
        found = _FIELD.search(str(error))
        field = part
        if found and part != "provider":  # a mapping is among the settings, and checked with the credentials
            field = f"settings.{found[1]}" if found[1] else f"{part}.{found[2]}"
        raise InvalidFieldError(field, None, str(error)) from None
