"""MailPace: one event for each request, signed by Ed25519 over the body.

Source: docs.mailpace.com "Webhooks".
"""

from shared.providers.webhooks import event_table, schemes
from shared.providers.webhooks.base import CredentialField, Provider, StatusCodes
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "email.queued": EventType.QUEUED,
    "email.delivered": EventType.DELIVERED,
    "email.deferred": EventType.DEFERRED,
    "email.bounced": EventType.BOUNCED,
    "email.spam": EventType.REJECTED,  # MailPace's own filter did not send it
}

_TABLE = EventTable(
    provider="mailpace",
    types=EVENTS,
    fields=paths(
        type="event",
        recipient="payload.to",
        occurred_at=("payload.updated_at", "payload.created_at"),
        provider_message_id="payload.id",
        smtp_id="payload.message_id",
        reason=("payload.error", "payload.response", "payload.reason"),
        sender="payload.from",
        subject="payload.subject",
        tags="payload.tags",
    ),
    details=paths(status="payload.status", domain_id="payload.domain_id", created_at="payload.created_at"),
)
_SCHEME = schemes.Ed25519(signature=schemes.Signature(header="x-mailpace-signature", encoding="base64"))

PROVIDER = Provider(
    name="mailpace",
    credential_fields=(
        CredentialField(
            name="public_key",
            several=True,
            type="text",
            required=True,
            help="The domain's public verification key, in base64; a list during a rotation.",
        ),
    ),
    setup=(
        "In MailPace, open the domain's Webhooks, add the URL https://<your host>{path} for every event, and copy the "
        "public verification key."
    ),
    no_api="MailPace has no API for webhooks: add the URL in MailPace.",
    signs="Ed25519 over the body",
    retries="after timeouts only, 10 times",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.parser(_TABLE),
    # Any error, or a refused connection, disables the webhook until a person enables it again. Only timeouts are
    # repeated, up to ten times. So everything is answered 200, and nothing at all while the database is down.
    status_codes=StatusCodes(bad_signature=200, too_large=200, encoded=200, hang_seconds=60.0),
)
