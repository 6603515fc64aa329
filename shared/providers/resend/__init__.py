"""Resend: webhook adapter and management API."""

from shared.providers.resend import webhook
from shared.providers.webhooks import standard_webhooks
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="resend",
    credential_fields=webhook.CREDENTIAL_FIELDS,
    setup=(
        "On Resend's page Webhooks, add this URL as an endpoint with all email events, and copy its signing secret "
        "into the credentials."
    ),
    no_api=None,
    signs="HMAC-SHA256 over id, time and body, 5 minutes",
    retries="7 times in 28 hours",
    lists_failed=True,
    read_credentials=webhook.read_credentials,
    verify=standard_webhooks.verify,
    parse=webhook.parse,
    idempotency_key=standard_webhooks.idempotency_key,
)
