"""HTTP Message Signatures (RFC 9421) by Ed25519 over Content-Digest (RFC 9530)."""

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from shared.errors import VerificationError
from shared.providers.webhooks.base import Request
from shared.providers.webhooks.payload import quote
from shared.providers.webhooks.signatures import malformed, require_body, require_headers
from shared.providers.webhooks.structured_fields import Item, Member, StructuredFieldError, parse_dictionary
from shared.vocabulary import RefusalReason

MAX_AGE_SECONDS = 300
MAX_SKEW_SECONDS = 30
"""The provider's clock may be ahead by so much."""

_SIGNATURE_BYTES = 64
_MOST_SIGNATURES = 4
"""Each costs an Ed25519 check: a request with more than a key rollover needs is refused."""
_LONGEST_KEY_ID = 256
_SPACE = " \t"
_HEADERS = ("content-digest", "signature-input", "signature")

# Of several signatures any valid one suffices. If none is, this is the order in which reasons tell most:
# a forgery under a key that we hold is one, whatever key the other signatures name.
_GRAVEST_FIRST = (
    RefusalReason.BAD_SIGNATURE,
    RefusalReason.UNKNOWN_KEY,
    RefusalReason.STALE,
    RefusalReason.MALFORMED_SIGNATURE,
)


class _Signature(NamedTuple):
    label: str
    covered: Sequence[str]
    key_id: str
    created: int
    expires: int | None
    parameters: str
    signature: bytes


def verify(request: Request, keys: Mapping[str, VerifyKey], now: datetime) -> None:
    """Return if one of the keys signed the request's Content-Digest and that is its body's.

    Raises VerificationError. A key that is not among `keys` is complained about last, with its id: what names
    it is well-formed, fresh and has the body's digest, so that it is worth looking the key up.
    """
    digest, inputs, signatures = require_headers(request, *_HEADERS)
    _check_digest(digest, require_body(request))
    input_members, signature_members = _parse(inputs, "Signature-Input"), _parse(signatures, "Signature")
    if not 0 < len(input_members) <= _MOST_SIGNATURES:
        raise malformed(f"Signature-Input names {len(input_members)} signatures")
    errors: list[VerificationError] = []
    for label, member in input_members.items():
        try:
            _verify_one(request, _read(label, member, signature_members), keys, now)
        except VerificationError as error:
            errors.append(error)
        else:
            return
    raise min(errors, key=lambda error: _GRAVEST_FIRST.index(error.reason))


def _parse(text: str, name: str) -> dict[str, Member]:
    try:
        return parse_dictionary(text)
    except StructuredFieldError as error:
        raise malformed(f"{name} is no structured field: {error}") from None


def _check_digest(header: str, body: bytes) -> None:
    member = _parse(header, "Content-Digest").get("sha-256")
    if member is None or not isinstance(member.value, bytes):
        raise malformed("Content-Digest has no sha-256")
    if not hmac.compare_digest(member.value, sha256(body).digest()):
        raise VerificationError(RefusalReason.DIGEST_MISMATCH, "Content-Digest is not the digest of the body")


def _read(label: str, member: Member, signatures: Mapping[str, Member]) -> _Signature:
    if label not in signatures:
        raise malformed(f"Signature has no member {quote(label)}")
    signature = signatures[label].value
    if not isinstance(signature, bytes) or len(signature) != _SIGNATURE_BYTES:
        raise malformed("The signature is not 64 bytes of base64")
    if not isinstance(member.value, tuple):
        raise malformed("Signature-Input lists no components")
    parameters = member.parameters
    # Exact types throughout: a token is no string in a structured field, and a boolean no integer.
    algorithm = parameters.get("alg", "ed25519")
    if type(algorithm) is not str or algorithm != "ed25519":
        raise malformed("The signature's algorithm is not ed25519")
    key_id, created, expires = parameters.get("keyid"), parameters.get("created"), parameters.get("expires")
    if type(key_id) is not str or not 0 < len(key_id) <= _LONGEST_KEY_ID:
        raise malformed("The signature names no key")
    if type(created) is not int or not (expires is None or type(expires) is int):
        raise malformed("The signature does not say when it was made")
    covered = _read_components(member.value)
    return _Signature(label, covered, key_id, created, expires, member.raw, signature)


def _read_components(items: Sequence[Item]) -> Sequence[str]:
    names = [item.value for item in items if type(item.value) is str and not item.parameters]
    if len(names) != len(items) or len(set(names)) != len(names):
        raise malformed("A covered component is repeated, has parameters or is no name")
    if "content-digest" not in names:
        raise malformed("The signature does not cover content-digest")
    return names


def _verify_one(request: Request, signature: _Signature, keys: Mapping[str, VerifyKey], now: datetime) -> None:
    base = _build_base(request, signature)
    seconds = int(now.timestamp())
    expired = signature.expires is not None and seconds > signature.expires
    if expired or seconds - signature.created > MAX_AGE_SECONDS:
        raise VerificationError(RefusalReason.STALE, "The signature is too old")
    if signature.created - seconds > MAX_SKEW_SECONDS:
        raise VerificationError(RefusalReason.STALE, "The signature is from the future")
    key = keys.get(signature.key_id)
    if key is None:
        sentence = f"The signature names a key that is not known: {quote(signature.key_id)}"
        raise VerificationError(RefusalReason.UNKNOWN_KEY, sentence, key_id=signature.key_id)
    try:
        key.verify(base, signature.signature)
    except BadSignatureError:
        raise VerificationError(RefusalReason.BAD_SIGNATURE, "The signature is not the key's") from None


def _build_base(request: Request, signature: _Signature) -> bytes:
    """What was signed (RFC 9421 2.5): a line for each component, then the parameters exactly as received."""
    lines: list[str] = []
    for name in signature.covered:
        value = request.headers.get(name)
        # Derived components (`@method`) are no headers; a line break would let one value pose as two lines.
        if value is None or name.startswith("@") or "\n" in value or "\r" in value:
            raise malformed(f"The signature covers {quote(name)}, which cannot be used here")
        lines.append(f'"{name}": {value.strip(_SPACE)}')
    lines.append(f'"@signature-params": {signature.parameters}')
    try:
        return "\n".join(lines).encode("latin-1")  # the inverse of how servers decode headers
    except UnicodeEncodeError:
        raise malformed("A covered header has characters that no header can have") from None
