"""Postmark: webhook adapter and management API."""

from shared.providers.postmark import webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="postmark",
    credential_fields=webhook.CREDENTIAL_FIELDS,
    setup=(
        "On the message stream's page Webhooks in Postmark, add a webhook with this URL, tick all events, and enter "
        "user name and password under Basic auth credentials."
    ),
    no_api=None,
    signs="nothing: basic authentication or a header",
    retries="after 5xx, 408, 429 and timeouts, 9 times in 72 minutes",
    read_credentials=webhook.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    idempotency_key=webhook.idempotency_key,
)
