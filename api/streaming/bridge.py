"""The bridge to Flask: each request is answered in a thread, and the event loop carries it there and back.

Of the ready-made bridges each crosses from thread to loop several times a request, which costs more than most requests
themselves; here an answer crosses once.
"""

import asyncio
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from api.streaming.bodies import Bodies, Body, Bounds
from api.streaming.handover import IN_ENVIRON, Handover
from api.streaming.protocol import Receive, Scope, Send

_ALIVE = "/healthz"  # has a thread of its own: a process that is busy is alive
_OWN_NAMES = {"CONTENT_TYPE", "CONTENT_LENGTH"}


@dataclass(slots=True, kw_only=True)
class Answer:
    """What Flask answered. `rest` is what it has not made yet of a body whose length is not known."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    rest: Iterator[bytes] | None = None
    close: Callable[[], None] | None = None


class Bridge:
    """A WSGI application, for an event loop."""

    def __init__(self, app: WSGIApplication, threads: int, bounds: Bounds | None = None) -> None:
        self._app = app
        self._bodies = Bodies(bounds)
        self._threads = ThreadPoolExecutor(threads, "flask")
        self._spare = ThreadPoolExecutor(1, "alive")

    async def ask(self, scope: Scope, receive: Receive, handover: Handover) -> Answer:
        """Have a request answered. Raises ClientDisconnected where it does not come to its end."""
        body = await self._bodies.begin(scope, receive)
        threads = self._spare if scope["path"] == _ALIVE else self._threads
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, self._ask, scope, body, handover)
        finally:
            self._bodies.end(body)

    async def ask_again(self, scope: Scope, handover: Handover) -> Answer:
        """Have a request answered anew. Of its body nothing is left."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, scope, Body(), handover)

    async def answer(self, answer: Answer, send: Send) -> None:
        """Send an answer, as fast as it is taken."""
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        if answer.rest is None:
            await send({"type": "http.response.body", "body": answer.body})
            return
        loop = asyncio.get_running_loop()
        try:
            while chunk := await loop.run_in_executor(self._threads, _next, answer.rest):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            if answer.close is not None:
                await loop.run_in_executor(self._threads, answer.close)

    def close(self) -> None:
        """Wait until the threads have done what they are at."""
        self._threads.shutdown()
        self._spare.shutdown()

    def _ask(self, scope: Scope, body: Body, handover: Handover) -> Answer:
        environ = _environ(scope)
        environ[IN_ENVIRON] = handover
        environ["wsgi.input"] = body.stream if isinstance(body.stream, io.BytesIO) else io.BufferedReader(body.stream)
        return _collect(self._app, environ)


def _collect(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    answer = Answer(status=500, headers=[])

    def start(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], object]:
        answer.status = int(status[:3])
        answer.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return _refuse_to_write

    made: Iterable[bytes] = app(environ, start)
    close: Callable[[], None] | None = getattr(made, "close", None)
    if not any(name == b"content-length" for name, _ in answer.headers):
        answer.rest, answer.close = iter(made), close
        return answer
    try:
        answer.body = b"".join(made)
    finally:
        if close is not None:
            close()
    return answer


def _refuse_to_write(_data: bytes) -> None:
    raise NotImplementedError("nothing here writes by WSGI's old way")


def _next(chunks: Iterator[bytes]) -> bytes:
    """The next chunk that is not empty; an empty one at the end."""
    return next(filter(None, chunks), b"")


def _environ(scope: Scope) -> WSGIEnvironment:
    """The environment of PEP 3333, but for the body."""
    host, port = scope.get("server") or ("localhost", 80)
    environ: WSGIEnvironment = {
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
        "wsgi.input_terminated": True,  # it ends where the body does, also where no length was told
    }
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").upper()
        if "_" in name:  # it would look like another with a dash
            continue
        key = name.replace("-", "_")
        key = key if key in _OWN_NAMES else f"HTTP_{key}"
        value = raw_value.decode("latin-1")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
