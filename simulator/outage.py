"""A proxy in front of the receiver that makes it unreachable for a while, so that deliveries fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import urlencode

from simulator import post
from simulator.connection import post_once
from simulator.deliveries import DeliveryLog
from simulator.post import Outcomes
from simulator.providers.base import Dialect
from simulator.serving import Call, Ending, Response, Server
from simulator.staging import Posting

_TIMEOUT_SECONDS = 15.0
_HOP_BY_HOP = frozenset({"host", "connection", "keep-alive", "content-length", "transfer-encoding"})


class _State(StrEnum):
    OPEN = "open"
    SHUT = "shut"
    MUTE = "mute"


class Gate(Server):
    """A proxy of the receiver at `target`: register its address at the provider instead.

    It is open at first, and forwards only POST.
    """

    def __init__(self, target: str, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.target = target.rstrip("/")
        self._mode: tuple[_State, int | None] = (_State.OPEN, None)

    def open(self) -> None:
        """Forward every request."""
        self._mode = (_State.OPEN, None)

    def shut(self, status: int | None = None) -> None:
        """Forward nothing: answer with the status or, without one, close the connection."""
        self._mode = (_State.SHUT, status)

    def mute(self) -> None:
        """Forward requests and drop the responses, so that accepted requests look failed."""
        self._mode = (_State.MUTE, None)

    def answer(self, call: Call) -> Response:
        """Return the receiver's response if the gate is open."""
        state, status = self._mode
        if call.method != "POST":
            return Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
        if state is _State.SHUT:
            return Response(status=status) if status else _HANGING_UP
        headers = {name: value for name, value in call.headers.items() if name not in _HOP_BY_HOP}
        url = f"{self.target}{call.path}" + (f"?{urlencode(call.query)}" if call.query else "")
        exchange = post_once(url, call.body, headers, timeout_seconds=_TIMEOUT_SECONDS)
        if state is _State.MUTE or exchange.status is None:
            return _HANGING_UP
        return Response(status=exchange.status, content=exchange.body)


_HANGING_UP = Response(status=HTTPStatus.BAD_GATEWAY, ending=Ending.LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The outcome of a play during which the receiver was down."""

    before: Outcomes
    unreachable: Outcomes
    unavailable: Outcomes
    after: Outcomes


def send_through(postings: Sequence[Posting], dialect: Dialect, gate: Gate, url: str, log: DeliveryLog) -> Outage:
    """Send the postings in four parts: answered, cut off by the gate, answered with 503, and answered again.

    `url` is at the gate, and registered with the account that owns the log. The log then has the failed deliveries.
    """
    quarter = -(-len(postings) // 4)
    parts = [postings[begin : begin + quarter] for begin in range(0, 4 * quarter, quarter)]

    def send(part: Sequence[Posting]) -> Outcomes:
        return post.send(part, dialect, url, connections=4, log=log)

    before = send(parts[0])
    gate.shut()
    unreachable = send(parts[1])
    gate.shut(HTTPStatus.SERVICE_UNAVAILABLE)
    unavailable = send(parts[2])
    gate.open()
    return Outage(before=before, unreachable=unreachable, unavailable=unavailable, after=send(parts[3]))
