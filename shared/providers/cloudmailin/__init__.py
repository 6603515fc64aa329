"""CloudMailin: webhook adapter."""

from shared.providers.cloudmailin import webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="cloudmailin",
    credential_fields=webhook.CREDENTIAL_FIELDS,
    setup=(
        "Enter this URL, with user name and password, as the webhook of outbound events: "
        "https://<username>:<password>@<your host>{path}"
    ),
    no_api="CloudMailin has no API for the webhooks of outbound events: set them on its dashboard.",
    signs="nothing: basic authentication",
    read_credentials=webhook.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    dedupe_window_seconds=webhook.DEDUPE_WINDOW_SECONDS,
)
