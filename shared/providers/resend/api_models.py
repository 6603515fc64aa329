"""The JSON of Resend's API, and its translation. Unreadable JSON raises ValueError."""

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from shared.providers.api.base import Contents, FailedDelivery, ListedSuppression, ResendResult, Webhook
from shared.providers.api.fields import (
    UNREADABLE,
    StatusCode,
    Text,
    read_instant_if_any,
    read_receipt_id,
    without_password,
)
from shared.providers.webhooks.payload import read_time
from shared.vocabulary import ALL_MAIL, SuppressionReason

EVENTS: Final = (
    "email.scheduled",
    "email.sent",
    "email.delivered",
    "email.delivery_delayed",
    "email.bounced",
    "email.suppressed",
    "email.failed",
    "email.complained",
    "email.opened",
    "email.clicked",
)
"""What is enrolled: all events of mail that was sent."""

_OPEN = frozenset({"failed", "attempting"})  # `pending`: not tried yet; `success`: taken
_REASONS: Mapping[str, SuppressionReason] = {
    "bounce": SuppressionReason.HARD_BOUNCE,
    "complaint": SuppressionReason.COMPLAINT,
}

T = TypeVar("T")


class _Webhook(msgspec.Struct):
    id: Text
    endpoint: Text
    status: Text = "enabled"
    events: list[Text] | None = None


class _Event(msgspec.Struct):
    id: Text
    created_at: Text
    status: Text


class _Suppression(msgspec.Struct):
    id: Text
    email: Text
    origin: Text | None = None
    created_at: Text | None = None


class _Attempt(msgspec.Struct):
    http_status_code: StatusCode | None = None
    response: Any = None
    sent_at: Text | None = None


class _Named(msgspec.Struct):
    id: Text


class _Secret(msgspec.Struct):
    signing_secret: Text


class _Payload(msgspec.Struct):
    payload: msgspec.Raw = msgspec.Raw()


class _List(msgspec.Struct):
    data: msgspec.Raw
    has_more: bool = False


class Page(NamedTuple, Generic[T]):
    """A page of a list, and the id after which the next one begins; None after the last."""

    items: Sequence[T]
    after: str | None


class KnownWebhook(NamedTuple):
    """A webhook, and the events that it is for."""

    webhook: Webhook
    events: Sequence[str]


class Event(NamedTuple):
    """An event that was posted to a webhook; `is_open` if the webhook has not taken it."""

    delivery: FailedDelivery
    is_open: bool


_list = msgspec.json.Decoder(_List).decode


def read_webhooks(body: bytes) -> Page[KnownWebhook]:
    """Parse a page of the account's webhooks."""
    found, after = _many(body, _Webhook)
    known = [
        KnownWebhook(
            Webhook(id=one.id, url=without_password(one.endpoint), enabled=one.status == "enabled"), one.events or ()
        )
        for one in found
    ]
    return Page(known, after)


def read_events(body: bytes, webhook: Webhook) -> Page[Event]:
    """Parse a page of the events that were posted to a webhook. References contain the webhook id, which paths need."""
    found, after = _many(body, _Event)
    events = []
    for one in found:
        at = read_time(one.created_at)
        if at is None:
            raise ValueError(f"{one.created_at[:40]!r} is not a time")
        delivery = FailedDelivery(
            reference=f"{webhook.id}/{one.id}",
            failed_at=at,
            outcome=one.status,
            status_code=None,
            events=1,
            url=webhook.url,
        )
        events.append(Event(delivery, one.status in _OPEN))
    return Page(events, after)


def read_suppressions(body: bytes) -> Page[ListedSuppression]:
    """Parse a page of the suppression list."""
    found, after = _many(body, _Suppression)
    entries = [
        ListedSuppression(
            address=one.email,
            types=ALL_MAIL,
            reason=_REASONS.get(one.origin or "", SuppressionReason.MANUAL),
            word=one.origin or "",
            note=None,
            created_at=read_time(one.created_at),
        )
        for one in found
    ]
    return Page(entries, after)


def _many(body: bytes, of: type[T]) -> tuple[list[T], str | None]:
    document = _list(body)
    found: list[T] = msgspec.json.decode(document.data, type=list[of])  # type: ignore[valid-type]
    last = msgspec.json.decode(document.data, type=list[_Named])
    return found, last[-1].id if document.has_more and last else None


def read_attempts(body: bytes) -> list[ResendResult]:
    """Parse the attempts at posting an event, the newest first."""
    found = msgspec.json.decode(_list(body).data, type=list[_Attempt])
    return [
        ResendResult(status_code=one.http_status_code or None, record=None, receipt_id=read_receipt_id(one.response))
        for one in found
    ]


def read_payload(body: bytes) -> bytes | None:
    """Return the JSON that was posted for an event, if Resend shows it."""
    shown = bytes(msgspec.json.decode(body, type=_Payload).payload)
    return None if shown in (b"", b"null") else shown


def read_id(body: bytes) -> str:
    """Parse the id of what was created."""
    return msgspec.json.decode(body, type=_Named).id


def read_secret(body: bytes) -> bytes:
    """Parse the signing secret of a webhook, decoded."""
    text = msgspec.json.decode(body, type=_Secret).signing_secret
    return binascii.a2b_base64(text.removeprefix("whsec_"), strict_mode=True)


def read_contents(body: bytes) -> Contents | None:
    """Return the time of the one event in a body; None if the body is not a request of Resend."""
    try:
        request = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE:
        return None
    at = request.get("created_at")
    return Contents(events=1, latest_at=read_instant_if_any(at if isinstance(at, str) else None))
