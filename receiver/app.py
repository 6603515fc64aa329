"""The public door, as an ASGI application: posts at a source are answered on the event loop, all else by Flask."""

import asyncio
import io
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from receiver import pages
from receiver.door import Door
from receiver.refused import answer, failed
from shared.asgi import gateway
from shared.asgi.gateway import Answer
from shared.asgi.protocol import Receive, Scope, Send

_WEBHOOKS = "/webhooks/"
_FLASK_THREADS = 8

_T = TypeVar("_T")


class Receiver:
    """Everything that a receiver's process serves. `at_the_end` is called when it stops.

    What is done thousands of times a second is done without Flask, and without a thread: threads that wait for one
    another's turn cost a request more than everything else that is done for it.
    """

    def __init__(self, door: Door, *, at_the_end: Callable[[], None] = lambda: None) -> None:
        self._door = door
        self._at_the_end = at_the_end
        self._pages = pages.create_app(door, self._on_loop)
        self._threads = ThreadPoolExecutor(_FLASK_THREADS, "flask")
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["method"] == "POST" and scope["path"].startswith(_WEBHOOKS):
            await gateway.send_whole(await self._received(scope, receive), send)
        else:
            await gateway.send_whole(await self._told(scope), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Be there from the beginning to the end of the process."""
        await receive()
        self._loop = asyncio.get_running_loop()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self._close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _received(self, scope: Scope, receive: Receive) -> Answer:
        path: str = scope["path"]
        try:
            return await self._door.receive(path[len(_WEBHOOKS) :], scope, receive)
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the provider tries again
            return answer(failed(error, path))

    async def _told(self, scope: Scope) -> Answer:
        environ = gateway.environ(scope)
        environ["wsgi.input"] = io.BytesIO()  # nothing here is told by a body
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, gateway.collect, self._pages, environ)

    def _on_loop(self, asked: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            raise RuntimeError("the receiver has not begun: its server must speak ASGI's lifespan protocol")
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    def _close(self) -> None:
        self._threads.shutdown()
        self._at_the_end()
