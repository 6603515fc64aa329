"""A receiver in the test's own process, on an event loop in a thread as in production."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.datastructures import EnvironHeaders
from werkzeug.test import EnvironBuilder

from receiver.app import ReceiverDeps, create_app
from receiver.group_commit import GroupCommitWriter
from receiver.refusal_log import RefusalLog
from receiver.source_cache import SourceCache
from shared.encryption import Vault
from shared.http.event_loop import EventLoopBridge
from shared.http.greenlets import GreenletPool
from shared.http.request_body import BodyLimits
from shared.http.wsgi import Scope
from shared.postgres import engine
from shared.settings import Settings

_TIMEOUT_SECONDS = 60
_LIMITS = BodyLimits(small_bytes=64 * 1024, grace_seconds=10, bytes_per_second=64 * 1024, holds_streams=True)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Loop:
    """An event loop in a thread, and greenlets on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._greenlets = GreenletPool()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_TIMEOUT_SECONDS)

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return the result of a function that waits as a request does."""
        return self.run(self._greenlets.run(partial(function, *args, **kwargs)))

    def call_each(self, calls: Iterable[Callable[[], _T]]) -> list[_T | BaseException]:
        """Return the results, or the errors, of functions that run at the same time."""

        async def gather() -> list[_T | BaseException]:
            return await asyncio.gather(*map(self._greenlets.run, calls), return_exceptions=True)

        return self.run(gather())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class AsWsgi:
    """The receiver's ASGI application, called as a WSGI one."""

    def __init__(self, app: EventLoopBridge, loop: Loop) -> None:
        self._app = app
        self._loop = loop

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start, rest = self._loop.run(self._request(_scope(environ), body))
        headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
        start_response(f"{start['status']} -", headers)
        return [rest["body"]]

    def at_once(self, posts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[int]:
        """Return the status codes of posts that come together; each is a path, and the data and headers."""
        environs = [EnvironBuilder(path, method="POST", **sent).get_environ() for path, sent in posts]

        async def gather() -> list[int]:
            requests = [self._request(_scope(environ), environ["wsgi.input"].read()) for environ in environs]
            return [start["status"] for start, _ in await asyncio.gather(*requests)]

        return self._loop.run(gather())

    async def _request(self, scope: Scope, body: bytes) -> list[Mapping[str, Any]]:
        sent: list[Mapping[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent


@dataclass(frozen=True, kw_only=True)
class Received:
    """A receiver's parts. `app` serves it on the event loop, `wsgi` in the thread of the caller."""

    loop: Loop
    app: AsWsgi
    wsgi: WSGIApplication
    deps: ReceiverDeps


@contextmanager
def receiving(
    database_url: str,
    vault: Vault,
    settings: Settings | None = None,
    *,
    on_queued: Callable[[int], None] = lambda _receipts: None,
    on_quarantined: Callable[[], None] = lambda: None,
    max_age_seconds: float = 2.0,
) -> Iterator[Received]:
    """A receiver as in production, except for the server that it runs on, and for wake-ups."""
    make = partial(
        engine.create_engine, database_url, application="test receiver", pool_size=2, statement_timeout_ms=1000
    )
    deps = ReceiverDeps(
        settings=settings or Settings(),
        vault=vault,
        sources=SourceCache(make(), vault, max_age_seconds=max_age_seconds),
        writer=GroupCommitWriter(make(), on_queued=on_queued),
        quarantine_writer=GroupCommitWriter(make(), on_quarantined=on_quarantined),
        refusals=RefusalLog(make()),
    )
    loop = Loop()
    app = create_app(deps)
    yield Received(loop=loop, app=AsWsgi(EventLoopBridge(app, _LIMITS), loop), wsgi=app, deps=deps)
    for part in (deps.writer, deps.quarantine_writer, deps.refusals, deps.sources):
        part.close()
    loop.close()


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
