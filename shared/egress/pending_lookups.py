"""Calls that wait for the address of a name, each until its deadline."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.egress.types import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A call, since when it waits, and when all of it has to be over (monotonic)."""

    call: Call
    name: str
    port: int
    since: float

    @property
    def deadline(self) -> float:
        """When its time is up."""
        return self.since + self.call.timeout_seconds


class WaitingRoom:
    """Used by one thread."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[UUID, Waiting]] = {}
        self._deadlines: list[tuple[float, UUID, str]] = []  # also of those who wait no more

    def admit(self, waiting: Waiting) -> None:
        """Have it wait."""
        self._by_name.setdefault(waiting.name, {})[waiting.call.key] = waiting
        heapq.heappush(self._deadlines, (waiting.deadline, waiting.call.key, waiting.name))

    def call_in(self, name: str) -> Sequence[Waiting]:
        """All that waited for this name; they wait no more."""
        return list(self._by_name.pop(name, {}).values())

    def next_deadline(self) -> float | None:
        """When `send_away` should be asked next."""
        return self._deadlines[0][0] if self._deadlines else None

    def send_away(self, now: float) -> Sequence[Waiting]:
        """All whose deadline has come; they wait no more."""
        late: list[Waiting] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, key, name = heapq.heappop(self._deadlines)
            waiting = self._by_name.get(name, {}).pop(key, None)
            if waiting is not None:
                late.append(waiting)
        return late

    def clear(self) -> None:
        """Have none wait."""
        self._by_name.clear()
        self._deadlines.clear()
