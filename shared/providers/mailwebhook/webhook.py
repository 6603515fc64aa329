"""MailWebhook: received mail, signed by HMAC with the secret of a route.

Source: docs.mailwebhook.com (signatures, retries and replay, payloads). The route's pipeline determines the body; the
documented format is `mailwebhook.generic`.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime

from shared.errors import PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.mailwebhook import payloads
from shared.providers.mailwebhook.credentials import Credentials
from shared.providers.webhooks import payload
from shared.providers.webhooks.authentication import decode_base64, malformed, require_body, require_headers
from shared.providers.webhooks.base import KeyLookup, StatusCodes, WebhookRequest
from shared.vocabulary import RefusalReason

NAME = "mailwebhook"
# MailWebhook documents 401 or 403 for a bad signature. After that, only a replay sends the mail again.
STATUS_CODES = StatusCodes()
DEDUPE_WINDOW_SECONDS: int | None = None

TOLERANCE_SECONDS = 300
_SIGNATURE = "x-mailwebhook-signature"
_MAX_DIGITS = 15
_DIGEST_BYTES = 32


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:
    """Verify the HMAC-SHA256 over `t.body`, with `t` at most 5 minutes from now. Raises VerificationError.

    The error for an unknown key id has no `key_id`: keys are secrets, so no worker could fetch it.
    """
    (header,) = require_headers(request, _SIGNATURE)
    body = require_body(request)
    parts = _read_parts(header)
    signed_at, key_id, signature = parts["t"], parts["kid"], decode_base64(parts["v1"], "v1")
    if not (signed_at.isascii() and signed_at.isdigit() and len(signed_at) <= _MAX_DIGITS):
        raise malformed("`t` must be a Unix timestamp")
    if len(signature) != _DIGEST_BYTES:
        raise malformed("`v1` must be 32 bytes in base64")
    if abs(int(now.timestamp()) - int(signed_at)) > TOLERANCE_SECONDS:
        raise VerificationError(RefusalReason.STALE, f"Timestamp outside the allowed window (±{TOLERANCE_SECONDS} s)")
    secret = credentials.signing_secrets.get(key_id)
    if secret is None:
        sentence = f"The signature names an unknown secret: {payload.quote(key_id)}"
        raise VerificationError(RefusalReason.UNKNOWN_KEY, sentence)
    expected = hmac.digest(secret, signed_at.encode() + b"." + body, "sha256")
    if not hmac.compare_digest(expected, signature):
        sentence = f"Signature verification failed for secret {payload.quote(key_id)}"
        raise VerificationError(RefusalReason.BAD_SIGNATURE, sentence)


def _read_parts(header: str) -> Mapping[str, str]:
    """Parse `t`, `kid` and `v1` in any order. Other parts are allowed, but none may occur twice."""
    parts: dict[str, str] = {}
    for part in header.split(","):
        # Split at the first `=` only, because base64 may end with more of them.
        name, _, value = part.strip().partition("=")
        if name in parts:
            raise malformed(f"The signature contains {payload.quote(name)} twice")
        parts[name] = value
    if not all(parts.get(name) for name in ("t", "kid", "v1")):
        raise malformed("The signature must have `t`, `kid` and `v1`")
    return parts


def idempotency_key(request: WebhookRequest, /) -> str | None:
    """Return the id that all retries and replays of a message on a route share; a replay may have another body."""
    for name in ("x-idempotency-key", "idempotency-key"):
        if value := request.headers.get(name, "").strip():
            return value
    return None


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:  # noqa: ARG001
    """Return the received mail as one event for each recipient. Raises PayloadError if the body is not JSON."""
    return payloads.parse(body)


def tenants(credentials: Credentials, /) -> frozenset[str]:  # noqa: ARG001
    """Return an empty set: the credentials name no tenant; events name their project."""
    return frozenset()


def key_lookup(key_id: str, /) -> KeyLookup | None:  # noqa: ARG001
    """Return None: MailWebhook's keys are secrets."""
    return None


def read_keys(document: bytes, /) -> Mapping[str, str]:  # noqa: ARG001
    """Raise PayloadError: MailWebhook's keys are secrets."""
    raise PayloadError("MailWebhook's keys are secrets and cannot be fetched")
