"""The form in which a request is stored: its deduplication key, and its headers without credentials in clear text."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from shared import ids
from shared.encryption import Vault
from shared.errors import VerificationError
from shared.events import event
from shared.providers.webhooks.base import QUERY, WebhookRequest
from shared.receipts.store import Receipt
from shared.sources.source import Source

_KEY_LIFETIME = timedelta(days=30)
_OF_CONNECTION = frozenset({"accept", "accept-encoding", "connection", "content-length", "host"})
_COPIES_OF_URL = frozenset(
    {
        *("referer", "x-envoy-original-path", "x-forwarded-uri", "x-original-uri", "x-original-url", "x-rewrite-url"),
        *("x-request-uri", "x-waws-unencoded-url"),
    }
)
"""Where proxies put the URL as it arrived. Its query may have a secret."""
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key", QUERY, *_COPIES_OF_URL})
_MAX_BYTES = 8 * 1024
_MAX_KEY_LENGTH = 255
_SEALED = "sealed:"


def make_receipt(
    source: Source,
    request: WebhookRequest,
    now: datetime,
    *,
    vault: Vault,
    unverified: VerificationError | None = None,
    remote_ip: str | None = None,
) -> Receipt:
    """Return the receipt of a request. Headers with credentials are dropped, or encrypted if they are needed again.

    `unverified` is why the request goes to quarantine. Raises VerificationError if its headers are not stored
    completely: accepted now, it would be rejected later, for a signature that was left out.
    """
    idempotency_key = source.provider.idempotency_key(request)
    headers = redact_headers(request.headers, vault if unverified else None)
    if unverified and len(headers) < len(request.headers):
        sentence = f"{unverified}; the headers are too long to be kept and verified later"
        raise VerificationError(unverified.reason, sentence)
    return Receipt(
        id=ids.receipt_id(now),
        source_id=source.id,
        received_at=now,
        key=dedup_key(source, request, unverified=unverified is not None),
        key_expires_at=dedup_key_expires_at(source, now),
        idempotency_key=idempotency_key[:_MAX_KEY_LENGTH] if idempotency_key else None,
        remote_ip=remote_ip or None,
        headers=msgspec.json.encode(headers).decode(),
        body=request.body,
        is_single_use=source.provider.single_use_token(request) is not None,
    )


def dedup_key(source: Source, request: WebhookRequest, *, unverified: bool = False) -> str:
    """Return the key of a request: a hash of its body and of its provider's idempotency header, if it has one.

    A token that is signed instead of the body is the key alone: another body under it must be found, and refused. The
    header alone never decides: no provider signs it, and a corrected body may come under the key of the first one.
    The key of an unverified request covers its headers, so that a forger's copy of a genuine body, with a signature
    that means nothing, is not taken for the genuine request.
    """
    identity = b"body:" + sha256(request.body).digest()
    if not unverified and (token := source.provider.single_use_token(request)) is not None:
        return event.receipt_key(source.id, b"token:" + token.encode("utf-8", "surrogatepass"))
    if unverified:
        lines = "\n".join(f"{name}:{value}" for name, value in sorted(request.headers.items()))
        identity += b"headers:" + sha256(lines.encode("utf-8", "surrogatepass")).digest()
    elif (header := source.provider.idempotency_key(request)) is not None:
        identity += b"key:" + header.encode("utf-8", "surrogatepass")
    return event.receipt_key(source.id, identity, unverified=unverified)


def dedup_key_expires_at(source: Source, received_at: datetime) -> datetime:
    """Return when a request's key expires. A later request with the same key is a new occurrence."""
    window = source.provider.dedupe_window_seconds
    return received_at + (_KEY_LIFETIME if window is None else timedelta(seconds=window))


def redact_headers(headers: Mapping[str, str], vault: Vault | None = None) -> dict[str, str]:
    """Return the headers to store, by lower-case name, up to 8 KiB in all. What follows is left out.

    Headers with credentials are left out, and those that only concern the connection. With a `vault`, for a request
    that has to be verified again, all are kept, and credentials are encrypted.
    """
    result: dict[str, str] = {}
    bytes_left = _MAX_BYTES
    for name, value in headers.items():
        if vault is None and (name in _SECRET or name in _OF_CONNECTION):
            continue
        if name in _SECRET and vault is not None:
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
