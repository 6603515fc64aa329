"""A client for single HTTP requests, with a deadline and a limit on the response. It follows no redirects."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path

import pycurl

from shared.errors import TidingsError

_CONNECT_TIMEOUT_MS = 3000
_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """A response; header names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class OutboundError(TidingsError):
    """No complete response; the message gives the reason. `partial` is the part that was received, if any."""

    partial: Response | None = None


def get(url: str) -> Response:
    """Return the response to a GET of this URL. Raises OutboundError."""
    return call("GET", url)


def call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    max_bytes: int = _MAX_BYTES,
    handle: pycurl.Curl | None = None,
    is_abandoned: Callable[[], bool] | None = None,
) -> Response:
    """Return the response to one request, whatever its status. Raises OutboundError, also for a partial response.

    A header with a line break is refused: it would become another header, or another request.
    With a `handle`, which the caller closes, its open connection is used again. `is_abandoned` is asked about every
    second whether the request is to be ended.
    """
    received = bytearray()
    received_headers: dict[str, str] = {}

    def on_body(chunk: bytes) -> int | None:
        received.extend(chunk)
        return -1 if len(received) > max_bytes else None

    def on_header(line: bytes) -> None:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            received_headers[name.strip().lower()] = value.strip()
        elif line.startswith(b"HTTP/"):
            received_headers.clear()  # an interim response (1xx) came before

    if not is_one_line("".join(f"{name}{value}" for name, value in (headers or {}).items())):
        raise OutboundError("a header of the request contains a line break")
    kept, handle = handle, handle or pycurl.Curl()
    try:
        handle.reset()
        handle.setopt(pycurl.URL, url.encode())
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, _CONNECT_TIMEOUT_MS)
        handle.setopt(pycurl.TIMEOUT_MS, round(timeout_seconds * 1000))
        handle.setopt(pycurl.USERAGENT, "tidings")
        for option, value in ca_options().items():
            handle.setopt(option, value)
        handle.setopt(pycurl.HEADERFUNCTION, on_header)
        handle.setopt(pycurl.WRITEFUNCTION, on_body)
        _set_request(handle, method, headers or {}, body, is_abandoned)
        handle.perform()
        return Response(handle.getinfo(pycurl.RESPONSE_CODE), bytes(received), received_headers)
    except pycurl.error as error:
        reason = error.args[-1] if len(received) <= max_bytes else f"the response is larger than {max_bytes} bytes"
        failure = OutboundError(f"no response from {url}: {reason}")
        if status := handle.getinfo(pycurl.RESPONSE_CODE):
            failure.partial = Response(status, bytes(received), received_headers)
        raise failure from None
    finally:
        if kept is None:
            handle.close()


def _set_request(
    handle: pycurl.Curl,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    is_abandoned: Callable[[], bool] | None,
) -> None:
    lines = [f"{name}: {value}".encode() for name, value in headers.items()]
    if body is not None or method in ("POST", "PUT", "PATCH"):
        handle.setopt(pycurl.POSTFIELDS, body or b"")
        # libcurl would add the content type of a form, and `Expect: 100-continue` before a large body.
        lines += [f"{name}:".encode() for name in ("Content-Type", "Expect") if name not in headers]
    handle.setopt(pycurl.CUSTOMREQUEST, method)
    handle.setopt(pycurl.HTTPHEADER, lines)
    if is_abandoned is not None:
        handle.setopt(pycurl.NOPROGRESS, 0)
        handle.setopt(pycurl.XFERINFOFUNCTION, lambda *_: int(is_abandoned()))


def is_one_line(text: str) -> bool:
    """Return whether a text can be a part of one line of a request: it has no CR, LF or NUL (RFC 9110, 5.5)."""
    return not ("\r" in text or "\n" in text or "\0" in text)


@cache
def ca_options() -> dict[int, str]:
    """Return the curl option for the CA file of this machine's OpenSSL: libcurl's own default may not exist here."""
    file = ssl.get_default_verify_paths().cafile
    return {pycurl.CAINFO: file} if file and Path(file).is_file() else {}


def parse_retry_after(text: str, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3); None if it is neither."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        return (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
