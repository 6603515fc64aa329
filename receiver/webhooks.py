"""The steps from an HTTP request to a receipt: read the request, verify its signature, build the receipt."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec
from flask import Request
from werkzeug.exceptions import UnsupportedMediaType

from receiver.errors import StorageUnavailableError
from receiver.group_commit import Quarantine
from receiver.source_cache import SourceCache
from shared import ids
from shared.encryption import Vault
from shared.errors import VerificationError
from shared.http import greenlets, wsgi
from shared.providers.webhooks.base import WebhookRequest
from shared.receipts.store import Receipt, Refusal
from shared.receipts.stored_form import dedup_key, dedup_key_expires_at, redact_headers
from shared.settings import Settings
from shared.sources.source import Source

_MAX_KEY_LENGTH = 255
_MAX_SLUG_LENGTH = 100
_MAX_INTEGER = 2**31 - 1  # of the column; Content-Length may be larger
_LARGE_BYTES = 64 * 1024
_IDENTITY = frozenset({"", "identity", "none", "utf-8", "utf8", "8bit"})
"""Values of Content-Encoding that clients send with an uncompressed body."""

_T = TypeVar("_T")


def read(request: Request) -> WebhookRequest:
    """Read a request. Raises UnsupportedMediaType, RequestEntityTooLarge, RequestBodyError, ClientDisconnected."""
    headers = wsgi.lower_case_headers(request.environ)
    codings = headers.get("content-encoding")
    if codings and any(coding.strip().lower() not in _IDENTITY for coding in codings.split(",")):
        raise UnsupportedMediaType
    return WebhookRequest(headers=headers, body=request.get_data())


def verify(
    source: Source, webhook: WebhookRequest, now: datetime, sources: SourceCache, settings: Settings
) -> tuple[Source, Quarantine | None]:
    """Verify the signature of a webhook. Return its source, and a quarantine if a worker must verify it later.

    The source returned may be newer than the one given. Raises VerificationError for a forged request, and
    StorageUnavailableError if the current credentials cannot be loaded.
    """
    try:
        _in_thread_if_large(webhook, lambda: source.provider.verify(webhook, source.credentials, now))
    except VerificationError as error:
        # The credentials may have changed since they were loaded. All refusals of a moment share one reload.
        if not sources.refresh():
            raise StorageUnavailableError("The source cannot be loaded at the moment; try again.") from None
        current = sources.find(source.slug)
        if current is not None and current.version != source.version:
            return verify(current, webhook, now, sources, settings)
        is_key_fetchable = error.key_id is not None and source.provider.key_lookup(error.key_id) is not None
        quarantine_until = source.settings.quarantine_until
        if not is_key_fetchable and (quarantine_until is None or now >= quarantine_until):
            raise
        return source, Quarantine(error=error, max_rows=settings.quarantine_rows, max_bytes=settings.quarantine_bytes)
    return source, None


def make_receipt(
    source: Source,
    webhook: WebhookRequest,
    now: datetime,
    *,
    remote_ip: str,
    quarantine: Quarantine | None,
    vault: Vault,
) -> Receipt:
    """Return the receipt of a webhook. Headers with credentials are dropped, or encrypted if they are needed again.

    Raises VerificationError for a webhook to quarantine whose headers are not stored completely: accepted now, it would
    be rejected later, for a signature that was left out.
    """

    def make() -> Receipt:
        idempotency_key = source.provider.idempotency_key(webhook)
        headers = redact_headers(webhook.headers, vault if quarantine else None)
        if quarantine and len(headers) < len(webhook.headers):
            error = quarantine.error
            raise VerificationError(error.reason, f"{error}; the headers are too long to be kept and verified later")
        return Receipt(
            id=ids.receipt_id(now),
            source_id=source.id,
            received_at=now,
            key=dedup_key(source, webhook, unverified=quarantine is not None),
            key_expires_at=dedup_key_expires_at(source, now),
            idempotency_key=idempotency_key[:_MAX_KEY_LENGTH] if idempotency_key else None,
            remote_ip=remote_ip or None,
            headers=msgspec.json.encode(headers).decode(),
            body=webhook.body,
        )

    return _in_thread_if_large(webhook, make)


def make_refusal(
    request: Request, now: datetime, *, slug: str, status: int, reason: str, message: str, proxies: int
) -> Refusal:
    """Return the refusal to store for a refused request."""
    return Refusal(
        id=ids.receipt_id(now),
        source=slug[:_MAX_SLUG_LENGTH].replace("\0", ""),
        refused_at=now,
        status_code=status,
        reason=reason,
        detail=message,
        remote_ip=wsgi.client_ip(request, proxies) or None,
        headers=msgspec.json.encode(redact_headers(wsgi.lower_case_headers(request.environ))).decode(),
        bytes=min(request.content_length or 0, _MAX_INTEGER),
    )


def _in_thread_if_large(webhook: WebhookRequest, work: Callable[[], _T]) -> _T:
    """Do work whose time grows with the body. For a large body a thread does it, so that it delays no other request."""
    return greenlets.run_in_thread(work) if len(webhook.body) > _LARGE_BYTES else work()
