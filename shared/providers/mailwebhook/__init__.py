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

SETUP = "Make an endpoint of it and choose that in the route; the id of the secret must be the route's."
NO_API: str | None = "MailWebhook is not asked: it retries by itself, and its dashboard replays events that are dead."

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
