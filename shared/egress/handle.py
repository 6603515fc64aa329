"""A libcurl handle that makes one call after another, with a bound on everything that could come back."""

import os
from collections.abc import Sequence
from functools import cache
from socket import socket
from typing import Any

import pycurl

from shared.egress import ssrf
from shared.egress.ssrf import Network
from shared.egress.types import Call, Outcome
from shared.http import authorities

MOST_BODY_BYTES = 64 * 1024
"""Read of a response; then the line is cut."""

_MOST_HEADER_BYTES = 32 * 1024
_CONNECT_TIMEOUT_MS = 10_000
_NAMES_KEPT_SECONDS = 60  # longer than any call, so that libcurl never looks a name up between two connections of one
_CUT = -1  # what tells libcurl to stop
_SWITCHING_PROTOCOLS = 101


class _Lent:
    """A socket for pycurl, which makes itself a duplicate and lets go of this."""

    def __init__(self, opened: socket) -> None:
        self._descriptor = opened.detach()

    def fileno(self) -> int:
        """What is duplicated."""
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


class Line:
    """A handle and what it hears. Used by one thread."""

    def __init__(self, allow: Sequence[Network]) -> None:
        self._allow = allow
        self._call: Call | None = None
        self._refused = False
        self._waited_ms = 0
        self._forget()
        self.curl = pycurl.Curl()
        for option, value in _options().items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._hear_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._hear_body)

    def begin(self, call: Call, place: str = "", waited_seconds: float = 0) -> None:
        """Make ready for a call, which has waited for its name until now.

        `place` is `name:port:address,address…`: where the name is to be found, which is not looked up then.
        Raises pycurl.error or ValueError for one that cannot even be begun.
        """
        self._call = call
        self._waited_ms = round(waited_seconds * 1000)
        self._forget()
        left_ms = max(1, round(call.timeout_seconds * 1000) - self._waited_ms)
        self.curl.setopt(pycurl.URL, call.url)
        self.curl.setopt(pycurl.TIMEOUT_MS, left_ms)
        self.curl.setopt(pycurl.CONNECTTIMEOUT_MS, min(_CONNECT_TIMEOUT_MS, left_ms + 1))
        if place:
            self.curl.setopt(pycurl.RESOLVE, [f"+{place}"])  # takes the place of what libcurl remembers; + lets it age
        else:
            self.curl.unsetopt(pycurl.RESOLVE)
        # Without an `Expect:` of ours libcurl asks before it sends a large body.
        self.curl.setopt(pycurl.HTTPHEADER, [*(f"{name}: {value}" for name, value in call.headers), "Expect:"])
        self.curl.setopt(pycurl.POSTFIELDS, call.body)

    def end(self, error: tuple[int, str] | None = None) -> Outcome:
        """What came of the call; `error` is libcurl's number and words."""
        if self._call is None:
            raise ValueError("no call was begun")
        key, self._call = self._call.key, None
        latency_ms = self._waited_ms + round(self.curl.getinfo(pycurl.TOTAL_TIME) * 1000)
        if not self._answered:
            return Outcome(key=key, http_status=0, latency_ms=latency_ms, network_error=self._reason(error))
        return Outcome(
            key=key,
            http_status=self._status,
            latency_ms=latency_ms,
            headers=self._headers,
            body=bytes(self._body[:MOST_BODY_BYTES]),
            truncated=error is not None,
        )

    def close(self) -> None:
        """Let go of the handle."""
        self.curl.close()

    def _forget(self) -> None:
        self._status = 0
        self._answered = False
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._body = bytearray()
        self._refused = False

    def _open(self, _purpose: int, address: Any) -> Any:
        family, kind, protocol, place = address
        dialled = str(place[0]) if isinstance(place, tuple) else "a local socket"
        if not ssrf.is_allowed(dialled, self._allow):
            self._refused = True
            return pycurl.SOCKET_BAD
        return _Lent(socket(family, kind, protocol))

    def _hear_header(self, line: bytes) -> int | None:
        self._header_bytes += len(line)
        if self._header_bytes > _MOST_HEADER_BYTES:
            return _CUT
        if self._answered:
            return None  # a trailer
        if line.startswith(b"HTTP/"):
            self._status = _status(line)
            self._headers = {}  # what came before was an interim answer (1xx)
        elif line in (b"\r\n", b"\n"):
            self._answered = self._status >= 200 or self._status == _SWITCHING_PROTOCOLS
        else:
            name, _, value = line.decode("latin-1").partition(":")
            self._headers[name.strip().lower()] = value.strip()
        return None

    def _hear_body(self, chunk: bytes) -> int | None:
        self._body += chunk
        return _CUT if len(self._body) > MOST_BODY_BYTES else None

    def _reason(self, error: tuple[int, str] | None) -> str:
        if self._refused:
            # Without the address: a tenant reads this, and names of inside resolve here.
            return "what it resolves to is not a public address, so nothing was sent to it"
        if error is None:
            return "the server said nothing that could be understood"
        number, words = error
        if self._header_bytes > _MOST_HEADER_BYTES:
            return f"the headers of the response are larger than {_MOST_HEADER_BYTES} bytes"
        return words or f"libcurl gave up with error {number}"


def _status(line: bytes) -> int:
    """The status of a status line; 0 if it is none (RFC 9112, 4)."""
    words = line.split(None, 2)
    return int(words[1]) if len(words) > 1 and len(words[1]) == 3 and words[1].isdigit() else 0


@cache
def _options() -> dict[int, Any]:
    return {
        pycurl.NOSIGNAL: 1,
        pycurl.PROXY: "",  # whatever the environment says
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.FOLLOWLOCATION: 0,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
        pycurl.SSL_VERIFYPEER: 1,
        pycurl.SSL_VERIFYHOST: 2,
        pycurl.USERAGENT: "tidings",
        pycurl.POST: 1,
        pycurl.DNS_CACHE_TIMEOUT: _NAMES_KEPT_SECONDS,
        **authorities.options(),
    }
