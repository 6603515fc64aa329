"""Ark: webhook adapter, credentials and management API."""

from shared.providers.ark import credentials, webhook
from shared.providers.webhooks.base import Provider

PROVIDER = Provider(
    name="ark",
    credential_fields=credentials.CREDENTIAL_FIELDS,
    setup=(
        "Add a webhook with this URL and all events to the tenant on Ark's dashboard. If the source has an api_key, "
        "this does it: `tidings sources enrol {slug} --url https://<your host>{path}`."
    ),
    no_api=None,
    signs="RSA-SHA256 over the body",
    retries="for about three days",
    lists_failed=True,
    sends_tests=True,
    tests_look_real=True,  # its message does not exist
    read_credentials=credentials.read_credentials,
    verify=webhook.verify,
    parse=webhook.parse,
    dedupe_window_seconds=webhook.DEDUPE_WINDOW_SECONDS,
    tenants=webhook.tenants,
    settings_after_registration=webhook.settings_after_registration,
    key_lookup=webhook.key_lookup,
    read_keys=webhook.read_keys,
)
