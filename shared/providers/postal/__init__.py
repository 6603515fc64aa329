"""Postal: webhook adapter, credentials."""

from shared.providers.postal.webhook import (
    CREDENTIAL_FIELDS,
    DEDUPE_WINDOW_SECONDS,
    NAME,
    STATUS_CODES,
    Credentials,
    idempotency_key,
    key_lookup,
    parse,
    read_credentials,
    read_keys,
    tenants,
    verify,
)

SETUP = "Add a webhook with this URL and all events on your Postal server's Webhooks page."
NO_API: str | None = (
    "Postal has no API for its webhooks: it tries each request six times within 36 minutes, then drops it."
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
