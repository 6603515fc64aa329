"""MailChannels Email API: webhook adapter, credentials and management API."""

from shared.providers.mailchannels import credentials, webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="mailchannels",
    credential_fields=credentials.CREDENTIAL_FIELDS,
    setup="Set an api_key on the source, then: `tidings sources enrol {slug} --url https://<your host>{path}`.",
    no_api=None,
    signs="Ed25519 by RFC 9421 over the body's digest and a time, 5 minutes",
    retries="not documented; failed batches are listed and resent on request",
    lists_failed=True,
    sends_tests=True,
    removes_all_webhooks=True,
    read_credentials=credentials.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    tenants=webhook.tenants,
    key_lookup=webhook.key_lookup,
    read_keys=webhook.read_keys,
)
