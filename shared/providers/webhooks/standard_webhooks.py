"""Verification by Standard Webhooks 1.0.0 (github.com/standard-webhooks), whose `v1` is also Svix'.

The signed text is `<id>.<timestamp>.<body>` with the headers' own texts and the exact bytes of the body. The id stays
the same in retries, and the timestamp is the attempt's.
"""

import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from shared.errors import CredentialsError, VerificationError
from shared.providers.webhooks.authentication import check_age, malformed, read_secrets, require_body, require_headers
from shared.providers.webhooks.base import CredentialField, SourceSettings, WebhookRequest
from shared.vocabulary import RefusalReason

TOLERANCE_SECONDS = 300
_PREFIXES = ("webhook-", "svix-")
_MAX_SIGNATURES = 50
_SECRET, _PUBLIC = "whsec_", "whpk_"
_PUBLIC_KEY_BYTES = 32

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="secrets",
        several=True,
        type="list",
        required=True,
        secret=True,
        help="Signing secrets (`whsec_…`), the old and the new one during a rotation. A public key (`whpk_…`) is "
        "accepted too.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The decoded secrets for `v1`, and the public keys for `v1a`."""

    secrets: Sequence[bytes]
    public_keys: Sequence[VerifyKey] = ()


def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Credentials:
    """Parse `{secrets: [..]}`: base64 after `whsec_`, or without the prefix. Raises CredentialsError."""
    secrets, public_keys = [], []
    for text in read_secrets(raw, "secrets"):
        try:
            data = binascii.a2b_base64(text.removeprefix(_SECRET).removeprefix(_PUBLIC), strict_mode=True)
        except ValueError:
            data = b""
        if text.startswith(_PUBLIC) and len(data) == _PUBLIC_KEY_BYTES:
            public_keys.append(VerifyKey(data))
        elif data and not text.startswith(_PUBLIC):
            secrets.append(data)
        else:
            raise CredentialsError("`secrets` must be `whsec_` and base64 each, as the provider shows them")
    return Credentials(secrets=secrets, public_keys=public_keys)


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:
    """Verify one of the signatures, made at most 5 minutes from now. Raises VerificationError."""
    prefix = next((one for one in _PREFIXES if f"{one}signature" in request.headers), _PREFIXES[0])
    names = f"{prefix}id", f"{prefix}timestamp", f"{prefix}signature"
    message_id, timestamp, signatures = require_headers(request, *names)
    body = require_body(request)
    if "." in message_id or not message_id.isascii():
        raise malformed(f"{prefix}id must be ASCII without dots")
    hmacs, ed25519 = _read_signatures(signatures)
    check_age(now, timestamp, f"{prefix}timestamp", TOLERANCE_SECONDS)
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    expected = [hmac.digest(secret, signed, "sha256") for secret in credentials.secrets]
    if any(hmac.compare_digest(one, given) for one in expected for given in hmacs):
        return
    for key in credentials.public_keys:
        for signature in ed25519:
            try:
                key.verify(signed, signature)
            except (BadSignatureError, ValueError):
                continue
            return
    raise VerificationError(RefusalReason.BAD_SIGNATURE, "Signature verification failed for every secret")


def _read_signatures(header: str) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Return the `v1` and the `v1a` signatures of a list. One that cannot be read does not hide the others."""
    found: Mapping[str, list[bytes]] = {"v1": [], "v1a": []}
    entries = header.split(" ")
    if len(entries) > _MAX_SIGNATURES:
        raise malformed(f"More than {_MAX_SIGNATURES} signatures")
    for entry in entries:
        version, _, text = entry.partition(",")
        if version in found:
            try:
                found[version].append(binascii.a2b_base64(text, strict_mode=True))
            except ValueError:  # also raised for characters beyond ASCII
                continue
    if not any(found.values()):
        raise malformed("The signature must have an entry `v1,<base64>`")
    return found["v1"], found["v1a"]


def idempotency_key(request: WebhookRequest, /) -> str | None:
    """Return the id of the message, the same in all its deliveries."""
    return next((value for prefix in _PREFIXES if (value := request.headers.get(f"{prefix}id", "").strip())), None)
