"""Ark: delivery events of the Postal family, signed by RSA over the body.

Sources: arkhq.io/docs/webhooks/security and the pages of its events. The signature binds no time, and retries
run for about three days, so that nothing is refused for its age.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from shared.events.event import Event
from shared.providers.webhooks import jwks
from shared.providers.webhooks import postal_events as events
from shared.providers.webhooks.base import KeyLookup, Request, StatusCodes
from shared.providers.webhooks.credentials import read_optional
from shared.providers.webhooks.signatures import decode_base64, require_body, require_headers

NAME = "ark"
STATUS_CODES = StatusCodes()
# A body without envelope has no id, and an open or a send limit in it no time either. Retries end after about
# three days: what comes again later is news.
DEDUPE_WINDOW_SECONDS: int | None = 4 * 24 * 3600
SECRET_FIELDS = frozenset({"api_key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The keys that sign, by their ids; `tenant_id` is the only tenant that is ours, None for all."""

    keys: Mapping[str, RSAPublicKey]
    api_key: str | None
    tenant_id: str | None


def read_credentials(raw: Mapping[str, Any], fetched_keys: Mapping[str, str], /) -> Credentials:
    """`{jwks?: {...}, api_key?, tenant_id?}`. Raises CredentialsError."""
    return Credentials(
        keys=jwks.read_credentials(raw, fetched_keys, required=False),
        api_key=read_optional(raw, "api_key"),
        tenant_id=read_optional(raw, "tenant_id"),
    )


def verify(request: Request, credentials: Credentials, now: datetime, /) -> None:  # noqa: ARG001
    """RSA with SHA-256 over the body, by the key that the request names. Raises VerificationError."""
    signature, key_id = require_headers(request, "x-ark-signature", "x-ark-signature-kid")
    body = require_body(request)
    decoded = decode_base64(signature, "X-Ark-Signature")
    jwks.check(jwks.choose(credentials.keys, key_id), decoded, body, SHA256())


def idempotency_key(request: Request, /) -> str | None:  # noqa: ARG001
    """None: the id of an event is in the body, if anywhere."""
    return None


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:
    """The event of a body: bare, enveloped, or of a platform webhook. Raises PayloadError."""
    return events.parse(body, tenant_id=credentials.tenant_id)


def tenants(credentials: Credentials, /) -> frozenset[str]:
    """The one that the source is for, if it is for one."""
    return frozenset({credentials.tenant_id} if credentials.tenant_id else ())


def key_lookup(key_id: str, /) -> KeyLookup:  # noqa: ARG001 - one document holds all keys
    """The key set, which is not part of Ark's API."""
    return KeyLookup(url="https://mail.arkhq.io/.well-known/jwks.json", api_path=None, query={})


read_keys = jwks.read_keys
