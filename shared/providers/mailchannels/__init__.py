"""MailChannels Email API: webhook adapter, credentials and management API."""

from shared.providers.mailchannels.credentials import CREDENTIAL_FIELDS, Credentials, read_credentials
from shared.providers.mailchannels.webhook import (
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

SETUP = "Set an api_key on the source, then run: tidings sources enrol {slug} --url https://<your host>{path}"
NO_API: str | None = None

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
