"""Whoever sends a body slowly, or only half of it, does nobody any harm."""

import asyncio
import select
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from werkzeug.exceptions import ClientDisconnected

from api.core.errors import ProblemError
from api.streaming.bodies import Bodies, Bounds
from shared.auth.keys import Scope, create_key
from tests.support.api_server import Served, served
from tests.support.databases import DatabaseServer
from tests.support.servers import PATIENCE_SECONDS
from tests.support.system import ADMIN_KEY
from tests.support.transitional import House, in_database

IMPORT = "/v1/suppressions/import"
LARGE = 2 << 20
THREADS = 32


@pytest.fixture(scope="module")
def kept(postgres: DatabaseServer, template: str) -> Iterator[House]:
    with in_database(postgres, template) as house:
        yield house


@pytest.fixture(scope="module")
def api(kept: House) -> Iterator[Served]:
    with served(kept.engine.url.render_as_string(hide_password=False)) as made:
        yield made


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def _emptied(kept: House) -> Iterator[None]:
    yield
    kept.execute("DELETE FROM job_files; DELETE FROM jobs")


def begin(
    api: Served,
    clients: ExitStack,
    body: bytes,
    *,
    length: int,
    path: str = IMPORT,
    key: str = ADMIN_KEY,
    expect: str | None = None,
) -> socket.socket:
    """A request whose body begins like this and is to be this long."""
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "text/csv" if path == IMPORT else "application/json",
        "Content-Length": str(length),
        **({"Expect": expect} if expect else {}),
    }
    return clients.enter_context(api.begin(path, headers, body))


def lines(size: int) -> bytes:
    rows = b"".join(b"user%07d@example.com\n" % number for number in range(size // 24))
    return b"address\n" + rows + b" " * (size - len(rows) - 8)


@pytest.mark.parametrize("size", [100_000, LARGE])
def test_half_an_upload_is_no_list(api: Served, clients: ExitStack, size: int) -> None:
    body = lines(size)
    client = begin(api, clients, body[: size // 2 + 7], length=size)
    client.shutdown(socket.SHUT_WR)
    while client.recv(1000):
        pass
    assert api.get("/v1/jobs")["items"] == []


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k-1"}])
def test_a_whole_upload_is_one_however_large(api: Served, headers: dict[str, str]) -> None:
    for size in (1000, LARGE):
        sent = {"Content-Type": "text/csv", **({name: f"{value}-{size}" for name, value in headers.items()})}
        response, body = api.call("POST", IMPORT, lines(size), sent)
        assert response.status == 202, body


@pytest.mark.parametrize("size", [1000, LARGE])
def test_an_upload_need_not_say_how_long_it_is(kept: House, api: Served, clients: ExitStack, size: int) -> None:
    client = clients.enter_context(socket.create_connection(("127.0.0.1", api.port), timeout=PATIENCE_SECONDS))
    head = f"POST {IMPORT} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {ADMIN_KEY}\r\nContent-Type: text/csv\r\n"
    client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    body = lines(size)
    for at in range(0, size, 65_536):
        chunk = body[at : at + 65_536]
        client.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    client.sendall(b"0\r\n\r\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 202")
    ((kept_bytes,),) = kept.execute("SELECT sum(length(content)) FROM job_files")
    assert kept_bytes == size


@pytest.mark.parametrize("size", [1000, LARGE])
def test_who_asks_before_sending_is_told_to_go_on(api: Served, clients: ExitStack, size: int) -> None:
    client = begin(api, clients, b"", length=size, expect="100-continue")
    assert client.recv(1000).startswith(b"HTTP/1.1 100")
    client.sendall(lines(size))
    assert client.recv(1000).startswith(b"HTTP/1.1 202")
    refused = begin(api, clients, b"", length=LARGE, key="nobody's", expect="100-continue")
    assert refused.recv(1000).startswith(b"HTTP/1.1 401")


def test_slow_bodies_hold_no_thread_and_no_connection(kept: House, api: Served, clients: ExitStack) -> None:
    with kept.engine.begin() as connection:
        secret = create_key(connection, "reader", Scope.READ, "tenant-a").secret
    for _ in range(THREADS + 1):
        begin(api, clients, b"{", length=1000, path="/v1/suppressions/check", key=secret)
    for _ in range(9):
        begin(api, clients, b"address\n", length=1000)
    assert api.call("GET", "/healthz")[0].status == 200
    assert api.call("GET", "/v1/messages")[0].status == 200


def test_of_large_bodies_only_a_few_are_read_at_once(api: Served, clients: ExitStack) -> None:
    slow = [begin(api, clients, b"address\n", length=LARGE) for _ in range(Bounds().most_large + 1)]
    answered, _, _ = select.select(slow, [], [], PATIENCE_SECONDS)
    (answer,) = [client.recv(1000) for client in answered]
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: " in answer
    assert api.call("POST", IMPORT, lines(1000), {"Content-Type": "text/csv"})[0].status == 202
    assert api.call("GET", "/v1/messages")[0].status == 200
    for client in slow:
        client.close()
    while not is_taken(api, clients, lines(LARGE)):
        pass  # until it was noticed that they have gone


def is_taken(api: Served, clients: ExitStack, body: bytes) -> bool:
    """Whether this is taken; who is refused while it still sends may find the connection closed."""
    with suppress(ConnectionError):
        return bool(begin(api, clients, body, length=len(body)).recv(1000).startswith(b"HTTP/1.1 202"))
    return False


def test_what_nobody_would_take_is_refused_unread(api: Served, clients: ExitStack) -> None:
    client = begin(api, clients, b"address\n", length=1 << 30)
    assert client.recv(1000).startswith(b"HTTP/1.1 413")
    unknown = begin(api, clients, b"address\n", length=LARGE, key="nobody's")
    assert unknown.recv(1000).startswith(b"HTTP/1.1 401")


def test_while_all_threads_are_busy_the_process_says_that_it_is_alive(
    kept: House, api: Served, clients: ExitStack
) -> None:
    with kept.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        for _ in range(THREADS + 1):
            begin(api, clients, b"", length=0, key="somebody's")
        assert api.call("GET", "/healthz")[0].status == 200


def read(
    bounds: Bounds, *messages: dict[str, Any], length: int | None = None, of: Bodies | None = None
) -> tuple[bytes, int]:
    """What an application reads of a body that comes like this and then no more; and how much of it was held."""

    async def serve() -> tuple[bytes, int]:
        coming = iter(messages)

        async def receive() -> dict[str, Any]:
            message = next(coming, None)
            if message is None:
                await asyncio.Event().wait()
            return message or {}

        headers = [(b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)]
        bodies = of or Bodies(bounds)
        body = await bodies.begin({"headers": headers}, receive)
        try:
            return await asyncio.to_thread(lambda: body.stream.read() or b""), body.held
        finally:
            bodies.end(body)

    return asyncio.run(serve())


def piece(content: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


GONE = {"type": "http.disconnect"}


class TestABody:
    quick = Bounds(small_bytes=10, grace_seconds=0.01)

    def test_is_what_was_sent(self) -> None:
        assert read(Bounds(), piece(b"ab"), piece(b""), piece(b"cd", more=False)) == (b"abcd", 4)
        assert read(Bounds(), piece(b"abcd", more=False), length=4) == (b"abcd", 4)

    def test_whose_length_is_not_told_is_held_as_far_as_it_is_small(self) -> None:
        content, held = read(Bounds(small_bytes=10), *[piece(b"abcd")] * 20, piece(b"", more=False))
        assert len(content) == 80
        assert held == 12

    @pytest.mark.parametrize("length", [None, 5, 50])
    def test_that_stops_coming_has_taken_too_long(self, length: int | None) -> None:
        with pytest.raises(ProblemError) as caught:
            read(self.quick, piece(b"abcd"), length=length)
        assert caught.value.status == 408

    def test_that_trickles_has_taken_too_long(self) -> None:
        bounds = Bounds(grace_seconds=0.01, bytes_per_second=10_000)

        async def trickle() -> dict[str, Any]:
            await asyncio.sleep(0.005)
            return piece(b"a")

        with pytest.raises(ProblemError) as caught:
            asyncio.run(_read_all(Bodies(bounds), trickle))
        assert caught.value.status == 408

    @pytest.mark.parametrize("length", [None, 5, 50])
    def test_whose_sender_has_gone_is_none(self, length: int | None) -> None:
        with pytest.raises(ClientDisconnected):
            read(Bounds(small_bytes=10), piece(b"abcd"), GONE, length=length)

    @pytest.mark.parametrize("length", [5, 50])
    def test_that_is_shorter_than_was_said_is_none(self, length: int) -> None:
        with pytest.raises(ClientDisconnected):
            read(Bounds(small_bytes=10), piece(b"abcd", more=False), length=length)

    def test_is_not_held_where_too_many_are(self) -> None:
        bodies = Bodies(Bounds(most_held_bytes=5))
        with pytest.raises(ProblemError) as caught:
            read(Bounds(), piece(b"abcd"), piece(b"ef", more=False), of=bodies)
        assert caught.value.status == 503
        assert read(Bounds(), piece(b"abcd", more=False), of=bodies) == (b"abcd", 4)


async def _read_all(bodies: Bodies, receive: Callable[[], Awaitable[dict[str, Any]]]) -> bytes:
    body = await bodies.begin({"headers": [(b"transfer-encoding", b"chunked")]}, receive)
    return body.stream.read() or b""
