"""SparkPost (Bird): webhook adapter and management API."""

from shared.providers.sparkpost import webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="sparkpost",
    credential_fields=webhook.CREDENTIAL_FIELDS,
    setup=(
        "In SparkPost, open Configuration, Webhooks, create one with the URL https://<your host>{path}, select all "
        "events, and choose basic authentication with user name and password."
    ),
    no_api=None,
    signs="nothing: basic authentication or a bearer token",
    retries="11 times in 8 hours",
    sends_tests=True,
    read_credentials=webhook.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    idempotency_key=lambda request: request.headers.get("x-messagesystems-batch-id", "").strip() or None,
)
