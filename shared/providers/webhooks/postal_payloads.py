"""The JSON bodies of Postal and Ark.

Sources: postalserver/postal `app/models` and `lib/postal/message_db`, Ark's pages of its events. A body is an
envelope with an event's name and payload, or the payload alone, whose fields then determine the event.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

STATUSES: Mapping[str, str] = {
    "Sent": "MessageSent",
    "SoftFail": "MessageDelayed",
    "HardFail": "MessageDeliveryFailed",
    "Held": "MessageHeld",
}
Number = int | float | str | None


class Message(msgspec.Struct, rename={"from_": "from"}):
    """A message, or the bounce message that came back."""

    id: int | str | None = None
    token: str | None = None
    direction: str | None = None
    message_id: str | None = None
    to: Any = None
    from_: Any = None
    subject: str | None = None
    timestamp: Number = None
    spam_status: str | None = None
    tag: str | int | None = None
    metadata: Any = None
    test: Any = msgspec.field(default=None, name="_test")


class Payload(msgspec.Struct):
    """The fields of all events; each event has some of them."""

    message: Message | None = None
    original_message: Message | None = None
    bounce: Message | None = None
    status: str | None = None
    details: str | None = None
    output: str | None = None
    sent_with_ssl: Any = None
    timestamp: Number = None
    time: Any = None
    classification: str | None = None
    classification_code: int | str | None = None
    smtp_enhanced_code: str | None = None
    remote_host: str | None = None
    url: str | None = None
    token: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    server: Any = None
    domain: str | None = None
    uuid: str | None = None
    dns_checked_at: Number = None
    spf_status: Any = None
    spf_error: Any = None
    dkim_status: Any = None
    dkim_error: Any = None
    mx_status: Any = None
    mx_error: Any = None
    return_path_status: Any = None
    return_path_error: Any = None
    volume: int | float | None = None
    limit: int | float | None = None
    test: Any = msgspec.field(default=None, name="_test")


class Body(Payload):
    """An envelope, or a payload without one."""

    event: str | None = None
    tenant_id: str | int | None = None
    payload: Payload | None = None


class Envelope(msgspec.Struct):
    """The exact JSON of an envelope's payload."""

    payload: msgspec.Raw = msgspec.Raw()


IDENTIFYING = frozenset(
    {"event", "tenant_id", "payload", "message", "original_message", "status", "uuid", "id", "token", "message_id"}
)
"""What names the event, its message or its tenant."""
BODY = msgspec.json.Decoder(Body)
ENVELOPE = msgspec.json.Decoder(Envelope)
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def guess_name(inner: Payload) -> str | None:
    """Return the event's name from the fields of its payload, for a body without an envelope."""
    if inner.status is not None and inner.status in STATUSES:
        return STATUSES[inner.status]
    if inner.original_message and inner.bounce:
        return "MessageBounced"
    if inner.message and inner.url:
        return "MessageLinkClicked"
    if inner.message and (inner.ip_address or inner.user_agent):
        return "MessageLoaded"
    if inner.domain and inner.dns_checked_at is not None:
        return "DomainDNSError"
    if inner.volume is not None and inner.limit is not None:
        return "SendLimitExceeded" if inner.volume >= inner.limit else "SendLimitApproaching"
    return None
