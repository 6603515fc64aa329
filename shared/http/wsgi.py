"""Translation between ASGI servers and WSGI applications: the environ of a request, and the response."""

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from flask import Request

# The types of ASGI 3 (https://asgi.readthedocs.io/en/latest/specs/www.html).
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_Headers = list[tuple[str, str]]
_Write = Callable[[bytes], object]  # named, because the annotations of an inner function are evaluated at each call

LONGEST_CACHED = 256
"""The maximum length of a name that is cached. A client chooses names, and must not fill the memory with them."""
_MAX_CACHED_NAMES = 1024
_MAX_ADDRESS_LENGTH = 45  # of an IPv6 address with an embedded IPv4 one


@dataclass(slots=True, kw_only=True)
class WsgiResponse:
    """A response. `rest` yields the body if its length is unknown; otherwise `body` is complete.

    `drain` drops what the application has not read of the request. It is called when the response has been sent.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    rest: Iterator[bytes] | None = None
    close: Callable[[], None] | None = None
    drain: Callable[[], Awaitable[None]] | None = None


def environ(scope: Scope) -> WSGIEnvironment:
    """Return the environ of a request (PEP 3333), without `wsgi.input`."""
    host, port = scope.get("server") or ("localhost", 80)
    result: WSGIEnvironment = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": (scope.get("client") or ("",))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,  # the stream ends with the body, even where no length was announced
    }
    for name, value in scope["headers"]:
        key = _environ_key(name) if len(name) <= LONGEST_CACHED else _environ_key.__wrapped__(name)
        if key is not None:
            text = value.decode("latin-1")
            result[key] = f"{result[key]}, {text}" if key in result else text
    return result


def lower_case_headers(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the headers of a request by lower-case name."""
    names = {key: (_header_name if len(key) <= LONGEST_CACHED else _header_name.__wrapped__)(key) for key in environ}
    return {name: environ[key] for key, name in names.items() if name is not None}


def client_ip(request: Request, proxies: int) -> str:
    """Return the address of the client, behind `proxies` trusted proxies that each append to X-Forwarded-For."""
    if proxies:
        chain = request.headers.get("X-Forwarded-For", "").split(",")
        if len(chain) >= proxies:
            return chain[-proxies].strip()[:_MAX_ADDRESS_LENGTH]
    return request.remote_addr or ""


def call(app: WSGIApplication, environ: WSGIEnvironment) -> WsgiResponse:
    """Call the application. Read the body if its length is known; otherwise return it as an iterator in `rest`."""
    response = WsgiResponse(status=500, headers=[])

    def start_response(status: str, headers: _Headers, _error: Any = None) -> _Write:
        response.status = int(status[:3])
        response.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return _refuse_write

    chunks: Iterable[bytes] = app(environ, start_response)
    close: Callable[[], None] | None = getattr(chunks, "close", None)
    if not any(name == b"content-length" for name, _ in response.headers):
        response.rest, response.close = iter(chunks), close
        return response
    try:
        response.body = b"".join(chunks)
    finally:
        if close is not None:
            close()
    return response


async def send_complete(response: WsgiResponse, send: Send) -> None:
    """Send a response whose body is complete."""
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": response.body})


@lru_cache(_MAX_CACHED_NAMES)
def _environ_key(name: bytes) -> str | None:
    """Return a header's key in the environ; None for a name with an underscore: `X_A` would look like `X-A`."""
    key = name.decode("latin-1").upper()
    if "_" in key:
        return None
    key = key.replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


@lru_cache(_MAX_CACHED_NAMES)
def _header_name(key: str) -> str | None:
    if key in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
        return key.replace("_", "-").lower()
    return key[5:].replace("_", "-").lower() if key.startswith("HTTP_") else None


def _refuse_write(_data: bytes) -> None:
    """Reject PEP 3333's `write`, a function for old applications that Flask never calls."""
    raise RuntimeError("This gateway supports only applications that return an iterable, not write().")
