"""What dialects share whose keys are secrets, or are given to the operator."""

from collections.abc import Mapping

from simulator.keys import seed_bytes
from simulator.mail import Message


class WithSecrets:
    """A dialect that publishes no keys, and whose secrets are numbered."""

    NAME: str
    KEYS_PATH: str | None = None

    def __init__(self, *, seed: int | None = None) -> None:
        self._seed = seed
        self._secrets: dict[str, bytes] = {}
        self._first = self.rotate()
        self.api_key = seed_bytes(f"{self.NAME}/api-key", seed).hex()

    @property
    def key_id(self) -> str:
        """The number of the secret that it signs with at present."""
        return next(reversed(self._secrets))

    def rotate(self) -> str:
        """Switch to a new secret and keep the old one valid."""
        key_id = str(len(self._secrets) + 1)
        self._secrets[key_id] = seed_bytes(f"{self.NAME}/{key_id}", self._seed)
        return key_id

    def secret(self, key_id: str | None = None) -> bytes:
        """Return the 32 bytes of a secret, the current one without an id."""
        return self._secrets[key_id or self.key_id]

    def key_document(self, query: Mapping[str, str]) -> bytes | None:  # noqa: ARG002
        """Return None: its keys are not published."""
        return None

    def lookup(self, message: Message) -> dict[str, str]:
        """Return the provider's own id, which the send was answered with."""
        return {"message_id": message.uuid}
