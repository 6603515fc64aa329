"""Senders of Standard Webhooks that have no adapter."""

from shared.providers.standardwebhooks import webhook
from shared.providers.webhooks import standard_webhooks
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="standardwebhooks",
    credential_fields=standard_webhooks.CREDENTIAL_FIELDS,
    setup="Enter this URL where the provider asks for a webhook's endpoint, and copy its signing secret.",
    no_api="Standard Webhooks has no management API.",
    signs="HMAC-SHA256 or Ed25519 over id, time and body, 5 minutes",
    retries="the sender's own",
    read_credentials=standard_webhooks.read_credentials,
    verify=standard_webhooks.verify,
    parse=webhook.parse,
    idempotency_key=standard_webhooks.idempotency_key,
)
