"""The steps from an HTTP request to a receipt: read the request, verify its signature, build the receipt."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import msgspec
from flask import Request
from werkzeug.exceptions import MethodNotAllowed, UnsupportedMediaType

from receiver.errors import StorageUnavailableError
from receiver.group_commit import Quarantine
from receiver.source_cache import SourceCache
from shared import ids
from shared.encryption import Vault
from shared.errors import VerificationError
from shared.http import greenlets, wsgi
from shared.providers.webhooks.base import QUERY, Provider, WebhookRequest
from shared.receipts import quarantine as quarantine_store
from shared.receipts import stored_form
from shared.receipts.store import Receipt, Refusal
from shared.settings import Settings
from shared.sources.source import Source

_MAX_SLUG_LENGTH = 100
_MAX_INTEGER = 2**31 - 1  # of the column; Content-Length may be larger
_LARGE_BYTES = 64 * 1024
_IDENTITY = frozenset({"", "identity", "none", "utf-8", "utf8", "7bit", "8bit", "binary"})
"""Values of Content-Encoding that clients send with an uncompressed body; the last three are MIME's."""

_T = TypeVar("_T")


def read(request: Request) -> WebhookRequest:
    """Read a request. Raises UnsupportedMediaType, RequestEntityTooLarge, RequestBodyError, ClientDisconnected."""
    headers = wsgi.lower_case_headers(request.environ)
    codings = headers.get("content-encoding")
    if codings and any(coding.strip().lower() not in _IDENTITY for coding in codings.split(",")):
        raise UnsupportedMediaType
    if query := request.environ.get("QUERY_STRING"):
        headers[QUERY] = query
    return WebhookRequest(headers=headers, body=request.get_data())


def read_query(request: Request, provider: Provider) -> WebhookRequest:
    """Read a GET with a query. The body of the result is empty if the request only tests the URL.

    Raises MethodNotAllowed if it does neither: it may be an event in a form unknown here, which 200 would acknowledge.
    """
    webhook = read(request)
    body = provider.body_of_query(webhook.headers[QUERY])
    if not body and not provider.probes_with_query:
        raise MethodNotAllowed(["POST"])
    return replace(webhook, body=body)


def verify(
    source: Source, webhook: WebhookRequest, now: datetime, sources: SourceCache, settings: Settings
) -> tuple[Source, Quarantine | None]:
    """Verify the signature of a webhook. Return its source, and a quarantine if a worker must verify it later.

    A worker also confirms subscriptions, because the receiver makes no outgoing calls. The source returned may be newer
    than the one given. Raises VerificationError for a forged request, and StorageUnavailableError if the current
    credentials cannot be loaded.
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
        if not quarantine_store.is_for(source, error, now):
            raise
        return source, _quarantine(error, settings)
    unconfirmed = quarantine_store.find_confirmation(source, webhook)
    return source, _quarantine(unconfirmed, settings) if unconfirmed else None


def _quarantine(error: VerificationError, settings: Settings) -> Quarantine:
    return Quarantine(error=error, max_rows=settings.quarantine_rows, max_bytes=settings.quarantine_bytes)


def make_receipt(
    source: Source,
    webhook: WebhookRequest,
    now: datetime,
    *,
    remote_ip: str,
    quarantine: Quarantine | None,
    vault: Vault,
) -> Receipt:
    """Return the receipt of a webhook. Raises VerificationError for one to quarantine whose headers are too long."""
    error = quarantine.error if quarantine else None
    return _in_thread_if_large(
        webhook,
        lambda: stored_form.make_receipt(source, webhook, now, vault=vault, unverified=error, remote_ip=remote_ip),
    )


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
        headers=msgspec.json.encode(stored_form.redact_headers(wsgi.lower_case_headers(request.environ))).decode(),
        bytes=min(request.content_length or 0, _MAX_INTEGER),
    )


def _in_thread_if_large(webhook: WebhookRequest, work: Callable[[], _T]) -> _T:
    """Do work that takes longer for a longer body. For a large one, do it in a thread: it delays no other request."""
    return greenlets.run_in_thread(work) if len(webhook.body) > _LARGE_BYTES else work()
