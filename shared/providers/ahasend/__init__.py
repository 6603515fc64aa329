"""AhaSend: one event for each request, signed by Standard Webhooks with the text of the secret as the key.

Source: the OpenAPI document of AhaSend's webhooks.
"""

from shared.providers.webhooks import event_table, schemes, standard_webhooks
from shared.providers.webhooks.base import Provider
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "message.reception": EventType.QUEUED,  # of inbound mail too
    "message.delivered": EventType.DELIVERED,
    "message.transient_error": EventType.DEFERRED,
    "message.failed": EventType.FAILED,
    "message.bounced": EventType.BOUNCED,
    "message.suppressed": EventType.REJECTED,
    "message.opened": EventType.OPENED,
    "message.clicked": EventType.CLICKED,
    "message.routing": EventType.INBOUND,
    "domain.dns_error": EventType.DOMAIN_DNS_ERROR,
}

_TABLE = EventTable(
    provider="ahasend",
    types=EVENTS,
    fields=paths(
        type="type",
        failure=("data.delivery_attempt.classification", "delivery_attempt.classification"),
        recipient=("data.recipient", "data.to"),  # the second of inbound mail
        occurred_at="timestamp",
        provider_message_id="data.id",
        smtp_id=("data.message_id_header", "data.message_id"),
        smtp_status=("data.delivery_attempt.smtp_code", "delivery_attempt.smtp_code"),
        enhanced_code=("data.delivery_attempt.enhanced_status_code", "delivery_attempt.enhanced_status_code"),
        reason=("data.delivery_attempt.response", "delivery_attempt.response", "data.reason"),
        url="data.url",
        ip="data.ip",
        user_agent="data.user_agent",
        sender=("data.from", "data.sender"),
        subject="data.subject",
        tags="data.tags",
    ),
    details=paths(
        webhook_id="webhook_id",
        account_id="data.account_id",
        domain="data.domain",
        account_event="data.event",
        classification=("data.delivery_attempt.classification", "delivery_attempt.classification"),
    ),
    automated=lambda item: isinstance(item.get("data"), dict) and item["data"].get("is_bot") is True,
)
_SCHEME = schemes.StandardWebhooks(raw_secret=True)

PROVIDER = Provider(
    name="ahasend",
    credential_fields=(schemes.SECRETS,),
    setup=(
        "In AhaSend, open Webhooks, add one with the URL https://<your host>{path} and all events, and copy its "
        "secret as it is shown."
    ),
    no_api="Tidings does not call AhaSend's API: create the webhook in AhaSend.",
    signs="HMAC-SHA256 over id, time and body, 5 minutes",
    retries="6 times in 16 minutes",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.parser(_TABLE),
    idempotency_key=standard_webhooks.idempotency_key,
)
