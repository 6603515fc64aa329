"""Cloudflare Email Service: events of a Queue, which a Worker of yours signs by Standard Webhooks and posts here.

Source: Cloudflare's documentation of event subscriptions for email sending. docs/providers.md has the Worker.
"""

from shared.providers.webhooks import event_table, schemes, standard_webhooks
from shared.providers.webhooks.base import Provider
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

_PREFIX = "cf.email.sending.message."

EVENTS = {
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "bounced": EventType.BOUNCED,
    "failed": EventType.FAILED,
    "rejected": EventType.REJECTED,
    "complained": EventType.COMPLAINED,
}

_TABLE = EventTable(
    provider="cloudflare",
    types={f"{_PREFIX}{word}": type_ for word, type_ in EVENTS.items()},
    fields=paths(
        type="type",
        failure=("payload.bounce.classification", "payload.bounce.type", "payload.rejection.reason"),
        event_id="payload.eventId",
        recipient="payload.recipient",
        occurred_at="metadata.eventTimestamp",
        provider_message_id="payload.messageId",
        smtp_status="payload.delivery.smtpStatusCode",
        enhanced_code="payload.delivery.smtpEnhancedStatusCode",
        reason=(
            *("payload.delivery.smtpResponse", "payload.bounce.reason"),
            *("payload.rejection.detail", "payload.rejection.reason", "payload.failure.reason"),
        ),
        sender="payload.sender",
        subject="payload.subject",
    ),
    details=paths(
        domain="source.domain",
        terminal="payload.terminal",
        provider="payload.delivery.provider",
        bounce="payload.bounce",
        rejection="payload.rejection",
        failure="payload.failure",
        complaint="payload.complaint",
    ),
)
_SCHEME = schemes.StandardWebhooks()

PROVIDER = Provider(
    name="cloudflare",
    credential_fields=(schemes.SECRETS,),
    setup=(
        "In Cloudflare, subscribe a Queue to the events of your email domain, and deploy the Worker in "
        "docs/providers.md as its consumer, with the URL https://<your host>{path} and the secret."
    ),
    no_api="Tidings does not call Cloudflare's API: the Queue repeats what was not acknowledged.",
    signs="HMAC-SHA256 by your Worker over id, time and body, 5 minutes",
    retries="as the Queue is set",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.parser(_TABLE),
    idempotency_key=standard_webhooks.idempotency_key,
)
