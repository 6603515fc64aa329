"""HTTP Message Signatures (RFC 9421) by Ed25519 over Content-Digest (RFC 9530)."""

import hmac
import re
from binascii import a2b_base64
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, cast

import http_sf
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from shared.errors import VerificationError
from shared.providers.webhooks.authentication import malformed, require_body, require_headers
from shared.providers.webhooks.base import WebhookRequest
from shared.providers.webhooks.payload import quote
from shared.vocabulary import RefusalReason

MAX_AGE_SECONDS = 300
MAX_SKEW_SECONDS = 30
"""How far the provider's clock may be ahead of ours."""

_SIGNATURE_BYTES = 64
_MAX_SIGNATURES = 4
"""Each one costs an Ed25519 check. A key rollover needs two."""
_MAX_HEADER_LENGTH = 8192
"""Parsing takes up to 0.5 ms per KiB, and anybody can send a header."""
_LONGEST_CACHED = 1024
_MAX_KEY_ID_LENGTH = 256
_MAX_ERROR_LENGTH = 200
_SPACE = " \t"
_HEADERS = ("content-digest", "signature-input", "signature")

_MEMBER = re.compile(r'(?:[^,"%]|%"[^"]*"|%|"(?:[^"\\]|\\.)*")+')
"""One member of a valid dictionary: a comma separates members unless it is inside a string or a display string."""

_ONE_BYTE_SEQUENCE = re.compile(
    r"([a-z*][a-z0-9_.*-]*)=:((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?):"
)
"""A dictionary with one byte sequence, as nearly all providers send it. The library takes ten times as long for it."""

# One valid signature is enough. If none is valid, the error is the most serious one, in this order: a forgery under
# a key that we hold is reported whatever keys the other signatures name.
_BY_SEVERITY = (
    RefusalReason.BAD_SIGNATURE,
    RefusalReason.UNKNOWN_KEY,
    RefusalReason.STALE,
    RefusalReason.MALFORMED_SIGNATURE,
)


def verify(request: WebhookRequest, keys: Mapping[str, VerifyKey], now: datetime) -> None:
    """Check that one of `keys` signed the request's Content-Digest, and that the digest is the body's.

    Raises VerificationError. An unknown key is the last check: the error carries its id only if the signature is
    well-formed and fresh and the digest is right, so that fetching the key is worth a request.
    """
    digest_header, input_header, signature_header = require_headers(request, *_HEADERS)
    body = require_body(request)
    digest, _ = _parse(digest_header, "Content-Digest").get("sha-256", (None, {}))
    if not isinstance(digest, bytes):
        raise malformed("Content-Digest has no sha-256")
    if not hmac.compare_digest(digest, sha256(body).digest()):
        raise VerificationError(RefusalReason.DIGEST_MISMATCH, "Content-Digest is not the digest of the body")

    inputs, signatures = _parse(input_header, "Signature-Input"), _parse(signature_header, "Signature")
    if not 0 < len(inputs) <= _MAX_SIGNATURES:
        raise malformed(f"Signature-Input names {len(inputs)} signatures; the limit is {_MAX_SIGNATURES}")
    # Signers sign the parameters as they wrote them. The library drops their spelling, so it is cut from the header.
    members = (member.strip(_SPACE).partition("=") for member in _MEMBER.findall(input_header))
    spellings = {label: spelling for label, _, spelling in members}
    errors: list[VerificationError] = []
    for label, (components, parameters) in inputs.items():
        try:
            if label not in signatures:
                raise malformed(f"Signature has no member {quote(label)}")
            base = _build_base(request, components, spellings.get(label, ""))
            _verify_signature(base, signatures[label][0], parameters, keys, now)
        except VerificationError as error:
            errors.append(error)
        else:
            return
    raise min(errors, key=lambda error: _BY_SEVERITY.index(error.reason))


def _parse(header: str, name: str) -> dict[str, Any]:
    """Return the members of a structured field dictionary (RFC 9651): each is a value and its parameters."""
    if len(header) > _MAX_HEADER_LENGTH:
        raise malformed(f"{name} has {len(header)} characters; the limit is {_MAX_HEADER_LENGTH}")
    if one := _ONE_BYTE_SEQUENCE.fullmatch(header):
        return {one[1]: (a2b_base64(one[2]), {})}
    try:
        return (parse_dictionary if len(header) <= _LONGEST_CACHED else parse_dictionary.__wrapped__)(header)
    except ValueError as error:  # StructuredFieldError, or a character that no header can have
        raise malformed(f"{name} is not a structured field: {str(error)[:_MAX_ERROR_LENGTH]}") from None


# A provider writes the same Signature-Input for all webhooks of a second.
@lru_cache(maxsize=256)
def parse_dictionary(header: str) -> dict[str, Any]:
    """Parse a structured field dictionary. The result is shared, so nobody may change it. Raises ValueError."""
    return cast("dict[str, Any]", http_sf.parse(header.encode("latin-1"), tltype="dictionary"))


def _build_base(request: WebhookRequest, components: Any, spelling: str) -> bytes:
    """Return the signature base (RFC 9421 2.5): one line per component, then the parameters exactly as received."""
    if not isinstance(components, list):
        raise malformed("Signature-Input lists no components")
    # The type is compared exactly: a structured field's token is not a string.
    names = [name for name, parameters in components if type(name) is str and not parameters]
    if len(names) != len(components) or len(set(names)) != len(names):
        raise malformed("A covered component is repeated, has parameters or is not a string")
    if "content-digest" not in names:
        raise malformed("The signature does not cover content-digest")
    lines = []
    for name in names:
        value = request.headers.get(name)
        # Derived components (`@method`) are not headers. A line break would let one value pass for two lines.
        if value is None or name.startswith("@") or "\n" in value or "\r" in value:
            raise malformed(f"The signature covers {quote(name)}, which cannot be used here")
        lines.append(f'"{name}": {value.strip(_SPACE)}')
    lines.append(f'"@signature-params": {spelling}')
    try:
        return "\n".join(lines).encode("latin-1")  # the inverse of how servers decode headers
    except UnicodeEncodeError:
        raise malformed("A covered header has characters that no header can have") from None


def _verify_signature(
    base: bytes, signature: object, parameters: Mapping[str, Any], keys: Mapping[str, VerifyKey], now: datetime
) -> None:
    if not isinstance(signature, bytes) or len(signature) != _SIGNATURE_BYTES:
        raise malformed(f"The signature must be {_SIGNATURE_BYTES} bytes in base64")
    # Types are compared exactly: a token is not a string, and a boolean is not an integer.
    algorithm = parameters.get("alg", "ed25519")
    if type(algorithm) is not str or algorithm != "ed25519":
        raise malformed("The signature's algorithm is not ed25519")
    key_id, created, expires = parameters.get("keyid"), parameters.get("created"), parameters.get("expires")
    if type(key_id) is not str or not 0 < len(key_id) <= _MAX_KEY_ID_LENGTH:
        raise malformed(f"The signature's keyid must be a string of 1 to {_MAX_KEY_ID_LENGTH} characters")
    if type(created) is not int or not (expires is None or type(expires) is int):
        raise malformed("The signature's created and expires must be Unix timestamps")
    seconds = int(now.timestamp())
    if seconds - created > MAX_AGE_SECONDS or (expires is not None and seconds > expires):
        raise VerificationError(RefusalReason.STALE, "The signature is too old")
    if created - seconds > MAX_SKEW_SECONDS:
        raise VerificationError(RefusalReason.STALE, "The signature is from the future")
    key = keys.get(key_id)
    if key is None:
        sentence = f"The signature names an unknown key: {quote(key_id)}"
        raise VerificationError(RefusalReason.UNKNOWN_KEY, sentence, key_id=key_id)
    try:
        key.verify(base, signature)
    except BadSignatureError:
        raise VerificationError(
            RefusalReason.BAD_SIGNATURE, f"Signature verification failed for key {quote(key_id)}"
        ) from None
