"""MailWebhook: received mail, signed by HMAC with the secret of a route.

Source: docs.mailwebhook.com (signatures, retries and replay, payloads). The route's pipeline determines the body; the
documented format is `mailwebhook.generic`.
"""

import hmac
from datetime import datetime

from shared.errors import VerificationError
from shared.events.event import Event
from shared.providers.mailwebhook import payloads
from shared.providers.mailwebhook.credentials import Credentials
from shared.providers.webhooks import payload
from shared.providers.webhooks.authentication import (
    check_age,
    decode_base64,
    malformed,
    read_pairs,
    require_body,
    require_headers,
)
from shared.providers.webhooks.base import WebhookRequest
from shared.vocabulary import RefusalReason

# MailWebhook documents 401 or 403 for a bad signature. After that, only a replay sends the mail again.

TOLERANCE_SECONDS = 300
_SIGNATURE = "x-mailwebhook-signature"
_DIGEST_BYTES = 32


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:
    """Verify the HMAC-SHA256 over `t.body`, with `t` at most 5 minutes from now. Raises VerificationError.

    The error for an unknown key id has no `key_id`: keys are secrets, so no worker could fetch it.
    """
    (header,) = require_headers(request, _SIGNATURE)
    body = require_body(request)
    parts = read_pairs(header, "t", "kid", "v1")
    signed_at, key_id, signature = parts["t"], parts["kid"], decode_base64(parts["v1"], "v1")
    if len(signature) != _DIGEST_BYTES:
        raise malformed("`v1` must be 32 bytes in base64")
    check_age(now, signed_at, "`t`", TOLERANCE_SECONDS)
    secret = credentials.signing_secrets.get(key_id)
    if secret is None:
        sentence = f"The signature names an unknown secret: {payload.quote(key_id)}"
        raise VerificationError(RefusalReason.UNKNOWN_KEY, sentence)
    expected = hmac.digest(secret, signed_at.encode() + b"." + body, "sha256")
    if not hmac.compare_digest(expected, signature):
        sentence = f"Signature verification failed for secret {payload.quote(key_id)}"
        raise VerificationError(RefusalReason.BAD_SIGNATURE, sentence)


def idempotency_key(request: WebhookRequest, /) -> str | None:
    """Return the id that all retries and replays of a message on a route share; a replay may have another body."""
    for name in ("x-idempotency-key", "idempotency-key"):
        if value := request.headers.get(name, "").strip():
            return value
    return None


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:  # noqa: ARG001
    """Return the received mail as one event for each recipient. Raises PayloadError if the body is not JSON."""
    return payloads.parse(body)
