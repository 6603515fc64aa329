"""Calling out: one request with a hard deadline and a bound on what comes back. Redirects are not followed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pycurl

from shared.errors import TidingsError
from shared.http import authorities

_CONNECT_TIMEOUT_MS = 3000
_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the names of headers are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class OutboundError(TidingsError):
    """No answer, or one that cannot be used; the message says which. `partial` is as much as came of one."""

    partial: Answer | None = None


def get(url: str) -> Answer:
    """The answer to a GET of this URL. Raises OutboundError."""
    return call("GET", url)


def call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    most_bytes: int = _MOST_BYTES,
) -> Answer:
    """The answer to one request, whatever its status. Raises OutboundError, also for an answer that broke off."""
    received = bytearray()
    answered: dict[str, str] = {}

    def take(chunk: bytes) -> int | None:
        received.extend(chunk)
        return -1 if len(received) > most_bytes else None

    def take_header(line: bytes) -> None:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            answered[name.strip().lower()] = value.strip()
        elif line.startswith(b"HTTP/"):
            answered.clear()  # what came before was an interim answer (1xx)

    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, url.encode())
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, _CONNECT_TIMEOUT_MS)
        handle.setopt(pycurl.TIMEOUT_MS, round(timeout_seconds * 1000))
        handle.setopt(pycurl.USERAGENT, "tidings")
        for option, value in authorities.options().items():
            handle.setopt(option, value)
        handle.setopt(pycurl.HEADERFUNCTION, take_header)
        handle.setopt(pycurl.WRITEFUNCTION, take)
        _say(handle, method, headers or {}, body)
        handle.perform()
        return Answer(handle.getinfo(pycurl.RESPONSE_CODE), bytes(received), answered)
    except pycurl.error as error:
        reason = error.args[-1] if len(received) <= most_bytes else f"it answered more than {most_bytes} bytes"
        failure = OutboundError(f"no answer from {url}: {reason}")
        if status := handle.getinfo(pycurl.RESPONSE_CODE):
            failure.partial = Answer(status, bytes(received), answered)
        raise failure from None
    finally:
        handle.close()


def _say(handle: pycurl.Curl, method: str, headers: Mapping[str, str], body: bytes | None) -> None:
    lines = [f"{name}: {value}".encode() for name, value in headers.items()]
    if body is not None or method in ("POST", "PUT", "PATCH"):
        handle.setopt(pycurl.POSTFIELDS, body or b"")
        # What libcurl would add by itself: the type of a form, and a question before a large body.
        lines += [f"{name}:".encode() for name in ("Content-Type", "Expect") if name not in headers]
    handle.setopt(pycurl.CUSTOMREQUEST, method)
    handle.setopt(pycurl.HTTPHEADER, lines)
