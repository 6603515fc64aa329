"""Ark: delivery events in Postal's format, with an RSA signature over the body.

Sources: arkhq.io/docs/webhooks/security and the pages of its events. The signature covers no timestamp, and Ark
retries for about three days, so no request is rejected for its age.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256

from shared.events.event import Event
from shared.providers.ark.credentials import Credentials
from shared.providers.webhooks import jwks
from shared.providers.webhooks import postal_events as events
from shared.providers.webhooks.authentication import decode_base64, require_body, require_headers
from shared.providers.webhooks.base import KeyLookup, WebhookRequest

# A body without an envelope has no id; for an open or a send limit it has no time either. Retries end after about
# three days: an identical body that arrives later is a new event.
DEDUPE_WINDOW_SECONDS = 4 * 24 * 3600


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:  # noqa: ARG001
    """Verify the RSA-SHA256 signature over the body with the key that the request names. Raises VerificationError."""
    signature, key_id = require_headers(request, "x-ark-signature", "x-ark-signature-kid")
    body = require_body(request)
    decoded = decode_base64(signature, "X-Ark-Signature")
    jwks.verify(credentials.keys, key_id, decoded, body, SHA256())


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:
    """Return the events of a body: with or without an envelope, or of a platform webhook. Raises PayloadError."""
    return events.parse(
        body, tenant_id=credentials.tenant_id, accepts_without_tenant=credentials.accepts_without_tenant
    )


def tenants(credentials: Credentials, /) -> frozenset[str]:
    """Return the tenant that the source is limited to, if any."""
    return frozenset({credentials.tenant_id} if credentials.tenant_id else ())


def settings_after_registration(credentials: Credentials, /) -> Mapping[str, Any] | None:
    """Return the settings of a source whose webhook belongs to a tenant: its events never name the tenant."""
    return {"events_without_tenant": "accept"} if credentials.tenant_id else None


def key_lookup(key_id: str, /) -> KeyLookup:  # noqa: ARG001 - one document holds all keys
    """Return the URL of the key set, which is not part of Ark's API."""
    return KeyLookup(url="https://mail.arkhq.io/.well-known/jwks.json", has_all_keys=True)


read_keys = jwks.read_keys
