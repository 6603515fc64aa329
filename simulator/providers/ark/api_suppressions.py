"""Ark's list of addresses that are not written to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any

from simulator.providers.api.routes import RefusedError

_WRONG = HTTPStatus.UNPROCESSABLE_ENTITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One address, and why."""

    id: str
    address: str
    reason: str | None
    created_at: datetime


class Suppressions:
    """All of one tenant, oldest first. For many threads."""

    def __init__(self) -> None:
        self._suppressions: dict[str, Suppression] = {}
        self._made = 0
        self._lock = Lock()

    def all(self) -> list[Suppression]:
        """Return everybody who is on the list."""
        with self._lock:
            return list(self._suppressions.values())

    def find(self, address: str) -> Suppression | None:
        """Return the one of that address."""
        with self._lock:
            return self._suppressions.get(address)

    def put(self, address: str, reason: str | None = None) -> tuple[Suppression, bool]:
        """Add an address, or give it another reason. Return its entry, and whether it is new.

        That an address may be given twice is documented only for the list's bulk form.
        """
        with self._lock:
            known = self._suppressions.get(address)
            self._made += known is None
            suppression = Suppression(
                id=known.id if known else str(self._made),
                address=address,
                reason=reason,
                created_at=known.created_at if known else datetime.now(UTC),
            )
            self._suppressions[address] = suppression
        return suppression, known is None

    def remove(self, address: str) -> None:
        """Take it off the list. Raises RefusedError with 404."""
        with self._lock:
            if self._suppressions.pop(address, None) is None:
                raise RefusedError(HTTPStatus.NOT_FOUND, "address is not suppressed")


def read(given: Any) -> tuple[str, str | None]:
    """Return the address and reason of a request. Raises RefusedError with 422."""
    if not isinstance(given, Mapping):
        raise RefusedError(_WRONG, "a suppression must be an object")
    address, reason = given.get("address"), given.get("reason")
    if not isinstance(address, str) or "@" not in address:
        raise RefusedError(_WRONG, "address must be an email address")
    if reason is not None and not isinstance(reason, str):
        raise RefusedError(_WRONG, "reason must be a text")
    return address, reason
