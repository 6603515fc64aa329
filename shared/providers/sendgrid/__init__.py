"""SendGrid (Twilio): webhook adapter and management API."""

from shared.providers.sendgrid import webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="sendgrid",
    credential_fields=webhook.CREDENTIAL_FIELDS,
    setup=(
        "On SendGrid's page Mail Settings > Event Webhooks, create a webhook with this URL and all events, switch on "
        "Signed Event Webhook, and copy its verification key into the credentials."
    ),
    no_api=None,
    signs="ECDSA P-256 over time and body, of any age",
    retries="for 24 hours",
    read_credentials=webhook.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
)
