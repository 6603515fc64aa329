"""A libcurl handle that makes one call after another and bounds the size of every response."""

import os
from collections.abc import Sequence
from functools import cache
from socket import socket
from typing import Any

import pycurl

from shared.egress import ssrf
from shared.egress.ssrf import Network
from shared.egress.types import Call, Outcome
from shared.http.client import ca_options, is_one_line

MAX_BODY_BYTES = 64 * 1024
"""The connection is closed after this much of a response body."""

_MAX_HEADER_BYTES = 32 * 1024
_CONNECT_TIMEOUT_MS = 10_000
_DNS_CACHE_SECONDS = 60  # longer than any call: libcurl must not look the name up itself during a call
_ABORT = -1  # makes libcurl close the connection
_SWITCHING_PROTOCOLS = 101


class _PassedSocket:
    """A socket for pycurl, which duplicates it and drops this object."""

    def __init__(self, opened: socket) -> None:
        self._descriptor = opened.detach()

    def fileno(self) -> int:
        """Return the descriptor to duplicate."""
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


class CurlHandle:
    """A curl handle and the response that it receives. For use by one thread."""

    def __init__(self, allow: Sequence[Network]) -> None:
        self._allow = allow
        self._call: Call | None = None
        self._refused = False
        self._waited_ms = 0
        self._reset()
        self.curl = pycurl.Curl()
        for option, value in _options().items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._on_body)

    def prepare(self, call: Call, resolve: str = "", waited_seconds: float = 0) -> None:
        """Set the handle up for a call whose lookup took `waited_seconds`.

        `resolve` is `name:port:address,address…` (CURLOPT_RESOLVE); without it libcurl looks the name up.
        Raises pycurl.error or ValueError if the request cannot be made.
        """
        headers = [f"{name}: {value}" for name, value in call.headers]
        if not is_one_line("".join(headers)):
            raise ValueError("a header of the request contains a line break")
        self._call = call
        self._waited_ms = round(waited_seconds * 1000)
        self._reset()
        left_ms = max(1, round(call.timeout_seconds * 1000) - self._waited_ms)
        self.curl.setopt(pycurl.URL, ssrf.without_final_dot(call.url))
        self.curl.setopt(pycurl.TIMEOUT_MS, left_ms)
        self.curl.setopt(pycurl.CONNECTTIMEOUT_MS, min(_CONNECT_TIMEOUT_MS, left_ms + 1))
        if resolve:
            self.curl.setopt(pycurl.RESOLVE, [f"+{resolve}"])  # replaces the cached entry; with + it expires
        else:
            self.curl.unsetopt(pycurl.RESOLVE)
        # Without this empty `Expect:` libcurl sends `Expect: 100-continue` before a large body.
        self.curl.setopt(pycurl.HTTPHEADER, [*headers, "Expect:"])
        self.curl.setopt(pycurl.POSTFIELDS, call.body)

    def finish(self, error: tuple[int, str] | None = None) -> Outcome:
        """Return the outcome of the call; `error` is libcurl's error number and message."""
        if self._call is None:
            raise ValueError("no call was prepared")
        key, self._call = self._call.key, None
        latency_ms = self._waited_ms + round(self.curl.getinfo(pycurl.TOTAL_TIME) * 1000)
        if not self._answered:
            return Outcome(key=key, http_status=0, latency_ms=latency_ms, network_error=self._reason(error))
        return Outcome(
            key=key,
            http_status=self._status,
            latency_ms=latency_ms,
            headers=self._headers,
            body=bytes(self._body[:MAX_BODY_BYTES]),
            truncated=error is not None,
        )

    def close(self) -> None:
        """Release the handle."""
        self.curl.close()

    def _reset(self) -> None:
        self._status = 0
        self._answered = False
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._body = bytearray()
        self._refused = False

    def _open_socket(self, _purpose: int, address: Any) -> Any:
        family, kind, protocol, endpoint = address
        target = str(endpoint[0]) if isinstance(endpoint, tuple) else "a local socket"
        if not ssrf.is_allowed(target, self._allow):
            self._refused = True
            return pycurl.SOCKET_BAD
        return _PassedSocket(socket(family, kind, protocol))

    def _on_header(self, line: bytes) -> int | None:
        self._header_bytes += len(line)
        if self._header_bytes > _MAX_HEADER_BYTES:
            return _ABORT
        if self._answered:
            return None  # a trailer
        if line.startswith(b"HTTP/"):
            words = line.split(None, 2)  # RFC 9112, 4
            is_valid = len(words) > 1 and len(words[1]) == 3 and words[1].isdigit()
            self._status = int(words[1]) if is_valid else 0
            self._headers = {}  # an interim response (1xx) came before
        elif line in (b"\r\n", b"\n"):
            self._answered = self._status >= 200 or self._status == _SWITCHING_PROTOCOLS
        else:
            name, _, value = line.decode("latin-1").partition(":")
            self._headers[name.strip().lower()] = value.strip()
        return None

    def _on_body(self, chunk: bytes) -> int | None:
        self._body += chunk
        return _ABORT if len(self._body) > MAX_BODY_BYTES else None

    def _reason(self, error: tuple[int, str] | None) -> str:
        if self._refused:
            # Without the address: tenants read this, and internal names resolve here.
            return "the host is not a public address, or does not resolve to one; nothing was sent"
        if error is None:
            return "the server sent no valid HTTP response"
        number, message = error
        if self._header_bytes > _MAX_HEADER_BYTES:
            return f"the headers of the response are larger than {_MAX_HEADER_BYTES} bytes"
        return message or f"libcurl reported error {number}"


@cache
def _options() -> dict[int, Any]:
    return {
        pycurl.NOSIGNAL: 1,
        pycurl.PROXY: "",  # ignore the environment's proxy
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.FOLLOWLOCATION: 0,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
        pycurl.SSL_VERIFYPEER: 1,
        pycurl.SSL_VERIFYHOST: 2,
        pycurl.USERAGENT: "tidings",
        pycurl.POST: 1,
        pycurl.DNS_CACHE_TIMEOUT: _DNS_CACHE_SECONDS,
        **ca_options(),
    }
