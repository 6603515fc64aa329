"""Slow, large or broken request bodies do not disturb other requests."""

import asyncio
import json
import os
import signal
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.embedded.server import eventually
from shared.encryption import Vault, new_key
from shared.http.greenlets import GreenletPool
from shared.http.request_body import BodyFailure, BodyLimits, RequestBody, RequestBodyBudget, RequestBodyError
from shared.postgres import engine
from shared.sources import store as sources
from tests.receiver.test_app import BASIC, BODY, CLOUDMAILIN
from tests.support.databases import DatabasePool
from tests.support.servers import PATIENCE_SECONDS, Server, serving

LIMIT = 1 << 20
LIMITS = BodyLimits(small_bytes=50, grace_seconds=10, bytes_per_second=64 * 1024, holds_streams=True)

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


def coming(pieces: Sequence[bytes]) -> Receive:
    """A body that comes in these pieces."""
    left = list(pieces)

    async def receive() -> Mapping[str, Any]:
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    return receive


def halting(piece: bytes = b"") -> Receive:
    """A body that begins and never goes on."""
    left = [piece]

    async def receive() -> Mapping[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    return receive


@asynccontextmanager
async def opened(budget: RequestBodyBudget, receive: Receive, length: int | None = None) -> AsyncIterator[RequestBody]:
    header = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
    body = await budget.open({"headers": [header]}, receive)
    try:
        yield body
    finally:
        body.close()


async def read(budget: RequestBodyBudget, receive: Receive, length: int | None = None) -> bytes:
    """The body, as a view on the event loop reads it."""
    async with opened(budget, receive, length) as body:
        return await GreenletPool().run(body.input.read)


def failure(budget: RequestBodyBudget, receive: Receive, length: int | None = None) -> BodyFailure:
    with pytest.raises(RequestBodyError) as caught:
        asyncio.run(read(budget, receive, length))
    return caught.value.failure


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.booleans())
def test_a_body_is_the_sum_of_its_chunks(pieces: list[bytes], is_announced: bool) -> None:
    budget, whole = RequestBodyBudget(LIMITS), b"".join(pieces)
    assert asyncio.run(read(budget, coming(pieces), len(whole) if is_announced else None)) == whole
    assert budget.held_bytes == 0


@pytest.mark.parametrize("size", [0, 20, 100])
def test_a_body_is_complete_with_its_announced_length(size: int) -> None:
    body = b"x" * size
    assert asyncio.run(read(RequestBodyBudget(LIMITS), halting(body), size)) == body


@pytest.mark.parametrize("piece", [b"", b"half of it", b"x" * 100_000])
def test_a_body_that_stops_arriving_is_waited_for_so_long_and_no_longer(piece: bytes) -> None:
    budget = RequestBodyBudget(replace(LIMITS, grace_seconds=0.01, bytes_per_second=1 << 30))
    assert failure(budget, halting(piece)) is BodyFailure.TOO_SLOW
    assert budget.held_bytes == 0


def test_a_steady_sender_has_the_time_that_its_body_takes() -> None:
    budget = RequestBodyBudget(replace(LIMITS, grace_seconds=0.6, bytes_per_second=10))

    async def receive() -> Mapping[str, Any]:
        await asyncio.sleep(0.3 if sent else 0.0)
        sent.append(b"0123456789")
        return {"type": "http.request", "body": sent[-1], "more_body": len(sent) < 4}

    sent: list[bytes] = []
    assert asyncio.run(read(budget, receive)) == b"0123456789" * 4


def test_the_task_of_a_body_that_was_late_goes_on() -> None:
    async def scene() -> int:
        budget = RequestBodyBudget(replace(LIMITS, grace_seconds=0.01))
        with pytest.raises(RequestBodyError):
            await read(budget, halting())
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return task.cancelling() if task else -1

    assert asyncio.run(scene()) == 0


@pytest.mark.parametrize("piece", [b"", b"x" * 100])
def test_a_request_that_the_server_cancels_is_not_late(piece: bytes) -> None:
    async def scene() -> None:
        reading = asyncio.create_task(read(RequestBodyBudget(LIMITS), halting(piece)))
        await asyncio.sleep(0.01)
        reading.cancel()
        await reading

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scene())


@pytest.mark.parametrize("size", [100, 20])
def test_bodies_that_wait_for_their_commit_are_held_up_to_a_limit(size: int) -> None:
    body = b"x" * size

    async def scene() -> int:
        budget = RequestBodyBudget(replace(LIMITS, max_held_bytes=2 * size + size // 2))
        async with opened(budget, coming([body])) as first, opened(budget, coming([body])) as second:
            for held in (first, second):
                assert await GreenletPool().run(held.input.read) == body
            with pytest.raises(RequestBodyError, match="Too many request bodies"):
                await read(budget, coming([body]))
        assert await read(budget, coming([body])) == body
        return budget.held_bytes

    assert asyncio.run(scene()) == 0


def test_the_slowest_sender_makes_room_for_others() -> None:
    body = b"x" * 100

    async def scene() -> tuple[list[BaseException | None], bytes, int]:
        budget = RequestBodyBudget(replace(LIMITS, max_held_bytes=250))
        slow = [asyncio.create_task(read(budget, halting(b"x" * size))) for size in (140, 20)]
        while budget.held_bytes < 160:  # noqa: ASYNC110
            await asyncio.sleep(0)
        taken = await read(budget, coming([body]))
        await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        evicted = [task.exception() for task in slow if task.done()]
        budget.shut_down()
        return evicted, taken, len(await asyncio.gather(*slow, return_exceptions=True))

    evicted, taken, ended = asyncio.run(scene())
    assert [str(one).partition(" in ")[0] for one in evicted] == ["The request body arrived too slowly: 20 bytes"]
    assert (taken, ended) == (body, 2)


def test_a_body_that_ends_early_is_incomplete() -> None:
    async def gone() -> Mapping[str, Any]:
        return {"type": "http.disconnect"}

    assert failure(RequestBodyBudget(LIMITS), gone, length=10) is BodyFailure.INCOMPLETE
    assert failure(RequestBodyBudget(LIMITS), coming([b"123"]), length=10) is BodyFailure.INCOMPLETE


@pytest.fixture(scope="module")
def served(databases: DatabasePool) -> Iterator[Server]:
    """A receiver as the Procfile starts it."""
    key = new_key()
    with databases.database() as url:
        database = engine.create_engine(url, application="test")
        with database.begin() as connection:
            sealed = Vault([key]).seal(CLOUDMAILIN)
            sources.create(connection, slug="cm", provider="cloudmailin", credentials=sealed, settings={})
        database.dispose()
        settings = {"TIDINGS_SECRET_KEYS": key, "TIDINGS_MAX_BODY_BYTES": str(LIMIT)}
        with serving("receiver", url, settings) as server:
            yield server


def begin(served: Server, stack: ExitStack, *headers: str, body: bytes = b"") -> socket.socket:
    """A request whose body begins like this."""
    named = dict(header.split(": ", 1) for header in headers)
    return stack.enter_context(served.begin("/webhooks/cm", {**BASIC, **named}, body))


def listens(served: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


def test_a_hundred_slow_senders_delay_no_one_else(served: Server) -> None:
    with ExitStack() as stack:
        slow = [begin(served, stack, f"Content-Length: {len(BODY)}", body=BODY[:9]) for _ in range(100)]
        response, stored = served.call("POST", "/webhooks/cm", BODY, BASIC)
        assert response.status == 200
        for client in slow:
            client.sendall(BODY[9:])
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            assert json.loads(answer.partition(b"\r\n\r\n")[2]) == json.loads(stored)


@pytest.mark.parametrize("length", [f"Content-Length: {LIMIT + 1}", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_refused_before_its_end(served: Server, length: str) -> None:
    with ExitStack() as stack:
        client = begin(served, stack, length, body=b"%x\r\n" % (2 * LIMIT) if "chunked" in length else b"")
        if "chunked" in length:
            client.sendall(b"x" * (LIMIT + 1))
        assert client.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_in_chunks_is_taken(served: Server) -> None:
    with ExitStack() as stack:
        body = b"1\r\n" + BODY[:1] + b"\r\n%x\r\n" % (len(BODY) - 1) + BODY[1:] + b"\r\n0\r\n\r\n"
        client = begin(served, stack, "Transfer-Encoding: chunked", body=body)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_client_that_expects_100_continue_gets_it(served: Server) -> None:
    with ExitStack() as stack:
        client = begin(served, stack, f"Content-Length: {len(BODY)}", "Expect: 100-continue")
        assert client.recv(4096).startswith(b"HTTP/1.1 100")
        client.sendall(BODY)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind(served: Server) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            begin(served, stack, f"Content-Length: {LIMIT}", body=b"x" * 100_000)
    assert served.call("POST", "/webhooks/cm", BODY, BASIC)[0].status == 200


def test_headers_that_are_too_large_are_refused_unread(served: Server) -> None:
    with ExitStack() as stack:
        assert begin(served, stack, f"Signature: {'x' * 100_000}").recv(4096).startswith(b"HTTP/1.1 431")


def test_a_stored_webhook_is_200_although_it_cannot_be_counted(served: Server) -> None:
    counts = Path(tempfile.gettempdir(), f"tidings-receiver-{os.getuid()}", str(served.process.pid))
    assert stat.S_IMODE(counts.parent.stat().st_mode) == 0o700, "nobody else can put files there"
    away = counts.rename(counts.with_name(f"away-{counts.name}"))
    try:
        assert served.call("POST", "/webhooks/cm", b"never counted" + BODY, BASIC)[0].status == 200
        assert served.call("POST", "/webhooks/unheard-of", b"")[0].status == 404
    finally:
        away.rename(counts)


def test_a_receiver_that_stops_waits_two_seconds_for_bodies_that_still_arrive(served: Server) -> None:
    with ExitStack() as stack:
        about_to, never = (begin(served, stack, f"Content-Length: {len(BODY)}", body=BODY[:9]) for _ in range(2))
        assert served.call("POST", "/webhooks/cm", BODY, BASIC)[0].status == 200  # so those are under way
        served.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not listens(served), timeout_seconds=PATIENCE_SECONDS)
        about_to.sendall(BODY[9:])
        assert about_to.recv(4096).startswith(b"HTTP/1.1 200")
        assert never.recv(4096).startswith(b"HTTP/1.1 503")
    assert served.process.wait(PATIENCE_SECONDS) == 0
