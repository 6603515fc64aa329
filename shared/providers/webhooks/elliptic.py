"""Public keys on elliptic curves, and signatures by them: ECDSA with P-256 and SHA-256, and Ed25519."""

import binascii

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from nacl.signing import VerifyKey

_ARMOUR = ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")
_ED25519_BYTES = 32  # RFC 8032, 5.1.5
_ALGORITHM = ECDSA(SHA256())


def read_ed25519(text: str) -> VerifyKey | None:
    """Parse an Ed25519 public key: PEM or base64 of its SPKI (RFC 8410), or base64 of its 32 bytes.

    Return None if the text is neither.
    """
    try:
        data = _decode(text)
        if len(data) == _ED25519_BYTES:
            return VerifyKey(data)
        key = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return VerifyKey(key.public_bytes_raw()) if isinstance(key, Ed25519PublicKey) else None


def read_p256(text: str) -> EllipticCurvePublicKey | None:
    """Parse a P-256 public key: PEM or base64 of its SPKI. Return None if it is not one."""
    try:
        key = load_der_public_key(_decode(text))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None


def _decode(text: str) -> bytes:
    for armour in _ARMOUR:
        text = text.replace(armour, "")
    return binascii.a2b_base64("".join(text.split()), strict_mode=True)


def is_signed_by(key: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    """Return whether the key made this ECDSA signature, in ASN.1 DER, of SHA-256 of the text."""
    try:
        key.verify(signature, signed, _ALGORITHM)
    except (InvalidSignature, ValueError):
        return False
    return True
