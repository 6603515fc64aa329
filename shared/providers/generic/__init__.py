"""Any provider that a mapping can describe: `settings.generic` instead of an adapter."""

from shared.providers.generic import webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="generic",
    credential_fields=webhook.CREDENTIAL_FIELDS,
    setup="Enter this URL as the webhook of your provider, with the authentication that settings.generic describes.",
    no_api="A mapping describes webhooks only.",
    signs="what the mapping says",
    retries="the sender's own",
    read_credentials=webhook.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    status_codes_of=webhook.status_codes,
)
