"""Signing keys of the simulated providers, and the forms in which providers publish them."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

RSA_BITS = 2048


class PublicKeyForm(StrEnum):
    """How an Ed25519 public key may be written: MailChannels' own two SDKs disagree, so all three occur."""

    SPKI = "spki"
    PEM = "pem"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Ed25519Key:
    """A key pair of RFC 8032 and the name that signatures call it by."""

    key_id: str
    private: ed25519.Ed25519PrivateKey

    @classmethod
    def make(cls, key_id: str, seed: bytes) -> "Ed25519Key":
        """Return the key that belongs to these 32 bytes."""
        return cls(key_id, ed25519.Ed25519PrivateKey.from_private_bytes(seed))

    def public(self, form: PublicKeyForm) -> str:
        """Return the public half, as text."""
        key = self.private.public_key()
        if form is PublicKeyForm.PEM:
            return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        if form is PublicKeyForm.RAW:
            return _base64(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        return _base64(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, message: bytes) -> str:
        """Return the signature, in standard base64."""
        return _base64(self.private.sign(message))


@dataclass(frozen=True)
class RsaKey:
    """An RSA key pair. Its id is what Postal makes of it: SHA-256 of the PKCS#1 public key, in hex."""

    private: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, RSA_BITS))

    @cached_property
    def key_id(self) -> str:
        """64 hex digits, as `lib/jwt/jwk/rsa.rb` of ruby-jwt computes them."""
        der = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
        return hashlib.sha256(der).hexdigest()

    def jwk(self) -> dict[str, str]:
        """Return the public half as one entry of a JWKS document (RFC 7517)."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "n": _base64url(numbers.n),
            "e": _base64url(numbers.e),
            "kid": self.key_id,
            "use": "sig",
            "alg": "RS256",
        }

    def sign(self, message: bytes, digest: hashes.HashAlgorithm) -> str:
        """Return the PKCS#1 v1.5 signature, in standard base64."""
        return _base64(self.private.sign(message, padding.PKCS1v15(), digest))


def seed_bytes(purpose: str, seed: int | None) -> bytes:
    """Return 32 bytes to make a secret from: the same for the same seed, random without one."""
    if seed is None:
        return secrets.token_bytes(32)
    return hashlib.sha256(f"{purpose}/{seed}".encode()).digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
