"""By what a repeated request is recognised."""

from datetime import datetime, timedelta
from hashlib import sha256

from shared.events import event
from shared.providers.webhooks.base import Request
from shared.sources.source import Source

_KEYS_LIVE = timedelta(days=30)


def key(source: Source, request: Request, *, unverified: bool = False) -> str:
    """The key of a request: its provider's idempotency header, else its body.

    The header of an unverified request proves nothing, so such a request is known by its body alone.
    """
    header = None if unverified else source.provider.idempotency_key(request)
    if header is not None:
        return event.receipt_key(source.id, b"key:" + header.encode("utf-8", "surrogatepass"))
    return event.receipt_key(source.id, b"body:" + sha256(request.body).digest(), unverified=unverified)


def expires_at(source: Source, received_at: datetime) -> datetime:
    """Until when a request with the same key is a repetition and not a new occurrence."""
    window = source.provider.DEDUPE_WINDOW_SECONDS
    return received_at + (_KEYS_LIVE if window is None else timedelta(seconds=window))
