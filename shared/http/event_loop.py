"""Serves a WSGI application on the event loop of an ASGI server, without a thread per request."""

import asyncio
from collections.abc import Callable
from wsgiref.types import WSGIApplication

from shared.http import shutdown, wsgi
from shared.http.greenlets import GreenletPool
from shared.http.request_body import BodyLimits, RequestBodyBudget
from shared.http.wsgi import Receive, Scope, Send


class EventLoopBridge:
    """An ASGI application that calls a WSGI one in greenlets (`shared.http.greenlets`).

    The application may wait only with `greenlets.Completion` and `greenlets.run_in_thread`: all other blocking calls
    would block the event loop. `on_shutdown` is called when the process stops.
    """

    def __init__(
        self, app: WSGIApplication, limits: BodyLimits, *, on_shutdown: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        self._bodies = RequestBodyBudget(limits)
        self._greenlets = GreenletPool()
        self._on_shutdown = on_shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        body = await self._bodies.open(scope, receive)
        try:
            environ = wsgi.environ(scope)
            environ["wsgi.input"] = body.input
            response = await self._greenlets.run(wsgi.call, self._app, environ)
        finally:
            body.close()
        await wsgi.send_complete(response, send)
        await body.drain()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Handle the ASGI lifespan events."""
        await receive()
        shutdown.on_signal(self._bodies.shut_down)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self._on_shutdown)
        await send({"type": "lifespan.shutdown.complete"})
