"""Credentials of a Postal source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from shared.providers.webhooks import jwks
from shared.providers.webhooks.base import CredentialField

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="jwks",
        type="object",
        required=True,
        help="The JSON Web Key Set that the server publishes at `/.well-known/jwks.json`.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The server's public keys by their ids."""

    keys: Mapping[str, RSAPublicKey]


def read_credentials(raw: Mapping[str, Any], fetched_keys: Mapping[str, str], /) -> Credentials:
    """Parse `{jwks}`, the key set that the server publishes at `/.well-known/jwks.json`. Raises CredentialsError."""
    return Credentials(keys=jwks.read_credentials(raw, fetched_keys, required=True))
