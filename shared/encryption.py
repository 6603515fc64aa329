"""Encryption of secrets at rest: with the first of TIDINGS_SECRET_KEYS; any of the keys decrypts."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.errors import TidingsError


class SecretsError(TidingsError):
    """Keys are missing or malformed, or no key decrypts a stored secret."""


class Vault:
    """Encrypts credentials for storage and decrypts them."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SecretsError("TIDINGS_SECRET_KEYS is empty. Generate a key with `tidings keys secret`.")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise SecretsError(
                "TIDINGS_SECRET_KEYS must contain keys of 32 bytes in URL-safe base64, separated by commas. "
                "Generate one with `tidings keys secret`."
            ) from None

    def seal(self, value: Mapping[str, Any]) -> bytes:
        """Return the value as encrypted JSON."""
        return self._fernet.encrypt(msgspec.json.encode(value))

    def open(self, sealed: bytes) -> dict[str, Any]:
        """Return the value of an encrypted JSON text. Raises SecretsError if no key decrypts it."""
        try:
            opened: dict[str, Any] = msgspec.json.decode(self._fernet.decrypt(sealed))
        except InvalidToken:
            raise SecretsError(
                "None of TIDINGS_SECRET_KEYS decrypts the stored credentials. Add the key that encrypted them."
            ) from None
        return opened


def new_key() -> str:
    """Return a new key for TIDINGS_SECRET_KEYS."""
    return Fernet.generate_key().decode("ascii")
