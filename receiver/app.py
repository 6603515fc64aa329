"""The public door, as an ASGI application: what providers send is answered on the event loop, all else by Flask."""

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from receiver import pages
from receiver.door import Door
from receiver.refused import Refused, answer, failed
from shared.asgi import endings, gateway
from shared.asgi.gateway import Answer
from shared.asgi.protocol import Receive, Scope, Send
from shared.vocabulary import RefusalReason

_WEBHOOKS = "/webhooks/"
_FLASK_THREADS = 8


class Receiver:
    """Everything that a receiver's process serves. `at_the_end` is called when it stops.

    What is done thousands of times a second is done without Flask, and without a thread: threads that wait for one
    another's turn cost a request more than everything else that is done for it.
    """

    def __init__(self, door: Door, *, at_the_end: Callable[[], None] = lambda: None) -> None:
        self._door = door
        self._at_the_end = at_the_end
        self._pages = pages.create_app(self._check)
        self._threads = ThreadPoolExecutor(_FLASK_THREADS, "flask")
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await gateway.send_whole(await self._answer(scope, receive), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Be there from the beginning to the end of the process."""
        await receive()
        self._loop = asyncio.get_running_loop()
        endings.heed(self._door.bodies.end)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self._close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path: str = scope["path"]
        try:
            if path.startswith(_WEBHOOKS):
                return await self._answer_provider(path[len(_WEBHOOKS) :], scope, receive)
            if path == "/healthz":
                return gateway.whole(200, b"alive\n", "text/plain")
            return await self._told(scope)
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the provider tries again
            return answer(failed(error, path))

    async def _answer_provider(self, slug: str, scope: Scope, receive: Receive) -> Answer:
        match scope["method"]:
            case "POST":
                return await self._door.receive(slug, scope, receive)
            case "GET" | "HEAD":
                return await self._door.probe(slug)
            case _:
                told = answer(Refused(405, RefusalReason.UNREADABLE, "events are posted here"))
                told.headers.append((b"allow", b"GET, HEAD, POST"))
                return told

    async def _told(self, scope: Scope) -> Answer:
        environ = gateway.environ(scope)
        environ["wsgi.input"] = io.BytesIO()  # nothing here is told by a body
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, gateway.collect, self._pages, environ)

    def _check(self) -> None:
        """Ask the writer, which is on the loop, from one of Flask's threads."""
        if self._loop is None:
            raise RuntimeError("the receiver has not begun: its server must speak ASGI's lifespan protocol")
        asyncio.run_coroutine_threadsafe(self._door.writer.check(), self._loop).result()

    def _close(self) -> None:
        self._threads.shutdown()
        self._at_the_end()
