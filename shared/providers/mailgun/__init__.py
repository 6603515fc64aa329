"""Mailgun: webhook adapter and management API."""

from shared.providers.mailgun import webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="mailgun",
    credential_fields=webhook.CREDENTIAL_FIELDS,
    setup=(
        "On Mailgun's page Sending > Webhooks, add this URL for each type of event of the domain. The HTTP webhook "
        "signing key for the credentials is on the page API Security of the account."
    ),
    no_api=None,
    signs="HMAC-SHA256 over a time and a token that counts once, not over the body",
    retries="6 times in 8 hours; never after 406",
    read_credentials=webhook.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    single_use_token=webhook.single_use_token,
)
