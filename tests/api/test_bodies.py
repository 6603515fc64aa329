"""A client that sends a body slowly, or only half of it, does not disturb others."""

import asyncio
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest

from api.streaming.wsgi import BODY_LIMITS
from shared.auth.keys import Scope, create_key
from shared.http.request_body import BodyFailure, BodyLimits, RequestBodyBudget, RequestBodyError
from tests.support.api_server import Served, served
from tests.support.databases import DatabasePool
from tests.support.servers import PATIENCE_SECONDS
from tests.support.system import ADMIN_KEY, BEGIN, System, open_system

IMPORT = "/v1/suppressions/import"
LARGE = 2 << 20
THREADS = 32


@pytest.fixture(scope="module")
def kept(databases: DatabasePool) -> Iterator[System]:
    with databases.database() as url, open_system(url, begin=BEGIN) as system:
        yield system


@pytest.fixture(scope="module")
def api(kept: System) -> Iterator[Served]:
    with served(kept.engine.url.render_as_string(hide_password=False)) as made:
        yield made


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def _emptied(kept: System) -> Iterator[None]:
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
def test_an_upload_need_not_say_how_long_it_is(kept: System, api: Served, clients: ExitStack, size: int) -> None:
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
def test_a_client_that_expects_100_continue_receives_it(api: Served, clients: ExitStack, size: int) -> None:
    client = begin(api, clients, b"", length=size, expect="100-continue")
    assert client.recv(1000).startswith(b"HTTP/1.1 100")
    client.sendall(lines(size))
    assert client.recv(1000).startswith(b"HTTP/1.1 202")
    refused = begin(api, clients, b"", length=LARGE, key="nobody's", expect="100-continue")
    assert refused.recv(1000).startswith(b"HTTP/1.1 401")


def test_slow_bodies_hold_no_thread_and_no_connection(kept: System, api: Served, clients: ExitStack) -> None:
    with kept.engine.begin() as connection:
        secret = create_key(connection, "reader", Scope.READ, "tenant-a").secret
    for _ in range(THREADS + 1):
        begin(api, clients, b"{", length=1000, path="/v1/suppressions/check", key=secret)
    for _ in range(9):
        begin(api, clients, b"address\n", length=1000)
    assert api.call("GET", "/healthz")[0].status == 200
    assert api.call("GET", "/v1/messages")[0].status == 200


def test_of_large_bodies_only_a_few_are_read_at_once(kept: System, api: Served, clients: ExitStack) -> None:
    assert BODY_LIMITS.max_streams == 4
    with kept.engine.begin() as connection:
        others = [create_key(connection, f"writer {number}", Scope.WRITE).secret for number in range(2)]
    slow = []
    for key, number, refusal in ((ADMIN_KEY, 3, 429), (others[0], 2, 429), (others[1], 2, 503)):
        clients_of_key = [begin(api, clients, b"address\n", length=LARGE, key=key) for _ in range(number)]
        answered, _, _ = select.select(clients_of_key, [], [], PATIENCE_SECONDS)
        (answer,) = [client.recv(1000) for client in answered]
        assert answer.startswith(f"HTTP/1.1 {refusal}".encode())
        assert b"retry-after: " in answer
        slow += [client for client in clients_of_key if client not in answered]
    assert len(slow) == 4, "one key gets two places of four, the next ones half of the rest"
    assert api.call("POST", IMPORT, lines(1000), {"Content-Type": "text/csv"})[0].status == 202
    assert api.call("GET", "/v1/messages")[0].status == 200
    for client in slow:
        client.close()
    while not is_taken(api, clients, lines(LARGE)):
        pass  # until it was noticed that they have gone


def test_a_chunked_body_over_the_limit_is_refused_and_not_cut_off(api: Served, clients: ExitStack) -> None:
    client = clients.enter_context(socket.create_connection(("127.0.0.1", api.port), timeout=PATIENCE_SECONDS))
    head = f"POST /v1/sources HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
    client.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    body = b'{"slug": "s"' + b" " * (1 << 20) + b"}"
    client.sendall(b"%x\r\n%b\r\n" % (len(body), body))
    assert client.recv(1000).startswith(b"HTTP/1.1 413")


def is_taken(api: Served, clients: ExitStack, body: bytes) -> bool:
    """Whether this is taken; who is refused while it still sends may find the connection closed."""
    with suppress(ConnectionError):
        return bool(begin(api, clients, body, length=len(body)).recv(1000).startswith(b"HTTP/1.1 202"))
    return False


def test_an_oversized_body_is_rejected_without_reading_it(api: Served, clients: ExitStack) -> None:
    client = begin(api, clients, b"address\n", length=1 << 30)
    assert client.recv(1000).startswith(b"HTTP/1.1 413")
    unknown = begin(api, clients, b"address\n", length=LARGE, key="nobody's")
    assert unknown.recv(1000).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(("path", "key", "status"), [(IMPORT, "wrong", 401), ("/v1/alert-rules", ADMIN_KEY, 413)])
def test_a_client_that_sends_its_whole_body_first_sees_the_refusal(
    api: Served, clients: ExitStack, path: str, key: str, status: int
) -> None:
    part = b"x" * (1 << 20)
    client = begin(api, clients, b"", length=8 * len(part), path=path, key=key)
    for _ in range(8):
        client.sendall(part)
        time.sleep(0.02)  # so that a server that has closed the connection has time to say so
    assert client.recv(1000).startswith(b"HTTP/1.1 %d" % status)


def test_while_all_threads_are_busy_the_process_says_that_it_is_alive(
    kept: System, api: Served, clients: ExitStack
) -> None:
    with kept.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        for _ in range(THREADS + 1):
            begin(api, clients, b"", length=0, key="somebody's")
        assert api.call("GET", "/healthz")[0].status == 200


LIMITS = replace(BODY_LIMITS, small_bytes=10)


def read(
    limits: BodyLimits, *messages: dict[str, Any], length: int | None = None, budget: RequestBodyBudget | None = None
) -> tuple[bytes, int]:
    """What an application reads of a body that arrives like this and then stops; and how much of it was held."""

    async def serve() -> tuple[bytes, int]:
        coming = iter(messages)

        async def receive() -> dict[str, Any]:
            message = next(coming, None)
            if message is None:
                await asyncio.Event().wait()
            return message or {}

        headers = [(b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)]
        body = await (budget or RequestBodyBudget(limits)).open({"headers": headers}, receive)
        try:
            return await asyncio.to_thread(lambda: body.input.read() or b""), body.held_bytes
        finally:
            body.close()

    return asyncio.run(serve())


def failure(*arguments: Any, **options: Any) -> BodyFailure:
    """Why a body cannot be read."""
    with pytest.raises(RequestBodyError) as caught:
        read(*arguments, **options)
    return caught.value.failure


def piece(content: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


GONE = {"type": "http.disconnect"}


class TestABody:
    quick = replace(LIMITS, grace_seconds=0.01)

    def test_is_what_was_sent(self) -> None:
        assert read(BODY_LIMITS, piece(b"ab"), piece(b""), piece(b"cd", more=False)) == (b"abcd", 4)
        assert read(BODY_LIMITS, piece(b"abcd", more=False), length=4) == (b"abcd", 4)

    def test_of_unknown_length_is_held_as_far_as_it_is_small(self) -> None:
        content, held = read(LIMITS, *[piece(b"abcd")] * 20, piece(b"", more=False))
        assert len(content) == 80
        assert held == 12

    @pytest.mark.parametrize("length", [None, 5, 50])
    def test_that_stops_arriving_is_too_slow(self, length: int | None) -> None:
        assert failure(self.quick, piece(b"abcd"), length=length) is BodyFailure.TOO_SLOW

    def test_that_trickles_is_too_slow(self) -> None:
        limits = replace(BODY_LIMITS, grace_seconds=0.01, bytes_per_second=10_000)

        async def trickle() -> dict[str, Any]:
            await asyncio.sleep(0.005)
            return piece(b"a")

        async def read_all() -> bytes:
            scope = {"headers": [(b"transfer-encoding", b"chunked")]}
            body = await RequestBodyBudget(limits).open(scope, trickle)
            return body.input.read()

        with pytest.raises(RequestBodyError) as caught:
            asyncio.run(read_all())
        assert caught.value.failure is BodyFailure.TOO_SLOW

    @pytest.mark.parametrize("length", [None, 5, 50])
    def test_whose_sender_has_gone_is_incomplete(self, length: int | None) -> None:
        assert failure(LIMITS, piece(b"abcd"), GONE, length=length) is BodyFailure.INCOMPLETE

    @pytest.mark.parametrize("length", [5, 50])
    def test_that_is_shorter_than_announced_is_incomplete(self, length: int) -> None:
        assert failure(LIMITS, piece(b"abcd", more=False), length=length) is BodyFailure.INCOMPLETE

    def test_is_not_held_where_too_many_are(self) -> None:
        budget = RequestBodyBudget(replace(BODY_LIMITS, max_held_bytes=5))
        assert failure(BODY_LIMITS, piece(b"abcd"), piece(b"ef", more=False), budget=budget) is BodyFailure.TOO_MANY
        assert read(BODY_LIMITS, piece(b"abcd", more=False), budget=budget) == (b"abcd", 4)
