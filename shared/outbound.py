"""Calling out: one GET with a hard deadline and a bound on what comes back. Redirects are not followed."""

from dataclasses import dataclass

import pycurl

from shared.domain.errors import TidingsError

_CONNECT_TIMEOUT_MS = 3000
_TIMEOUT_MS = 5000
_MOST_BYTES = 256 * 1024


class OutboundError(TidingsError):
    """No answer, or one that cannot be used; the message says which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


def get(url: str) -> Answer:
    """The answer to a GET of this URL. Raises OutboundError."""
    received = bytearray()

    def take(chunk: bytes) -> int | None:
        received.extend(chunk)
        return -1 if len(received) > _MOST_BYTES else None

    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, _CONNECT_TIMEOUT_MS)
        handle.setopt(pycurl.TIMEOUT_MS, _TIMEOUT_MS)
        handle.setopt(pycurl.USERAGENT, "tidings")
        handle.setopt(pycurl.WRITEFUNCTION, take)
        handle.perform()
        return Answer(handle.getinfo(pycurl.RESPONSE_CODE), bytes(received))
    except pycurl.error as error:
        raise OutboundError(f"no answer from {url}: {error.args[-1]}") from None
    finally:
        handle.close()
