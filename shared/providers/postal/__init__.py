"""Postal: webhook adapter."""

from shared.providers.postal import webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="postal",
    credential_fields=webhook.CREDENTIAL_FIELDS,
    setup="Add a webhook with this URL and all events on your Postal server's Webhooks page.",
    no_api=("Postal has no API for its webhooks: it tries each request six times within 36 minutes, then drops it."),
    signs="RSA over the body: SHA-256, or SHA-1 from old servers",
    retries="5 times in 36 minutes",
    read_credentials=webhook.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    key_lookup=webhook.key_lookup,
    read_keys=webhook.read_keys,
)
