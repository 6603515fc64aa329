"""The bridge to Flask: each request is answered in a thread, and the event loop carries it there and back.

Of the ready-made bridges each crosses from thread to loop several times a request, which costs more than most requests
themselves; here an answer crosses once.
"""

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from wsgiref.types import WSGIApplication

from api.streaming.bodies import Bodies, Body, Bounds
from api.streaming.handover import IN_ENVIRON, Handover
from shared.asgi import gateway
from shared.asgi.gateway import Answer
from shared.asgi.protocol import Receive, Scope, Send

_ALIVE = "/healthz"  # has a thread of its own: a process that is busy is alive


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
        if answer.rest is None:
            await gateway.send_whole(answer, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
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
        environ = gateway.environ(scope)
        environ[IN_ENVIRON] = handover
        environ["wsgi.input"] = body.stream if isinstance(body.stream, io.BytesIO) else io.BufferedReader(body.stream)
        return gateway.collect(self._app, environ)


def _next(chunks: Iterator[bytes]) -> bytes:
    """The next chunk that is not empty; an empty one at the end."""
    return next(filter(None, chunks), b"")
