"""The JSON of Ark's API, and its translation. Unreadable JSON raises ValueError."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from shared.providers.api.base import (
    Contents,
    FailedDelivery,
    ListedSuppression,
    NewSuppression,
    ResendResult,
    Validation,
    Webhook,
)
from shared.providers.api.client import quote
from shared.providers.api.fields import (
    UNREADABLE,
    StatusCode,
    Text,
    from_seconds,
    read_instant,
    read_instant_if_any,
    read_receipt_id,
)
from shared.vocabulary import ALL_MAIL, MailType, SuppressionReason

TAKEN: Final = "2xx"

_NOT_TO_ALL = frozenset({MailType.NON_TRANSACTIONAL})
_REASONS: Mapping[str, SuppressionReason] = {
    "hard fail": SuppressionReason.HARD_BOUNCE,
    "too many soft fails": SuppressionReason.SOFT_BOUNCE,
    "complaint": SuppressionReason.COMPLAINT,
    "unsubscribe": SuppressionReason.UNSUBSCRIBE,
}
_WORDS: Mapping[SuppressionReason, str] = {reason: word for word, reason in _REASONS.items()}

T = TypeVar("T")


class _Webhook(msgspec.Struct):
    id: Text | int
    url: Text
    enabled: bool = True


class _Delivery(msgspec.Struct, rename="camel"):
    id: Text | int
    timestamp: str
    url: Text | None = None
    status_code: StatusCode | None = None
    success: bool = False


class _Replay(msgspec.Struct, rename="camel"):
    status_code: StatusCode | None = None
    new_delivery_id: Text | int | None = None


class _Sent(msgspec.Struct):
    payload: msgspec.Raw = msgspec.Raw()


class _Answered(msgspec.Struct):
    body: Any = None


class _Details(msgspec.Struct):
    request: _Sent | None = None
    response: _Answered | None = None


class _Test(msgspec.Struct, rename="camel"):
    success: bool = False
    status_code: int | None = None
    body: Any = None
    error: str | None = None


class _Suppression(msgspec.Struct, rename="camel"):
    address: Text
    reason: Text | None = None
    created_at: str | None = None


class _Document(msgspec.Struct):
    """The envelope of every answer."""

    data: msgspec.Raw
    total: int | None = None


_document = msgspec.json.Decoder(_Document).decode


def _one(body: bytes, of: type[T]) -> T:
    return msgspec.json.decode(_document(body).data, type=of)


def _many(body: bytes, of: type[T]) -> tuple[list[T], int | None]:
    """Return the list in an answer, which may be nested in an object, and the length of the whole list."""
    document = _document(body)
    items = document.data
    if bytes(items).startswith(b"{"):
        members = msgspec.json.decode(items, type=dict[str, msgspec.Raw])
        items = next((member for member in members.values() if bytes(member).startswith(b"[")), msgspec.Raw(b"[]"))
    return msgspec.json.decode(items, type=list[of] | None) or [], document.total  # type: ignore[valid-type]


def read_webhooks(body: bytes) -> list[Webhook]:
    """Parse the webhooks of the tenant."""
    return [Webhook(id=str(one.id), url=one.url, enabled=one.enabled) for one in _many(body, _Webhook)[0]]


def read_deliveries(body: bytes, webhook: Webhook) -> tuple[list[FailedDelivery], int | None]:
    """Parse deliveries to a webhook, successful ones included. References contain the webhook id, which paths need."""
    found, total = _many(body, _Delivery)
    deliveries = []
    for one in found:
        outcome = "no_response" if one.status_code is None else f"{one.status_code // 100}xx"
        delivery = FailedDelivery(
            reference=f"{webhook.id}/{one.id}",
            failed_at=read_instant(one.timestamp),
            outcome=TAKEN if one.success else outcome,
            status_code=one.status_code,
            events=1,
            url=one.url or webhook.url,
        )
        deliveries.append(delivery)
    return deliveries, total


def read_replay(body: bytes, webhook_id: str) -> ResendResult:
    """Parse the answer to a replay."""
    done = _one(body, _Replay)
    record = None if done.new_delivery_id is None else f"{webhook_id}/{done.new_delivery_id}"
    return ResendResult(status_code=done.status_code, record=record)


def read_exchange(body: bytes) -> tuple[UUID | None, bytes | None]:
    """Return the receipt id in our receiver's answer to a delivery, and the sent payload, if Ark shows them."""
    details = _one(body, _Details)
    receipt_id = payload = None
    if details.response:  # perhaps the id of an earlier receipt with the same body
        receipt_id = read_receipt_id(details.response.body)
    if details.request:  # the JSON that was sent, shown as JSON, or as a text that holds it
        shown = bytes(details.request.payload)
        if shown and shown != b"null":
            payload = msgspec.json.decode(shown, type=str).encode() if shown.startswith(b'"') else shown
    return receipt_id, payload


def read_test(body: bytes, webhook: Webhook) -> Validation:
    """Parse the result of a test."""
    done = _one(body, _Test)
    said = done.error or f"answered {done.status_code}: {quote(str(done.body or '').encode())}"
    return Validation(url=webhook.url, passed=done.success, detail=said)


def read_suppressions(body: bytes) -> tuple[list[ListedSuppression], int | None]:
    """Parse entries of the tenant's suppression list."""
    found, total = _many(body, _Suppression)
    listed = []
    for entry in found:
        word = entry.reason or ""
        reason = _REASONS.get(word.strip().lower().replace("_", " "), SuppressionReason.MANUAL)
        suppressed = ListedSuppression(
            address=entry.address,
            types=_NOT_TO_ALL if reason is SuppressionReason.UNSUBSCRIBE else ALL_MAIL,
            reason=reason,
            word=word,
            note=None,
            created_at=read_instant_if_any(entry.created_at),
        )
        listed.append(suppressed)
    return listed, total


def suppression(entry: NewSuppression) -> dict[str, object]:
    """Return the request body that adds an entry."""
    return {"address": entry.address, "reason": _WORDS.get(entry.reason, entry.note)}


def read_contents(body: bytes) -> Contents | None:
    """Return the time of the one event in a body; None if the body is not a request of Ark.

    It is the time of the event itself, because an envelope has the time of the replay.
    """
    try:
        request = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE:
        return None
    event = request.get("payload")
    if not isinstance(event, Mapping):
        event = request
    return Contents(events=1, latest_at=from_seconds(event.get("timestamp")))
