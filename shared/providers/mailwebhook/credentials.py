"""Credentials of a MailWebhook source."""

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import CredentialsError
from shared.providers.webhooks import payload
from shared.providers.webhooks.authentication import read_optional, read_texts
from shared.providers.webhooks.base import CredentialField, SourceSettings

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="signing_secrets",
        type="object",
        required=True,
        secret=True,
        help="Signing secrets by key id (`kid`). A secret with the prefix `base64:` or `hex:` is decoded first.",
    ),
    CredentialField(name="api_key", type="text", secret=True, help="Reserved; MailWebhook's API is not used."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The signing secrets of the routes by their ids; both the old and the new one during a rotation."""

    signing_secrets: Mapping[str, bytes]
    api_key: str | None


def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Credentials:
    """Parse `{signing_secrets: {kid: secret}, api_key?}`. Raises CredentialsError.

    A secret is the UTF-8 bytes of its text. A secret with the prefix `base64:` or `hex:` is decoded first, because
    MailWebhook does not document the format of the secret that it displays.
    """
    secrets = {}
    for key_id, text in read_texts(raw, "signing_secrets", required=True).items():
        form, _, rest = text.partition(":")
        try:
            if form == "base64":
                secret = binascii.a2b_base64(rest, strict_mode=True)
            elif form == "hex":
                secret = binascii.unhexlify(rest)
            else:
                secret = text.encode()
        except ValueError as error:
            raise CredentialsError(f"`signing_secrets` at {payload.quote(key_id)} cannot be read: {error}") from None
        if not secret:
            raise CredentialsError(f"`signing_secrets` at {payload.quote(key_id)} must not be empty")
        secrets[key_id] = secret
    return Credentials(signing_secrets=secrets, api_key=read_optional(raw, "api_key"))
