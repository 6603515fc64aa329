"""Postal, the open-source mail server; Ark uses the same event format.

Source: postalserver/postal, `lib/postal/http.rb` and `lib/postal/signer.rb`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from shared.errors import VerificationError
from shared.events.event import Event
from shared.providers.webhooks import jwks
from shared.providers.webhooks import postal_events as events
from shared.providers.webhooks.authentication import decode_base64, require_body, require_headers
from shared.providers.webhooks.base import CredentialField, KeyLookup, SourceSettings, WebhookRequest
from shared.vocabulary import RefusalReason

_SIGNATURE_256 = "x-postal-signature-256"
_SIGNATURE_LEGACY = "x-postal-signature"
_KEY_ID = "x-postal-signature-kid"

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


def read_credentials(
    raw: Mapping[str, Any], fetched_keys: Mapping[str, str], _settings: SourceSettings, /
) -> Credentials:
    """Parse `{jwks}`, the key set that the server publishes at `/.well-known/jwks.json`. Raises CredentialsError."""
    return Credentials(keys=jwks.read_credentials(raw, fetched_keys, required=True))


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:  # noqa: ARG001
    """Verify the RSA signature over the body. Raises VerificationError.

    SHA-1 is accepted only without a SHA-256 header, from old servers: a valid SHA-1 signature never compensates for
    an invalid SHA-256 one. The signature covers no timestamp, so no request is rejected for its age.
    """
    name = _SIGNATURE_256
    algorithm: HashAlgorithm = SHA256()
    if _SIGNATURE_256 not in request.headers and _SIGNATURE_LEGACY in request.headers:
        name, algorithm = _SIGNATURE_LEGACY, SHA1()  # noqa: S303 - all that old servers have
    (signature,) = require_headers(request, name)
    body = require_body(request)
    decoded = decode_base64(signature, name)
    key_id = request.headers.get(_KEY_ID, "").strip(" \t")
    if key_id:
        jwks.verify(credentials.keys, key_id, decoded, body, algorithm)
    elif not any(jwks.is_signed_by(key, decoded, body, algorithm) for key in credentials.keys.values()):
        raise VerificationError(
            RefusalReason.BAD_SIGNATURE, "Signature verification failed for every key of the source"
        )


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:  # noqa: ARG001
    """Return the events of a body. Raises PayloadError."""
    return events.parse(body, tenant_id=None)


def key_lookup(key_id: str, /) -> KeyLookup:  # noqa: ARG001 - one document holds all keys
    """Return the path of the key set on the operator's server; its address is in the source's settings."""
    return KeyLookup(url="", api_path=".well-known/jwks.json", has_all_keys=True)


read_keys = jwks.read_keys
