"""MailerSend: one event for each request, signed by HMAC over the body.

Sources: developers.mailersend.com "Webhooks". Webhooks of version 2 are not documented in full, so ids and recipient
are read from several fields.
"""

from datetime import UTC, datetime
from typing import Any

from shared.errors import PayloadError, VerificationError
from shared.providers.webhooks import event_table, payload, schemes
from shared.providers.webhooks.base import CredentialField, Provider, WebhookRequest
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

_MAX_TEST_BYTES = 16 * 1024

EVENTS = {
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "soft_bounced": EventType.BOUNCED,
    "hard_bounced": EventType.BOUNCED,
    "suppressed": EventType.REJECTED,
    "opened": EventType.OPENED,
    "opened_unique": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "clicked_unique": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "spam_complaint": EventType.COMPLAINED,
}

_TABLE = EventTable(
    provider="mailersend",
    types={
        **{f"activity.{word}": type_ for word, type_ in EVENTS.items()},
        "inbound.message": EventType.INBOUND,
        "webhook.test": EventType.TEST,
    },
    fields=paths(
        type="type",
        failure="data.type",
        event_id="data.id",
        recipient=("data.email.recipient.email", "data.recipient.email", "data.recipient", "data.email.recipient"),
        occurred_at=("data.created_at", "created_at"),
        provider_message_id=("data.email.message.id", "data.message.id", "data.message_id", "data.email.message_id"),
        request_id=("data.email.id", "data.email_id"),
        sender="data.email.from",
        subject="data.email.subject",
        tags=("data.email.tags", "data.tags"),
        reason=("data.morph.reason", "data.morph.readable_reason", "data.reason"),
        url=("data.morph.url", "data.url"),
        ip=("data.morph.ip", "data.ip"),
        user_agent=("data.morph.user_agent", "data.user_agent"),
    ),
    details=paths(
        domain_id="domain_id",
        webhook_id="webhook_id",
        template_id="data.template_id",
        morph="data.morph",
    ),
)
_SCHEME = schemes.Hmac(signature=schemes.Signature(header="signature"), field="signing_secret")
_TEST_SECRET = (b"test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G",)
"""The published secret that signs the test of a new webhook, which has no secret yet."""


def _probe(request: WebhookRequest, _credentials: Any, /) -> bytes | None:
    """Return an empty answer to the test of a new URL."""
    if b"webhook.test" not in request.body or len(request.body) > _MAX_TEST_BYTES:
        return None
    try:
        _SCHEME.verify(request, _TEST_SECRET, datetime.now(UTC))
        value = payload.decode_any(payload.read(request.body).clean)
    except (VerificationError, PayloadError):
        return None
    return b"" if isinstance(value, dict) and value.get("type") == "webhook.test" else None


PROVIDER = Provider(
    name="mailersend",
    credential_fields=(
        CredentialField(
            name="signing_secret",
            several=True,
            type="text",
            required=True,
            secret=True,
            help="The webhook's signing secret; a list of texts during a rotation.",
        ),
    ),
    setup=(
        "In MailerSend, open Domains, Manage, Webhooks, and create one with the URL https://<your host>{path} and all "
        "events. Copy its signing secret."
    ),
    no_api="Tidings does not call MailerSend's API: create the webhook in MailerSend.",
    signs="HMAC-SHA256 over the body",
    retries="for about three days",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.parser(_TABLE),
    probe=_probe,
)
