"""Fetching the public keys that providers publish."""

import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from shared.errors import NotFoundError, PayloadError
from shared.http import client as http_client
from shared.http.client import OutboundError
from shared.sources.source import Source

LOOKUP_WINDOW_SECONDS = 5.0
MAX_LOOKUPS = 20
"""Keys that a process asks for in this time, of each source."""

_NOT_FOUND = 404


class KeyServers:
    """What one process asks of the sources' key servers: a few keys at a time, and none of a server that fails.

    Anybody can invent key ids, so their number must not become a load on the provider.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[int, tuple[float, int]] = {}
        self._failing_until: dict[int, float] = {}

    def may_ask(self, source_id: int, *, is_new: bool) -> bool:
        """Return whether to ask for a key now, and count it. Requests that are new wait while the server fails."""
        now = self._clock()
        if is_new and now < self._failing_until.get(source_id, 0.0):
            return False
        since, lookups = self._windows.get(source_id, (now, 0))
        if now - since >= LOOKUP_WINDOW_SECONDS:
            since, lookups = now, 0
        if lookups >= MAX_LOOKUPS:
            return False
        self._windows[source_id] = since, lookups + 1
        return True

    def fail(self, source_id: int, seconds: float) -> None:
        """Let new requests wait for this time, because the server did not answer."""
        self._failing_until[source_id] = self._clock() + seconds


def fetch(source: Source, key_id: str) -> Mapping[str, str]:
    """Fetch the keys at the URL where the provider publishes this one: all keys of a key set, or this one alone.

    The URL is the provider's or the one that the operator set for this source, never one that a request named.
    If the key is not among them, the signature is forged, or by another account's key. Raises NotFoundError if the
    provider publishes no keys, and OutboundError if a retry may help.
    """
    url = address(source, key_id)
    if url is None:
        raise NotFoundError(f"{source.provider.name} publishes no keys")
    answer = http_client.get(url)
    if answer.status == _NOT_FOUND and not is_set(source):
        return {}
    if answer.status != 200:
        failure = OutboundError(f"{url} answered {answer.status}")
        failure.partial = answer
        raise failure
    try:
        return source.provider.read_keys(answer.body, key_id)
    except PayloadError as error:
        raise OutboundError(f"{url} answered with something that is not a key: {error}") from error


def is_set(source: Source) -> bool:
    """Return whether one document has all keys of the source, so that fetching it decides all key ids."""
    lookup = source.provider.key_lookup("")
    return lookup is not None and lookup.has_all_keys


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
