"""CloudMailin: webhook adapter, credentials."""

from shared.providers.cloudmailin.credentials import CREDENTIAL_FIELDS, Credentials, read_credentials
from shared.providers.cloudmailin.webhook import (
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

SETUP = (
    "Enter this URL, with user name and password, as the webhook of outbound events: "
    "https://<username>:<password>@<your host>{path}"
)
NO_API: str | None = "CloudMailin has no API for the webhooks of outbound events: set them on its dashboard."

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
