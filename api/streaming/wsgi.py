"""Calls Flask in threads for an event loop.

Ready-made bridges cross between thread and loop several times per request, which costs more than most requests do.
Here a response crosses once.
"""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from wsgiref.types import WSGIApplication

from api.streaming.deferred import ENVIRON_KEY, DeferredResponse
from shared.http import wsgi
from shared.http.request_body import BodyLimits, RequestBodyBudget
from shared.http.wsgi import Receive, Scope, Send, WsgiResponse

BODY_LIMITS = BodyLimits(small_bytes=1 << 20, grace_seconds=30.0, bytes_per_second=256 << 10, max_streams=4)
"""A large body occupies a thread while it arrives, so few are read at once."""

_HEALTH_PATH = "/healthz"  # has its own thread, so that a busy process still answers


class WsgiBridge:
    """A WSGI application behind an event loop."""

    def __init__(self, app: WSGIApplication, threads: int, body_limits: BodyLimits | None = None) -> None:
        self._app = app
        self._bodies = RequestBodyBudget(body_limits or BODY_LIMITS)
        self._threads = ThreadPoolExecutor(threads, "flask")
        self._health_thread = ThreadPoolExecutor(1, "health")

    async def call(self, scope: Scope, receive: Receive, deferred: DeferredResponse) -> WsgiResponse:
        """Call the application with a request."""
        body = await self._bodies.open(scope, receive)
        threads = self._health_thread if scope["path"] == _HEALTH_PATH else self._threads
        loop = asyncio.get_running_loop()
        try:
            response = await loop.run_in_executor(threads, self._call, scope, body.input, deferred)
        finally:
            body.close()
        response.drain = body.drain
        return response

    async def call_again(self, scope: Scope, deferred: DeferredResponse) -> WsgiResponse:
        """Call the application again with the same request, without its body."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._call, scope, io.BytesIO(), deferred)

    async def send(self, response: WsgiResponse, send: Send) -> None:
        """Send a response, as fast as the client reads it."""
        if response.rest is None:
            await wsgi.send_complete(response, send)
            if response.drain is not None:
                await response.drain()
            return
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        loop = asyncio.get_running_loop()
        chunks = filter(None, response.rest)
        try:
            while chunk := await loop.run_in_executor(self._threads, next, chunks, b""):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            if response.close is not None:
                await loop.run_in_executor(self._threads, response.close)

    def close(self) -> None:
        """Wait until the threads have finished."""
        self._threads.shutdown()
        self._health_thread.shutdown()

    def _call(self, scope: Scope, body: io.BytesIO | io.BufferedReader, deferred: DeferredResponse) -> WsgiResponse:
        environ = wsgi.environ(scope)
        environ[ENVIRON_KEY] = deferred
        environ["wsgi.input"] = body
        return wsgi.call(self._app, environ)
