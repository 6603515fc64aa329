"""What Ark sends to test a webhook: the payload of a real event, about a message that never was."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.vocabulary import EventType
from simulator import replies
from simulator.mail import Happening, Reply, make_message
from simulator.providers.ark.webhooks import Ark


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    kind: EventType
    reply: Reply | None = None
    after_delivery: bool = False


_SAMPLES: Mapping[str, _Sample] = {
    "MessageSent": _Sample(kind=EventType.DELIVERED),
    "MessageDelayed": _Sample(kind=EventType.DEFERRED, reply=replies.MAILBOX_FULL),
    "MessageDeliveryFailed": _Sample(kind=EventType.BOUNCED, reply=replies.NO_SUCH_USER),
    "MessageHeld": _Sample(kind=EventType.HELD),
    "MessageBounced": _Sample(kind=EventType.BOUNCED, after_delivery=True),
    "MessageLinkClicked": _Sample(kind=EventType.CLICKED),
    "MessageLoaded": _Sample(kind=EventType.OPENED),
    "DomainDNSError": _Sample(kind=EventType.DOMAIN_DNS_ERROR),
}

EVENTS = tuple(_SAMPLES)
"""The events that can be subscribed to."""


def body(dialect: Ark, event: str, now: datetime) -> bytes:
    """Return the body of one of EVENTS."""
    sample = _SAMPLES[event]
    message = make_message(
        random.Random(event),
        1,
        sender="test@shop.example",
        recipients=("test@customer.example",),
        subject="Test",
        submitted_at=now,
    )
    happening = Happening(
        kind=sample.kind,
        at=now,
        message=message,
        recipients=message.recipients,
        reply=sample.reply,
        url="https://shop.example/test",
        ip="203.0.113.1",
        user_agent="Test",
        after_delivery=sample.after_delivery,
    )
    return dialect.body([happening])
