"""The base of the providers' accounts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import ClassVar

from simulator.connection import Exchange, post_once
from simulator.deliveries import DeliveryLog
from simulator.providers.api.faults import Faults
from simulator.providers.api.routes import RefusedError, Route, choose
from simulator.providers.base import Dialect, Signed
from simulator.serving import Call, Response

_TIMEOUT_SECONDS = 5.0
"""The timeout of an endpoint: documented by Ark, used by Postal; MailChannels documents none."""


class Account(ABC):
    """One customer of a simulated provider: its webhooks, its log of requests, and the API for both.

    Tests use `log`, `faults` and the methods; Tidings calls `handle`. Both are safe for threads.
    """

    BASE: ClassVar[str]
    """The prefix of the API's paths."""

    def __init__(self, dialect: Dialect, log: DeliveryLog) -> None:
        self.dialect = dialect
        self.log = log
        self.faults = Faults()
        self.timeout_seconds = _TIMEOUT_SECONDS

    @abstractmethod
    def enrol(self, url: str) -> str:
        """Register a webhook at this URL; return its id at the provider."""

    @abstractmethod
    def _routes(self) -> Sequence[Route]:
        """Return the endpoints, with paths below BASE."""

    @abstractmethod
    def _locate(self, path: str) -> str:
        """Return the path as the routes have it. Raises RefusedError if it belongs to another account."""

    @abstractmethod
    def _admit(self, call: Call, path: str) -> None:
        """Raise RefusedError with 401 unless the call is its owner's."""

    @abstractmethod
    def _refusal(self, refused: RefusedError) -> Response:
        """Return a refusal in the provider's form."""

    def handle(self, call: Call) -> Response:
        """Return the answer to a call, with the fault that was set for it. The path is the part below BASE."""
        fault = self.faults.take(f"{call.method} {call.path}")
        if fault.status:
            text = HTTPStatus(fault.status).phrase.lower()
            response = self._refusal(RefusedError(fault.status, text, fault.headers))
        else:
            response = self._answer(call)
        if fault.meanwhile:
            fault.meanwhile()
        return replace(response, delay_seconds=fault.delay_seconds, ending=fault.ending)

    def _answer(self, call: Call) -> Response:
        try:
            path = self._locate(call.path)
            do, parts = choose(self._routes(), call.method, path)
            self._admit(call, path)
            return do(call, **parts)
        except RefusedError as refused:
            return self._refusal(refused)

    def _post(self, url: str, body: bytes) -> tuple[Signed, datetime, Exchange]:
        """Sign the body and POST it. Return the request, the time of its start, and its outcome."""
        now = datetime.now(UTC)
        request = Signed(self.dialect.sign(body, now), body)
        exchange = post_once(url, request.body, request.headers, timeout_seconds=self.timeout_seconds)
        return request, now, exchange


def milliseconds(exchange: Exchange) -> int:
    """Return the duration of the call."""
    return round(exchange.seconds * 1000)


def text_of(exchange: Exchange) -> str:
    """Return the body of the answer."""
    return exchange.body.decode("utf-8", "replace")
