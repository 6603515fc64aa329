"""The HTTP side of the providers: where Tidings fetches public keys.

Each dialect lives below a path of its own, `/<slug>/…`, so that one server can play many accounts and tests
can tell who was asked; a path without a slug is answered by the first dialect that knows it, as on the real
host.
"""

from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from simulator.dialects.base import Dialect


class ProviderServer:
    """Serves on loopback from entering the context to leaving it. Port 0 picks a free one."""

    def __init__(self, dialects: Mapping[str, Dialect], *, port: int = 0) -> None:
        self.dialects = dict(dialects)
        self._counts: Counter[str] = Counter()
        self._lock = Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def requests(self) -> Mapping[str, int]:
        """How often each path was asked for, without the query."""
        with self._lock:
            return dict(self._counts)

    def keys_url(self, slug: str) -> str | None:
        """Where the dialect's public keys are served; None for one without."""
        path = self.dialects[slug].KEYS_PATH
        return f"{self.url}/{slug}{path}" if path else None

    def settings(self, slug: str) -> dict[str, str]:
        """The `settings` of a source whose provider is played here."""
        keys_url = self.keys_url(slug)
        return {"keys_url": keys_url} if keys_url else {}

    def answer(self, target: str) -> bytes | None:
        """The document at this path and query; None for 404."""
        address = urlsplit(target)
        with self._lock:
            self._counts[address.path] += 1
        query = dict(parse_qsl(address.query))
        for slug, dialect in self.dialects.items():
            if dialect.KEYS_PATH and address.path in (dialect.KEYS_PATH, f"/{slug}{dialect.KEYS_PATH}"):
                return dialect.key_document(query)
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: ProviderServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        document = self.server.owner.answer(self.path)
        body = document if document is not None else b'{"error":"not found"}'
        self.send_response(200 if document is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: `requests` counts."""
