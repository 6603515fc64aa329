"""Ark: delivery events of the Postal family, signed by RSA over the body.

Sources: arkhq.io/docs/webhooks/security and the pages of its events. The signature binds no time, and retries
run for about three days, so that nothing is refused for its age.
"""

from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA256

from shared.events.event import Event
from shared.providers.ark.credentials import Credentials
from shared.providers.webhooks import jwks
from shared.providers.webhooks import postal_events as events
from shared.providers.webhooks.base import KeyLookup, Request, StatusCodes
from shared.providers.webhooks.signatures import decode_base64, require_body, require_headers

NAME = "ark"
STATUS_CODES = StatusCodes()
# A body without envelope has no id, and an open or a send limit in it no time either. Retries end after about
# three days: what comes again later is news.
DEDUPE_WINDOW_SECONDS: int | None = 4 * 24 * 3600


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
