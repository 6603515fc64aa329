"""The form in which a request is stored: its deduplication key, and its headers without credentials in clear text."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

from shared.encryption import Vault
from shared.events import event
from shared.providers.webhooks.base import WebhookRequest
from shared.sources.source import Source

_KEY_LIFETIME = timedelta(days=30)
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
_MAX_BYTES = 8 * 1024
_SEALED = "sealed:"


def dedup_key(source: Source, request: WebhookRequest, *, unverified: bool = False) -> str:
    """Return the key of a request: a hash of its body and of its provider's idempotency header, if it has one.

    The header alone never decides: no provider signs it, and a corrected body may come under the key of the first one.
    The key of an unverified request covers its headers, so that a forger's copy of a genuine body, with a signature
    that means nothing, is not taken for the genuine request.
    """
    identity = b"body:" + sha256(request.body).digest()
    if unverified:
        lines = "\n".join(f"{name}:{value}" for name, value in sorted(request.headers.items()))
        identity += b"headers:" + sha256(lines.encode("utf-8", "surrogatepass")).digest()
    elif (header := source.provider.idempotency_key(request)) is not None:
        identity += b"key:" + header.encode("utf-8", "surrogatepass")
    return event.receipt_key(source.id, identity, unverified=unverified)


def dedup_key_expires_at(source: Source, received_at: datetime) -> datetime:
    """Return when a request's key expires. A later request with the same key is a new occurrence."""
    window = source.provider.DEDUPE_WINDOW_SECONDS
    return received_at + (_KEY_LIFETIME if window is None else timedelta(seconds=window))


def redact_headers(headers: Mapping[str, str], vault: Vault | None = None) -> dict[str, str]:
    """Return the headers to store, by lower-case name, up to 8 KiB in all. What follows is left out.

    Headers with credentials are left out. With a `vault` they are encrypted instead, for a request that has to be
    verified again.
    """
    result: dict[str, str] = {}
    bytes_left = _MAX_BYTES
    for name, value in headers.items():
        if name in _SECRET:
            if vault is None:
                continue
            value = _SEALED + vault.seal({"value": value}).decode("ascii")  # noqa: PLW2901
        bytes_left -= len(name) + len(value)
        if bytes_left < 0:
            break
        result[name] = value
    return result


def unseal_headers(headers: Mapping[str, str], vault: Vault) -> dict[str, str]:
    """Return stored headers as they arrived. Raises SecretsError.

    Only headers that `redact_headers` encrypts are decrypted: a sender could make any other header look encrypted.
    """
    return {
        name: vault.open(value.removeprefix(_SEALED).encode("ascii"))["value"] if name in _SECRET else value
        for name, value in headers.items()
    }
