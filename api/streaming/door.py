"""The private door as an ASGI application: Flask answers, and what lasts longer than an answer happens here."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.types import WSGIApplication

from werkzeug.exceptions import ClientDisconnected

from api.streaming import sockets
from api.streaming.audience import Audience, Patience
from api.streaming.bodies import Bounds
from api.streaming.bridge import Bridge
from api.streaming.handover import Follow, Handover, Wait
from api.streaming.listener import Listener
from api.streaming.reader import LogReader
from api.streaming.tail import Pace, Tail
from shared.asgi import endings
from shared.asgi.gateway import Answer
from shared.asgi.protocol import Receive, Scope, Send
from shared.changes.log import Cursor

READING_THREADS = 3
"""Of those who read the log further back. Each needs a connection, and the tail one more."""

_FLASK_THREADS = 32


class Door:
    """Everything that the API's process serves. `at_the_end` is called when it stops."""

    def __init__(
        self,
        app: WSGIApplication,
        reader: LogReader,
        *,
        pace: Pace | None = None,
        patience: Patience | None = None,
        bounds: Bounds | None = None,
        at_the_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._reader = reader
        self._at_the_end = at_the_end
        self._bridge = Bridge(app, _FLASK_THREADS, bounds)
        self._threads = ThreadPoolExecutor(READING_THREADS, "log")
        self._tail = Tail(reader, pace)
        self._audience = Audience(self._tail, self._threads, patience)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Be there from the beginning to the end of the process."""
        await receive()
        self.begin()
        endings.heed(self._audience.stop)  # the server waits for those who stay before it says a word
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    def begin(self) -> None:
        """Look after those who will listen."""
        self._audience.begin()

    async def close(self) -> None:
        """Stop whatever goes on."""
        self._audience.stop()
        await self._audience.close()
        await self._tail.close()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._bridge.close)
        self._at_the_end()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        handover = Handover(is_full=self._audience.is_full)
        try:
            answer = await self._bridge.ask(scope, receive, handover)
        except ClientDisconnected:  # there is nobody to be answered
            return
        if isinstance(handover.left, Follow):
            await _unless_gone(self._follow(handover.left, answer, scope, send), receive)
        elif isinstance(handover.left, Wait) and not self._audience.is_full:
            await _unless_gone(self._wait(handover.left, answer, scope, send), receive)
        else:
            await self._bridge.answer(answer, send)

    async def _follow(self, follow: Follow, answer: Answer, scope: Scope, send: Send) -> None:
        """Send what comes, until the listener is cut off."""
        sockets.limit_silence(int(scope["server"][1]))
        headers = [(name, value) for name, value in answer.headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        patience = self._audience.patience
        listener = Listener(follow, send, self._tail, self._reader, self._threads, patience.heartbeat_seconds)
        with self._audience.staying(listener):
            await listener.run(answer.body)

    async def _wait(self, wait: Wait, answer: Answer, scope: Scope, send: Send) -> None:
        """Answer anew as soon as there is something, or when the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait.seconds
        left: Wait | Follow | None = wait
        with self._audience.staying(), self._tail.used():
            while isinstance(left, Wait) and loop.time() < deadline and not self._audience.is_stopping:
                handover = Handover(again_after=await self._growth(left, deadline))
                answer = await self._bridge.ask_again(scope, handover)
                left = handover.left
        await self._bridge.answer(answer, send)

    async def _growth(self, wait: Wait, deadline: float) -> Cursor:
        """Wait for something that is wanted; return from where to look for it."""
        after = wait.after
        try:
            async with asyncio.timeout_at(deadline):
                while not self._audience.is_stopping:
                    seen = self._tail.seek(after, wait.wanted)
                    if seen is None and self._tail.is_ready:
                        break
                    is_there, after = seen or (False, after)
                    if is_there:
                        break
                    await self._tail.news()
        except TimeoutError:
            pass
        return after


async def _unless_gone(serving: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Serve until it is done, or the client has gone."""
    tasks = [asyncio.ensure_future(serving), asyncio.ensure_future(_departure(receive))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not tasks[0].cancelled():
        tasks[0].result()


async def _departure(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
