"""Fetching the public keys that providers publish."""

from collections.abc import Mapping
from urllib.parse import urlencode

from shared.errors import NotFoundError, PayloadError
from shared.http import client as http_client
from shared.http.client import OutboundError
from shared.sources.source import Source

_NOT_FOUND = 404


def fetch(source: Source, key_id: str) -> Mapping[str, str]:
    """Fetch the keys at the URL where the provider publishes this one; it is among them.

    The URL is the provider's or the one that the operator set for this source, never one that a request named.
    Raises NotFoundError (the signature is forged, or by another account's key), or OutboundError if a retry may help.
    """
    url = address(source, key_id)
    if url is None:
        raise NotFoundError(f"{source.provider.NAME} publishes no keys")
    answer = http_client.get(url)
    if answer.status == _NOT_FOUND:
        raise NotFoundError(f"{url} has no key {key_id!r}")
    if answer.status != 200:
        raise OutboundError(f"{url} answered {answer.status}")
    try:
        keys = source.provider.read_keys(answer.body)
    except PayloadError as error:
        raise OutboundError(f"{url} answered with something that is not a key: {error}") from error
    if key_id not in keys:
        raise NotFoundError(f"{url} has no key {key_id!r}")
    return keys


def address(source: Source, key_id: str) -> str | None:
    """Return the URL of this key for this source; None if the provider publishes no keys."""
    lookup = source.provider.key_lookup(key_id)
    if lookup is None:
        return None
    url = lookup.url
    if source.settings.keys_url:
        url = source.settings.keys_url
    elif source.settings.api_base and lookup.api_path:
        url = f"{source.settings.api_base.rstrip('/')}/{lookup.api_path}"
    if not lookup.query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(lookup.query)}"
