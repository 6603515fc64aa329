"""Secrets at rest: encrypted with the first of TIDINGS_SECRET_KEYS, readable with any of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.errors import TidingsError


class SecretsError(TidingsError):
    """Keys that are missing or malformed, or stored secrets that none of the keys opens."""


class Vault:
    """Turns credentials into bytes that can be stored, and back."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SecretsError("TIDINGS_SECRET_KEYS must hold at least one key; make one with `tidings keys secret`")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise SecretsError(
                "TIDINGS_SECRET_KEYS must hold 32 bytes in URL-safe base64 each; make one with `tidings keys secret`"
            ) from None

    def seal(self, value: Mapping[str, Any]) -> bytes:
        """The value as JSON, encrypted."""
        return self._fernet.encrypt(msgspec.json.encode(value))

    def open(self, sealed: bytes) -> dict[str, Any]:
        """What was sealed. Raises SecretsError when none of the keys opens it."""
        try:
            opened: dict[str, Any] = msgspec.json.decode(self._fernet.decrypt(sealed))
        except InvalidToken:
            raise SecretsError(
                "stored credentials cannot be opened with any of TIDINGS_SECRET_KEYS; add the key they were sealed with"
            ) from None
        return opened


def new_key() -> str:
    """A fresh key for TIDINGS_SECRET_KEYS."""
    return Fernet.generate_key().decode("ascii")
