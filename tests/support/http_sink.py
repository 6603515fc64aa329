"""A real HTTP server with configurable behaviour, and a real mail server."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer, StreamRequestHandler, ThreadingTCPServer
from typing import Any, cast

import msgspec

Behaviour = Callable[[BaseHTTPRequestHandler, threading.Event], None]


@dataclass(frozen=True)
class Received:
    """A request that arrived. Header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        return cast("dict[str, Any]", msgspec.json.decode(self.body))


@dataclass
class HttpSink:
    """The requests that arrived, and the behaviours of the next responses; 200 by default."""

    url: str
    received: list[Received] = field(default_factory=list)
    behaviours: list[Behaviour] = field(default_factory=list)
    always: Behaviour | None = None
    closing: threading.Event = field(default_factory=threading.Event)

    def then(self, *behaviours: Behaviour) -> None:
        self.behaviours += behaviours

    def behaviour(self) -> Behaviour:
        return self.behaviours.pop(0) if self.behaviours else self.always or answer(200)


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    def behave(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def hang(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
    """Never answer."""
    closing.wait()


def drip(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
    """Send an informational response byte by byte, without end."""
    handler.wfile.write(b"HTTP/1.1 100 Continue\r\nX-Slow: ")
    while not closing.wait(0.05):
        handler.wfile.write(b"a")


def drip_headers(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
    """Answer 200 at once, with headers that never end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not closing.wait(0.05):
        handler.wfile.write(b"a")


def drip_body(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
    """Answer 200 at once, with a slow body that never ends."""
    handler.send_response(200)
    handler.end_headers()
    while not closing.wait(0.05):
        handler.wfile.write(b"a")


def endless(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
    """Answer 200 at once, with a fast body that never ends."""
    handler.send_response(200)
    handler.end_headers()
    while not closing.is_set():
        handler.wfile.write(b"a" * 65536)


def hang_up(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
    """Close the connection without an answer."""
    handler.connection.close()


@contextmanager
def http_sink(port: int = 0) -> Iterator[HttpSink]:
    """Serve HTTP on this port, or on a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            sink.received.append(Received(self.path, headers, body))
            self.close_connection = True
            with suppress(OSError, ValueError):
                sink.behaviour()(self, sink.closing)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Log nothing."""

        def finish(self) -> None:
            with suppress(OSError, ValueError):
                super().finish()

    class Server(ThreadingHTTPServer):
        request_queue_size = 500  # who comes in a crowd is not turned away

    server = Server(("127.0.0.1", port), Handler)
    sink = HttpSink(f"http://127.0.0.1:{server.server_port}")
    with _serving(server):
        try:
            yield sink
        finally:
            sink.closing.set()


@dataclass
class MailSink:
    """A mail server and the messages that it accepted; it refuses with `refusal` if that is set."""

    port: int
    received: list[EmailMessage] = field(default_factory=list)
    refusal: str | None = None


@contextmanager
def mail_sink() -> Iterator[MailSink]:
    """Serve as much of SMTP (RFC 5321) as a client needs, on a free port."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 sink")
            while line := self.rfile.readline():
                verb = line.split()[0].upper() if line.split() else b""
                if verb == b"DATA":
                    self.take()
                elif verb == b"EHLO":
                    self.say("250-sink")
                    self.say("250 AUTH PLAIN")
                elif verb == b"AUTH":
                    self.say("235 come in")
                elif verb == b"QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 ok")

        def take(self) -> None:
            self.say("354 go on")
            lines = list(iter(self.rfile.readline, b".\r\n"))
            if sink.refusal is not None:
                self.say(sink.refusal)
                return
            sink.received.append(BytesParser(policy=default).parsebytes(b"".join(lines)))
            self.say("250 taken")

        def say(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

    server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    sink = MailSink(server.server_address[1])
    with _serving(server):
        yield sink


@contextmanager
def _serving(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
