"""Requests to subscribers: a change in the requested format, signed.

Every attempt builds its request from the stored change and the current subscription.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from shared.egress.types import Call
from shared.http import standard_webhooks
from shared.subscriptions.model import Subscription
from shared.vocabulary import PayloadFormat

_CONTENT_TYPES: Final = {
    PayloadFormat.TIDINGS: "application/json",
    PayloadFormat.CLOUDEVENTS: "application/cloudevents+json",
}
_TYPE_PREFIX = "dev.tidings."

_encode = msgspec.json.Encoder().encode


def encode(payload: Mapping[str, Any], form: PayloadFormat) -> bytes:
    """Return the request body of a change (`shared.changes.payload.build_payloads`)."""
    return _encode(format_payload(payload, form))


def format_payload(payload: Mapping[str, Any], form: PayloadFormat) -> Mapping[str, Any]:
    """Return a change unchanged, or as a CloudEvents 1.0 event in structured mode."""
    if form is PayloadFormat.TIDINGS:
        return payload
    data = payload["data"]
    event = {
        "specversion": "1.0",
        "id": payload["id"],
        "source": f"/sources/{data['source']}" if data.get("source") else "/",
        "type": _TYPE_PREFIX + payload["type"],
        "time": payload["timestamp"],
        "datacontenttype": "application/json",
        "data": data,
    }
    subject = data.get("recipient") or (data.get("message") or {}).get("id")
    return event if subject is None else {**event, "subject": str(subject)}


def build(subscription: Subscription, body: bytes, *, key: UUID, webhook_id: str, now: datetime) -> Call:
    """Return a signed request. `webhook_id` identifies the change, so that subscribers recognize duplicates.

    Raises InvalidFieldError.
    """
    secrets = [secret.value for secret in subscription.secrets if secret.expires_at is None or secret.expires_at > now]
    signed = standard_webhooks.headers(secrets, message_id=webhook_id, attempted_at=now, body=body)
    return Call(
        key=key,
        url=subscription.url,
        headers=(
            ("Content-Type", _CONTENT_TYPES[subscription.payload]),
            *signed.items(),
            ("Idempotency-Key", webhook_id),
            *subscription.headers.items(),
        ),
        body=body,
        timeout_seconds=subscription.timeout_s,
    )
