"""A receiver in a test's own process: on an event loop in a thread, and asked as if it were a WSGI application."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.datastructures import EnvironHeaders
from werkzeug.test import EnvironBuilder

from receiver.app import Receiver
from receiver.bodies import Bodies
from receiver.database import Database
from receiver.directory import Directory
from receiver.door import Door
from receiver.refusals import RefusalBook
from receiver.writer import Writer
from shared.asgi.protocol import Scope
from shared.encryption import Vault
from shared.settings import Settings

_PATIENCE_SECONDS = 20
_T = TypeVar("_T")


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop")
        self._thread.start()

    def run(self, asked: Coroutine[Any, Any, _T]) -> _T:
        """What comes of it."""
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result(_PATIENCE_SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class AsWsgi:
    """An ASGI application whose requests and answers are whole at once, as a WSGI application."""

    def __init__(self, app: Receiver, loop: Loop) -> None:
        self._app = app
        self._loop = loop

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start, rest = self._loop.run(self._ask(_scope(environ), body))
        headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
        start_response(f"{start['status']} -", headers)
        return [rest["body"]]

    def at_once(self, posts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[int]:
        """What is answered to posts that come together, each a path, and the data and headers that go there."""
        environs = [EnvironBuilder(path, method="POST", **sent).get_environ() for path, sent in posts]

        async def ask() -> list[int]:
            asked = [self._ask(_scope(environ), environ["wsgi.input"].read()) for environ in environs]
            return [start["status"] for start, _ in await asyncio.gather(*asked)]

        return self._loop.run(ask())

    async def _ask(self, scope: Scope, body: bytes) -> list[Mapping[str, Any]]:
        sent: list[Mapping[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent


@dataclass(frozen=True, kw_only=True)
class Received:
    """A receiver's parts."""

    loop: Loop
    app: AsWsgi
    door: Door


@contextmanager
def receiving(
    database_url: str,
    vault: Vault,
    settings: Settings | None = None,
    *,
    on_queued: Callable[[], None] = lambda: None,
    on_parked: Callable[[], None] = lambda: None,
) -> Iterator[Received]:
    """A receiver as in production, but for the server that it runs on, and the bell."""
    database = Database(url=database_url, application="test receiver", statement_timeout_ms=1000)
    loop = Loop()
    with ThreadPoolExecutor(2) as threads:
        door = Door(
            settings=settings or Settings(),
            vault=vault,
            directory=Directory(database, vault),
            writer=Writer(database, on_queued=on_queued),
            quarantine=Writer(database, on_parked=on_parked),
            refusals=RefusalBook(database),
            bodies=Bodies(),
            threads=threads,
        )
        app = Receiver(door)
        with _living(app, loop):
            yield Received(loop=loop, app=AsWsgi(app, loop), door=door)
        for part in (door.writer, door.quarantine, door.refusals, door.directory):
            part.close()
    loop.close()


@contextmanager
def _living(app: Receiver, loop: Loop) -> Iterator[None]:
    """From the beginning of the process to its end, as the server tells the application of them."""
    begun, ending = threading.Event(), asyncio.Event()
    told: Iterator[str] = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive() -> Mapping[str, Any]:
        message = next(told)
        if message == "lifespan.shutdown":
            begun.set()
            await ending.wait()
        return {"type": message}

    async def send(_message: Mapping[str, Any]) -> None:
        pass

    async def end() -> None:
        ending.set()
        await life

    async def begin() -> "asyncio.Task[None]":
        return asyncio.create_task(app({"type": "lifespan"}, receive, send))

    life = loop.run(begin())
    begun.wait(_PATIENCE_SECONDS)
    yield
    loop.run(end())


def _scope(environ: WSGIEnvironment) -> Scope:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in EnvironHeaders(environ)]
    path = environ["PATH_INFO"].encode("latin-1").decode()
    return {
        "type": "http",
        "method": environ["REQUEST_METHOD"],
        "http_version": "1.1",
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": environ["QUERY_STRING"].encode(),
        "headers": headers,
        "client": (environ.get("REMOTE_ADDR", "127.0.0.1"), 0),
        "server": ("127.0.0.1", 80),
    }
