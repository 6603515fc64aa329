"""RSA keys from a JSON Web Key Set (RFC 7517), and signatures by them (PKCS #1 v1.5, RFC 8017 8.2)."""

import binascii
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.providers.webhooks import payload
from shared.providers.webhooks.authentication import malformed
from shared.vocabulary import RefusalReason

_PADDING = PKCS1v15()
_MAX_KEY_ID_LENGTH = 256
# Bits. Shorter keys can be broken; longer keys would make every check slow.
_MIN_MODULUS_BITS, _MAX_MODULUS_BITS = 1024, 8192
_URL_SAFE = str.maketrans("-_", "+/")


class _Jwk(msgspec.Struct):
    kty: str
    kid: str
    n: str
    e: str
    use: Any = "sig"


class _Jwks(msgspec.Struct):
    keys: list[msgspec.Raw]


_IDENTIFYING = frozenset({"kty", "kid", "n", "e"})
_jwk = msgspec.json.Decoder(_Jwk)
_jwks = msgspec.json.Decoder(_Jwks)


def read_keys(document: bytes, _key_id: str = "", /) -> Mapping[str, str]:
    """Return the RSA keys of a key set by their ids, each as JSON text. Raises PayloadError if there is none.

    Keys of other types are ignored: they may have another purpose.
    """
    found = payload.decode(payload.read(document).clean, _jwks)
    texts = [bytes(raw).decode(errors="replace") for raw in found.keys]
    keys = {loaded[0]: text for text in texts if (loaded := _load(text))}
    if not keys:
        raise PayloadError("The key set has no usable RSA key with a `kid`")
    return keys


def read_credentials(
    raw: Mapping[str, Any], fetched_keys: Mapping[str, str], *, required: bool
) -> Mapping[str, RSAPublicKey]:
    """Return the keys of `jwks` and the fetched keys; those of `jwks` take precedence. Raises CredentialsError."""
    keys = dict(loaded for text in fetched_keys.values() if (loaded := _load(text)))
    given = raw.get("jwks")
    if given is None and not required:
        return keys
    if not isinstance(given, Mapping):
        raise CredentialsError('`jwks` must be a key set: {"keys": [...]}')
    try:
        texts = read_keys(msgspec.json.encode(given))
    except (PayloadError, TypeError, ValueError, RecursionError) as error:
        raise CredentialsError(f"`jwks` cannot be used: {error}") from None
    keys.update(loaded for text in texts.values() if (loaded := _load(text)))
    return keys


def _load(text: str) -> tuple[str, RSAPublicKey] | None:
    """Return the id and the key of a JWK; None if it is not a usable RSA key for signatures."""
    try:
        found, _ = payload.decode_fields(text.encode(), _jwk, _IDENTIFYING)
        modulus, exponent = _to_integer(found.n), _to_integer(found.e)
        has_other_use = isinstance(found.use, str) and found.use != "sig"
        if found.kty != "RSA" or has_other_use or not 0 < len(found.kid) <= _MAX_KEY_ID_LENGTH:
            return None
        if not _MIN_MODULUS_BITS <= modulus.bit_length() <= _MAX_MODULUS_BITS:
            return None
        return found.kid, RSAPublicNumbers(exponent, modulus).public_key()
    except (PayloadError, ValueError):
        return None


def _to_integer(text: str) -> int:
    text = text.rstrip("=").translate(_URL_SAFE)
    return int.from_bytes(binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True), "big")


def verify(
    keys: Mapping[str, RSAPublicKey], key_id: str, signature: bytes, body: bytes, algorithm: HashAlgorithm
) -> None:
    """Verify a signature of the body with the key of that id.

    Raises VerificationError, which carries the id if the key is unknown and the id is well-formed.
    """
    key = keys.get(key_id)
    if key is None:
        if len(key_id) > _MAX_KEY_ID_LENGTH or not (key_id.isascii() and key_id.isprintable()):
            raise malformed(f"The key id must be 1 to {_MAX_KEY_ID_LENGTH} printable ASCII characters")
        sentence = f"The signature names an unknown key: {payload.quote(key_id)}"
        raise VerificationError(RefusalReason.UNKNOWN_KEY, sentence, key_id=key_id)
    if not is_signed_by(key, signature, body, algorithm):
        sentence = f"Signature verification failed for key {payload.quote(key_id)}"
        raise VerificationError(RefusalReason.BAD_SIGNATURE, sentence)


def is_signed_by(key: RSAPublicKey, signature: bytes, body: bytes, algorithm: HashAlgorithm) -> bool:
    """Return whether the key made this signature of the body."""
    try:
        key.verify(signature, body, _PADDING, algorithm)
    except InvalidSignature:
        return False
    return True
