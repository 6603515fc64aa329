"""MailWebhook: webhook adapter, credentials."""

from shared.providers.mailwebhook.credentials import CREDENTIAL_FIELDS, Credentials, read_credentials
from shared.providers.mailwebhook.webhook import (
    DEDUPE_WINDOW_SECONDS,
    NAME,
    STATUS_CODES,
    idempotency_key,
    key_lookup,
    parse,
    read_keys,
    tenants,
    verify,
)

SETUP = "Create an endpoint with this URL and select it in the route. Use the route's `kid` as the id of the secret."
NO_API: str | None = (
    "Tidings does not call MailWebhook's API: MailWebhook retries by itself, and its dashboard replays dead events."
)

__all__ = [
    "CREDENTIAL_FIELDS",
    "DEDUPE_WINDOW_SECONDS",
    "NAME",
    "NO_API",
    "SETUP",
    "STATUS_CODES",
    "Credentials",
    "idempotency_key",
    "key_lookup",
    "parse",
    "read_credentials",
    "read_keys",
    "tenants",
    "verify",
]  # fmt: skip
