"""MailWebhook: webhook adapter, credentials."""

from shared.providers.mailwebhook import credentials, webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="mailwebhook",
    credential_fields=credentials.CREDENTIAL_FIELDS,
    setup="Create an endpoint with this URL and select it in the route. Use the route's `kid` as the id of the secret.",
    no_api=(
        "Tidings does not call MailWebhook's API: MailWebhook retries by itself, and its dashboard replays dead events."
    ),
    signs="HMAC-SHA256 over time and body, 5 minutes",
    retries="5 times in 43 minutes",
    read_credentials=credentials.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    idempotency_key=webhook.idempotency_key,
)
