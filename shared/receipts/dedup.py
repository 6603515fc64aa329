"""The key by which a duplicate request is recognized."""

from datetime import datetime, timedelta
from hashlib import sha256

from shared.events import event
from shared.providers.webhooks.base import Request
from shared.sources.source import Source

_KEY_LIFETIME = timedelta(days=30)


def dedup_key(source: Source, request: Request, *, unverified: bool = False) -> str:
    """Return the key of a request: its provider's idempotency header, else a hash of its body.

    The header of an unverified request proves nothing, so such a request gets the hash of its body.
    """
    header = None if unverified else source.provider.idempotency_key(request)
    if header is not None:
        return event.receipt_key(source.id, b"key:" + header.encode("utf-8", "surrogatepass"))
    return event.receipt_key(source.id, b"body:" + sha256(request.body).digest(), unverified=unverified)


def expires_at(source: Source, received_at: datetime) -> datetime:
    """Return when the key expires. A later request with the same key is a new occurrence."""
    window = source.provider.DEDUPE_WINDOW_SECONDS
    return received_at + (_KEY_LIFETIME if window is None else timedelta(seconds=window))
