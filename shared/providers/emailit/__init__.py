"""Emailit, version 2: batches of events, signed by HMAC over time and body.

Source: emailit.com/docs/webhooks. The words come with and without a prefix such as `email.`.
"""

from shared.providers.webhooks import event_table, schemes
from shared.providers.webhooks.base import Provider
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "accepted": EventType.QUEUED,  # not for mail by SMTP
    "scheduled": EventType.QUEUED,
    "delivered": EventType.DELIVERED,
    "attempted": EventType.DEFERRED,
    "bounced": EventType.BOUNCED,
    "failed": EventType.FAILED,
    "rejected": EventType.REJECTED,
    "suppressed": EventType.REJECTED,
    "complained": EventType.COMPLAINED,
    "loaded": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "received": EventType.INBOUND,
}

_TABLE = EventTable(
    provider="emailit",
    types={
        **EVENTS,
        **{f"email.{word}": type_ for word, type_ in EVENTS.items()},
        "webhook.test": EventType.TEST,
    },
    fields=paths(
        type=("type", "event_type", "event", "name"),
        event_id="event_id",
        recipient=("data.object.to", "object.to"),
        occurred_at=("timestamp", "created_at", "data.object.created_at", "object.created_at"),
        provider_message_id=("data.object.id", "object.id"),
        smtp_id=("data.object.message_id", "object.message_id"),
        smtp_status=("data.object.smtp_code", "data.object.code", "object.smtp_code", "object.code"),
        enhanced_code=("data.object.smtp_enhanced_code", "object.smtp_enhanced_code"),
        reason=(
            "data.object.smtp_response",
            "data.object.response",
            "data.object.reason",
            "data.object.details",
            "object.smtp_response",
            "object.reason",
        ),
        url=("data.object.url", "data.object.link", "object.url"),
        ip=("data.object.ip", "data.object.ip_address", "object.ip"),
        user_agent=("data.object.user_agent", "object.user_agent"),
        sender=("data.object.from", "object.from"),
        subject=("data.object.subject", "object.subject"),
        metadata=("data.object.meta", "object.meta"),
        tags=("data.object.tags", "object.tags"),
    ),
    details=paths(status=("data.object.status", "object.status")),
)
_SCHEME = schemes.Hmac(
    signature=schemes.Signature(
        header="x-emailit-signature", template="{timestamp}.{body}", timestamp_header="x-emailit-timestamp"
    )
)

PROVIDER = Provider(
    name="emailit",
    credential_fields=(schemes.SECRETS,),
    setup=(
        "In Emailit, open Webhooks, create one with the URL https://<your host>{path} and all events, and copy its "
        "secret (whsec_…)."
    ),
    no_api="Tidings does not call Emailit's API: create the webhook in Emailit.",
    signs="HMAC-SHA256 over time and body, 5 minutes",
    retries="10 times in 79 hours",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.parser(_TABLE),
)
