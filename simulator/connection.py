"""HTTP connections of a simulated provider to a receiver: POSTs and their outcomes."""

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from simulator.providers.base import QUERY

_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The outcome of one POST. `status` is None without a response; `seconds` is its duration."""

    status: int | None
    body: bytes
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether the answer was 2xx, which is what all providers count as delivered."""
        return self.status is not None and http.client.OK <= self.status < http.client.MULTIPLE_CHOICES


class Connection:
    """A keep-alive connection that opens itself again. For one thread."""

    def __init__(self, url: str, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        address = urlsplit(url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._http = kind(address.hostname or "", address.port, timeout=timeout_seconds)
        self._target = urlunsplit(("", "", address.path or "/", address.query, ""))
        self._used = False

    def post(self, body: bytes, headers: Mapping[str, str]) -> Exchange:
        """Return the outcome; raise nothing."""
        started = time.monotonic()
        answer = self._post(body, headers)
        status, content = answer or (None, b"")
        return Exchange(status=status, body=content, seconds=time.monotonic() - started)

    def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
        reused, self._used = self._used, True
        try:
            sent = dict(headers)
            query = sent.pop(QUERY, "")
            target = f"{self._target}?{query}" if query else self._target
            self._http.request("POST", target, body, sent)
            response = self._http.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self.close()
        # A server may close an idle connection just as the next request is sent on it: that is no failure.
        return self._post(body, headers) if reused else None

    def close(self) -> None:
        """Close the socket; the next POST opens another."""
        self._http.close()
        self._used = False


def post_once(url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float) -> Exchange:
    """Make one POST on a new connection."""
    connection = Connection(url, timeout_seconds=timeout_seconds)
    try:
        return connection.post(body, headers)
    finally:
        connection.close()
