"""Faults of an account's API, for tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Lock

from simulator.serving import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The fault of one call.

    With a `status`, the answer has it, and the call has no effect. Otherwise the call is performed, then `meanwhile` is
    called, and the answer, which is older, comes late or with another ending.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    meanwhile: Callable[[], object] | None = None
    delay_seconds: float = 0.0
    ending: Ending = Ending.WHOLE


NO_FAULT = Fault()


def rate_limited(retry_after_seconds: int = 1) -> Fault:
    """Return a fault: 429 with Retry-After, without an effect."""
    return Fault(status=HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": str(retry_after_seconds)})


def failing(status: int = HTTPStatus.SERVICE_UNAVAILABLE) -> Fault:
    """Return a fault: a server error, without an effect."""
    return Fault(status=status)


def slow(seconds: float) -> Fault:
    """Return a fault: performed at once, answered late."""
    return Fault(delay_seconds=seconds)


def truncated() -> Fault:
    """Return a fault: done, and answered with the first half of the JSON."""
    return Fault(ending=Ending.TRUNCATED)


def cut_off() -> Fault:
    """Return a fault: done, and the connection closed in the middle of the answer."""
    return Fault(ending=Ending.CUT)


def lost() -> Fault:
    """Return a fault: done, and the connection reset without any answer."""
    return Fault(ending=Ending.LOST)


def interlude(action: Callable[[], object]) -> Fault:
    """Return a fault: something happens before the next call, such as new batches that shift the pages of a list."""
    return Fault(meanwhile=action)


@dataclass(slots=True)
class _Order:
    fault: Fault
    calls: int
    to: str


class Faults:
    """The faults that the next calls will meet, in the order in which they were added."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []
        self._lock = Lock()

    def add(self, fault: Fault, *, calls: int = 1, to: str = "") -> None:
        """Let it befall the next `calls` calls that have `to` in their `METHOD /path`, the path below the base."""
        with self._lock:
            self._orders.append(_Order(fault, calls, to))

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._orders.clear()

    @property
    def left(self) -> int:
        """Return the number of faults that have not happened yet."""
        with self._lock:
            return sum(order.calls for order in self._orders)

    def take(self, call: str) -> Fault:
        """Return the fault for a call, given as `METHOD /path`."""
        with self._lock:
            order = next((order for order in self._orders if order.calls and order.to in call), None)
            if order is None:
                return NO_FAULT
            order.calls -= 1
            return order.fault
