"""The API as it is served: by the process that the Procfile names, over sockets; and in this process, by hand."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.support.servers import PATIENCE_SECONDS, Server, serving
from tests.support.system import ADMIN_KEY


@dataclass
class Event:
    """One server-sent event."""

    id: str = ""
    event: str = ""
    data: Any = None


class StreamReader:
    """A client of the event stream."""

    def __init__(self, port: int, key: str, headers: Mapping[str, str], query: Mapping[str, Any]) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        path = "/v1/changes/stream" + (f"?{urlencode(query)}" if query else "")
        self.connection.request("GET", path, headers={"Authorization": f"Bearer {key}", **headers})
        self.response = self.connection.getresponse()
        self.place = ""
        self.comments: list[str] = []

    def wait_until_open(self) -> "StreamReader":
        """Wait until the stream has begun."""
        assert self.response.status == 200, self.response.read()
        while not self.place:
            self._block()
        return self

    def read_events(self, number: int) -> list[Event]:
        """Read the next events."""
        return [self._next() for _ in range(number)]

    def read_to_end(self) -> list[Event]:
        """Read events until the stream ends."""
        found: list[Event] = []
        while True:
            try:
                found.append(self._next())
            except EOFError:
                return found

    def _next(self) -> Event:
        while True:
            event = self._block()
            if event.data is not None:
                return event

    def _block(self) -> Event:
        """Parse the lines up to the next empty one, as a browser does."""
        event = Event()
        while True:
            line = self.response.readline().decode()
            if not line:
                raise EOFError
            if line == "\n":
                return event
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "id":
                event.id = self.place = value
            elif name == "event":
                event.event = value
            elif name == "data":
                event.data = json.loads(value)
            elif line.startswith(":"):
                self.comments.append(line[1:].strip())

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@dataclass
class Served(Server):
    """A process that serves the API."""

    readers: list[StreamReader] = field(default_factory=list)

    def open_stream(self, *, key: str = ADMIN_KEY, last: str | None = None, **query: Any) -> StreamReader:
        """Open a stream, whatever the response."""
        reader = StreamReader(self.port, key, {"Last-Event-ID": last} if last else {}, query)
        self.readers.append(reader)
        return reader

    def get(self, path: str, **query: Any) -> Any:
        """Send a GET, which must be answered with 200; its document."""
        response, body = self.call("GET", f"{path}?{urlencode(query)}" if query else path)
        assert response.status == 200, body
        return json.loads(body)


@contextmanager
def served(database_url: str, *, port: int | None = None, **settings: str) -> Iterator[Served]:
    """Serve the API on this database, as the Procfile says; on a free port unless one is given."""
    settings = {"TIDINGS_ADMIN_KEY": ADMIN_KEY, "TIDINGS_API_RATE": "0", **settings}
    with serving("api", database_url, settings, port=port) as server:
        served = Served(server.port, server.process, {"Authorization": f"Bearer {ADMIN_KEY}"})
        try:
            yield served
        finally:
            for reader in served.readers:
                reader.close()


@dataclass
class Call:
    """A request to an ASGI application in this process. It reads the response only while `takes` is set."""

    scope: dict[str, Any]
    sent: list[dict[str, Any]] = field(default_factory=list)
    takes: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    asked: bool = False
    task: asyncio.Task[None] | None = None

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        await self.takes.wait()
        async with self.grown:
            self.sent.append(dict(message))
            self.grown.notify_all()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    async def until(self, words: bytes) -> None:
        """Wait until the response contains these bytes."""
        async with asyncio.timeout(PATIENCE_SECONDS), self.grown:
            await self.grown.wait_for(lambda: words in self.body)

    async def end(self) -> None:
        """Wait until the response is complete."""
        assert self.task is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.task


@asynccontextmanager
async def calling(application: Any, target: str, key: str = ADMIN_KEY, port: int = 1) -> AsyncIterator[Call]:
    """Make a request in the background; the client disconnects at the end."""
    parts = urlsplit(target)
    scope = {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [(b"authorization", f"Bearer {key}".encode())],
        "server": ("127.0.0.1", str(port)),  # as granian has it
        "client": ("127.0.0.1", 2),
    }
    call = Call(scope)
    call.takes.set()
    call.task = asyncio.create_task(application(scope, call.receive, call.send))
    try:
        yield call
    finally:
        call.gone.set()
        call.takes.set()
        await call.end()
