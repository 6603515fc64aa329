"""The API as an ASGI application: Flask answers in threads; long polls and streams continue on the event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.types import WSGIApplication

from api.streaming.connections import ConnectionLimits, ConnectionManager, limit_silence
from api.streaming.deferred import DeferredResponse, Follow, Wait
from api.streaming.live_log import LiveLog, PollingTimes
from api.streaming.log_reader import LogReader
from api.streaming.stream import Stream
from api.streaming.wsgi import WsgiBridge
from shared.changes.log import Cursor
from shared.http import shutdown
from shared.http.request_body import BodyLimits
from shared.http.wsgi import Receive, Scope, Send, WsgiResponse

READING_THREADS = 3
"""Threads that read older parts of the log. Each needs a database connection, and the live log one more."""

_FLASK_THREADS = 32


class ApiApp:
    """The ASGI application of the API's process. `on_shutdown` is called when it stops."""

    def __init__(
        self,
        app: WSGIApplication,
        reader: LogReader,
        *,
        times: PollingTimes | None = None,
        limits: ConnectionLimits | None = None,
        body_limits: BodyLimits | None = None,
        on_shutdown: Callable[[], None] = lambda: None,
    ) -> None:
        self._reader = reader
        self._on_shutdown = on_shutdown
        self._bridge = WsgiBridge(app, _FLASK_THREADS, body_limits)
        self._threads = ThreadPoolExecutor(READING_THREADS, "log")
        self.log = LiveLog(reader, times)
        self.connections = ConnectionManager(self.log, self._threads, limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await receive()
            self.start()
            # The server waits for open connections before it sends its shutdown event.
            shutdown.on_signal(self.connections.stop)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        deferred = DeferredResponse(is_full=self.connections.is_full, exceeded=self.connections.shares.exceeded)
        response = await self._bridge.call(scope, receive, deferred)
        if isinstance(deferred.action, Follow):
            await _until_disconnect(self._follow(deferred.action, response, scope, send), receive)
        elif isinstance(deferred.action, Wait) and not self.connections.is_full:
            await _until_disconnect(self._wait(deferred.action, response, scope, send), receive)
        else:
            await self._bridge.send(response, send)

    def start(self) -> None:
        """Start to watch the connections."""
        self.connections.start()

    async def close(self) -> None:
        """Close all connections, and stop the threads."""
        self.connections.stop()
        await self.connections.close()
        await self.log.close()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._bridge.close)
        self._on_shutdown()

    async def _follow(self, follow: Follow, response: WsgiResponse, scope: Scope, send: Send) -> None:
        """Send changes until the stream is disconnected."""
        limit_silence(int(scope["server"][1]))
        headers = [(name, value) for name, value in response.headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        heartbeat_seconds = self.connections.limits.heartbeat_seconds
        stream = Stream(follow, send, self.log, self._reader, self._threads, heartbeat_seconds)
        with self.connections.track(follow.caller, stream):
            await stream.run(response.body)

    async def _wait(self, wait: Wait, response: WsgiResponse, scope: Scope, send: Send) -> None:
        """Call the view again as soon as there is a change, or when the time is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait.seconds
        action: Wait | Follow | None = wait
        with self.connections.track(wait.caller), self.log.follow():
            while isinstance(action, Wait) and loop.time() < deadline and not self.connections.is_stopping:
                deferred = DeferredResponse(again_after=await self._next_change(action, deadline))
                response = await self._bridge.call_again(scope, deferred)
                action = deferred.action
        await self._bridge.send(response, send)

    async def _next_change(self, wait: Wait, deadline: float) -> Cursor:
        """Wait for a change that matches. Return the cursor from which to read."""
        after = wait.after
        try:
            async with asyncio.timeout_at(deadline):
                while not self.connections.is_stopping:
                    result = self.log.seek(after, wait.wanted)
                    if result is None and self.log.is_ready:
                        break
                    is_found, after = result or (False, after)
                    if is_found:
                        break
                    await self.log.wait_for_changes()
        except TimeoutError:
            pass
        return after


async def _until_disconnect(serving: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Serve until it is done, or until the client disconnects."""

    async def wait_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(serving), asyncio.ensure_future(wait_disconnect())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not tasks[0].cancelled():
        tasks[0].result()
