"""Lettermint: one event for each request, signed by HMAC over time and body.

Sources: the verification of Lettermint's Python SDK, the kinds of its Laravel SDK, and listmonk's handler of its
bounces. What a kind means is read from its name.
"""

from shared.providers.webhooks import event_table, schemes
from shared.providers.webhooks.base import Provider
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "message.created": EventType.QUEUED,
    "message.scheduled": EventType.QUEUED,
    "message.rescheduled": EventType.QUEUED,
    "message.released": EventType.QUEUED,
    "message.canceled": EventType.REJECTED,  # by the sender, before it was sent
    "message.sent": EventType.SENT,
    "message.delivered": EventType.DELIVERED,
    "message.hard_bounced": EventType.BOUNCED,
    "message.soft_bounced": EventType.DEFERRED,
    "message.failed": EventType.FAILED,
    "message.suppressed": EventType.REJECTED,
    "message.policy_rejected": EventType.REJECTED,
    "message.spam_complaint": EventType.COMPLAINED,
    "message.opened": EventType.OPENED,
    "message.clicked": EventType.CLICKED,
    "message.unsubscribed": EventType.UNSUBSCRIBED,
    "message.auto_replied": EventType.AUTORESPONDED,
    "message.inbound": EventType.INBOUND,
    "webhook.test": EventType.TEST,
}

_TABLE = EventTable(
    provider="lettermint",
    types=EVENTS,
    fields=paths(
        type="event",
        event_id="id",
        recipient=("data.recipient", "data.to"),
        occurred_at=("timestamp", "created_at"),
        provider_message_id="data.message_id",
        smtp_status="data.response.status_code",
        enhanced_code="data.response.enhanced_status_code",
        reason=("data.response.content", "data.reason"),
        url=("data.url", "data.link"),
        ip=("data.ip", "data.ip_address"),
        user_agent="data.user_agent",
        subject="data.subject",
        sender=("data.from.email", "data.from", "data.sender"),
        tags="data.tag",
        metadata="data.metadata",
    ),
)
_SCHEME = schemes.Hmac(
    signature=schemes.Signature(
        header="x-lettermint-signature",
        prefix="v1=",
        template="{timestamp}.{body}",
        timestamp_header="x-lettermint-signature",
        timestamp_prefix="t=",
    )
)

PROVIDER = Provider(
    name="lettermint",
    credential_fields=(schemes.SECRETS,),
    setup=(
        "In Lettermint, open the project's Webhooks, create one with the URL https://<your host>{path} and all events, "
        "and copy its signing secret."
    ),
    no_api="Tidings does not call Lettermint's API: create the webhook in Lettermint.",
    signs="HMAC-SHA256 over time and body, 5 minutes",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.parser(_TABLE),
)
