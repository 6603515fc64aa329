"""Amazon SES: webhook adapter and management API."""

from dataclasses import replace

from shared.providers.ses import webhook
from shared.providers.webhooks import sns
from shared.providers.webhooks.base import CredentialField, Provider

PROVIDER = Provider(
    name="ses",
    credential_fields=(
        replace(
            sns.CREDENTIAL_FIELDS[0],
            required=False,
            help=f"{sns.CREDENTIAL_FIELDS[0].help} Required, unless the events come through a queue.",
        ),
        *sns.CREDENTIAL_FIELDS[1:],
        CredentialField(
            name="access_key_id",
            type="text",
            help="The access key of an IAM user. Enables `sources enrol`, suppression sync and `settings.queue`.",
        ),
        CredentialField(name="secret_access_key", type="text", secret=True, help="The secret of this access key."),
        CredentialField(name="session_token", type="text", secret=True, help="The token of a temporary access key."),
    ),
    setup=(
        "In Amazon SNS, create a standard topic, and an HTTPS subscription of this URL to it, without raw message "
        "delivery; Tidings confirms it. In Amazon SES, add the topic as an event destination of the configuration set, "
        "with all event types. For a source with `settings.queue`, subscribe the queue instead of this URL."
    ),
    no_api=None,
    api_fields=("access_key_id", "secret_access_key"),
    signs="RSA by a certificate over the fields of the notification, 1 hour",
    retries="after 5xx and timeouts, for an hour at most; never after 4xx",
    read_credentials=sns.read_credentials,
    has_queues=True,
    verify=webhook.verify,
    parse=webhook.parse,
    confirmation_url=webhook.confirmation_url,
    key_lookup=webhook.key_lookup,
    read_keys=sns.read_keys,
)
