"""A small HTTP server on loopback, whose answers can also go wrong on their way."""

import socket
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time at all: what makes close() send RST."""
_DRIP_SECONDS = 1.0


class Ending(StrEnum):
    """How a response ends."""

    WHOLE = "whole"
    TRUNCATED = "truncated"
    """Half of the content, in what is a whole answer to HTTP."""
    CUT = "cut"
    """The connection is closed in the middle of the content."""
    LOST = "lost"
    """The connection is reset before anything was sent."""
    DRIPPED = "dripped"
    """The content comes a byte a second."""
    ENDLESS = "endless"
    """The content comes again and again, for as long as the caller reads on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request. `path` is still percent-encoded; names of headers are in lower case.

    `target` is the path with its query as it came, which a signature may cover.
    """

    method: str
    path: str
    target: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response, its delay and its faults."""

    status: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    ending: Ending = Ending.WHOLE


class Server(ABC):
    """Serves on loopback from entering the context to leaving it. Port 0 picks a free one."""

    def __init__(self, *, port: int = 0) -> None:
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self.closing = Event()
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @abstractmethod
    def answer(self, call: Call) -> Response:
        """Return the response to a request; called from many threads."""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a caller who did not wait for the answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True  # headers and content are two writes: the second would wait for an ACK

    def _serve(self) -> None:
        address = urlsplit(self.path)
        call = Call(
            method=self.command,
            path=address.path,
            target=self.path,
            query=dict(parse_qsl(address.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )
        response = self.server.owner.answer(call)
        is_over = bool(response.delay_seconds) and self.server.owner.closing.wait(response.delay_seconds)
        self._send(replace(response, ending=Ending.LOST) if is_over else response)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - the base class's names

    def _send(self, response: Response) -> None:
        if response.ending is Ending.LOST:
            self._reset()
            return
        content = response.content
        half = content[: len(content) // 2]
        if response.ending is Ending.TRUNCATED:
            content = half
        self._send_head(response, None if response.ending is Ending.ENDLESS else len(content))
        if response.ending is Ending.ENDLESS:
            self._repeat(content)
        elif response.ending is Ending.DRIPPED:
            self._drip(content)
        elif response.ending is Ending.CUT:
            self.close_connection = True
            self.wfile.write(half)
        else:
            self.wfile.write(content)

    def _send_head(self, response: Response, length: int | None) -> None:
        """Send the status and the headers. `length` None: the content ends with the connection."""
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
        elif response.status != HTTPStatus.NO_CONTENT:  # RFC 9110 8.6 forbids a length there
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _repeat(self, content: bytes) -> None:
        while not self.server.owner.closing.is_set():
            self.wfile.write(content)

    def _drip(self, content: bytes) -> None:
        for byte in content:
            self.wfile.write(bytes((byte,)))
            if self.server.owner.closing.wait(_DRIP_SECONDS):
                self.close_connection = True
                return

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing: each server keeps its own counters."""
