"""MailWebhook: received mail, signed by HMAC with a secret that is named by its id.

Source: docs.mailwebhook.com (signatures, retries and replay, payloads). Bodies are whatever the route's
pipeline makes; the documented one is `mailwebhook.generic`.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime

from shared.errors import PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.mailwebhook import payloads
from shared.providers.mailwebhook.credentials import Credentials
from shared.providers.webhooks import payload
from shared.providers.webhooks.base import KeyLookup, Request, StatusCodes
from shared.providers.webhooks.signatures import decode_base64, malformed, require_body, require_headers
from shared.vocabulary import RefusalReason

NAME = "mailwebhook"
# Their page asks for 401 or 403 on a bad signature, after which only a replay brings the mail back.
STATUS_CODES = StatusCodes()
DEDUPE_WINDOW_SECONDS: int | None = None

TOLERANCE_SECONDS = 300
_SIGNATURE = "x-mailwebhook-signature"
_MOST_DIGITS = 15
_DIGEST_BYTES = 32


def verify(request: Request, credentials: Credentials, now: datetime, /) -> None:
    """HMAC-SHA256 over `t.body`, at most five minutes from now. Raises VerificationError.

    An unknown key id is refused without its name: keys are secrets, so that nobody could look it up.
    """
    (header,) = require_headers(request, _SIGNATURE)
    body = require_body(request)
    parts = _read_parts(header)
    signed_at, key_id, signature = parts["t"], parts["kid"], decode_base64(parts["v1"], "v1")
    if not (signed_at.isascii() and signed_at.isdigit() and len(signed_at) <= _MOST_DIGITS):
        raise malformed("t is no Unix time")
    if len(signature) != _DIGEST_BYTES:
        raise malformed("v1 is not 32 bytes of base64")
    if abs(int(now.timestamp()) - int(signed_at)) > TOLERANCE_SECONDS:
        raise VerificationError(RefusalReason.STALE, "The signature is not of this time")
    secret = credentials.signing_secrets.get(key_id)
    if secret is None:
        sentence = f"The signature names a secret that is not known: {payload.quote(key_id)}"
        raise VerificationError(RefusalReason.UNKNOWN_KEY, sentence)
    expected = hmac.digest(secret, signed_at.encode() + b"." + body, "sha256")
    if not hmac.compare_digest(expected, signature):
        raise VerificationError(RefusalReason.BAD_SIGNATURE, "The signature is not the secret's")


def _read_parts(header: str) -> Mapping[str, str]:
    """`t`, `kid` and `v1`, in any order; other parts may come beside them, but none twice."""
    parts: dict[str, str] = {}
    for part in header.split(","):
        # Only the first sign separates: base64 ends with others.
        name, _, value = part.strip().partition("=")
        if name in parts:
            raise malformed(f"The signature has {payload.quote(name)} twice")
        parts[name] = value
    if not all(parts.get(name) for name in ("t", "kid", "v1")):
        raise malformed("The signature lacks one of t, kid and v1")
    return parts


def idempotency_key(request: Request, /) -> str | None:
    """The same for all retries and replays of a message on a route; a replay may have another body."""
    for name in ("x-idempotency-key", "idempotency-key"):
        if value := request.headers.get(name, "").strip():
            return value
    return None


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:  # noqa: ARG001
    """The received mail, once for each recipient. Raises PayloadError if the body is no JSON."""
    return payloads.parse(body)


def tenants(credentials: Credentials, /) -> frozenset[str]:  # noqa: ARG001
    """None that the credentials name; events name their project."""
    return frozenset()


def key_lookup(key_id: str, /) -> KeyLookup | None:  # noqa: ARG001
    """None: its keys are secrets."""
    return None


def read_keys(document: bytes, /) -> Mapping[str, str]:  # noqa: ARG001
    """Raises PayloadError: its keys are secrets."""
    raise PayloadError("MailWebhook's keys are secrets, which nobody can fetch")
