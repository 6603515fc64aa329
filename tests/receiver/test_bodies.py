"""Whoever sends a body slowly, or much of it, does nobody else any harm."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.bodies import LARGE_BYTES, Bodies, Body, Bounds
from receiver.refused import Refused
from shared.db import engine, sources
from shared.domain.vocabulary import RefusalReason
from shared.providers.base import StatusCodes
from shared.secrets import Vault, new_key
from tests.conftest import DatabaseServer, new_database
from tests.receiver.test_door import BASIC, BODY, CLOUDMAILIN
from tests.serving import PATIENCE_SECONDS, Server, serving

LIMIT = 1 << 20
CODES = StatusCodes()

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


async def read(bodies: Bodies, receive: Receive, length: int | None = None, limit: int = LIMIT) -> bytes:
    with bodies.one(CODES, limit) as body:
        return await body.read(receive, length)


def refusal(bodies: Bodies, receive: Receive, length: int | None = None, limit: int = LIMIT) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        asyncio.run(read(bodies, receive, length, limit))
    return caught.value.status_code, caught.value.reason


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.booleans())
def test_a_body_is_what_its_pieces_are_up_to_the_limit(pieces: list[bytes], is_announced: bool) -> None:
    bodies, whole = Bodies(), b"".join(pieces)
    length = len(whole) if is_announced else None
    if len(whole) <= 100:
        assert asyncio.run(read(bodies, coming(pieces), length, limit=100)) == whole
    else:
        assert refusal(bodies, coming(pieces), length, limit=100) == (413, RefusalReason.TOO_LARGE)
    assert bodies.held == 0


@pytest.mark.parametrize("piece", [b"", b"half of it", b"x" * (LARGE_BYTES + 1)])
def test_a_body_that_does_not_come_is_waited_for_so_long_and_no_longer(piece: bytes) -> None:
    bodies = Bodies(Bounds(grace_seconds=0.01, bytes_per_second=1 << 30))
    assert refusal(bodies, halting(piece)) == (503, RefusalReason.UNREADABLE)
    assert bodies.held == 0


def test_who_sends_steadily_has_the_time_that_it_takes() -> None:
    bodies = Bodies(Bounds(grace_seconds=0.6, bytes_per_second=10))

    async def receive() -> Mapping[str, Any]:
        await asyncio.sleep(0.5)
        sent.append(b"0123456789")
        return {"type": "http.request", "body": sent[-1], "more_body": len(sent) < 4}

    sent: list[bytes] = []
    assert asyncio.run(read(bodies, receive)) == b"0123456789" * 4


def test_the_task_of_a_body_that_was_late_goes_on() -> None:
    async def scene() -> int:
        bodies = Bodies(Bounds(grace_seconds=0.01))
        with pytest.raises(Refused):
            await read(bodies, halting())
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return task.cancelling() if task else -1

    assert asyncio.run(scene()) == 0


def test_a_request_that_the_server_cancels_is_not_late() -> None:
    async def scene() -> None:
        reading = asyncio.create_task(read(Bodies(), halting()))
        await asyncio.sleep(0.01)
        reading.cancel()
        await reading

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scene())


def test_large_bodies_are_held_up_to_a_bound_and_small_ones_always() -> None:
    large, small = b"x" * (LARGE_BYTES + 1), b"x" * LARGE_BYTES

    async def scene() -> tuple[int, int]:
        bodies = Bodies(Bounds(most_held_bytes=2 * len(large)))
        with ExitStack() as stack:
            held: list[Body] = [stack.enter_context(bodies.one(CODES, LIMIT)) for _ in range(2)]
            for one in held:
                await one.read(coming([large]), None)
            with pytest.raises(Refused) as caught:
                await read(bodies, coming([large]))
            assert await read(bodies, coming([small])) == small
        assert await read(bodies, coming([large])) == large
        return caught.value.status_code, bodies.held

    assert asyncio.run(scene()) == (503, 0)


def test_a_body_that_ends_early_is_none() -> None:
    async def gone() -> Mapping[str, Any]:
        return {"type": "http.disconnect"}

    assert refusal(Bodies(), gone, length=10) == (400, RefusalReason.UNREADABLE)
    assert refusal(Bodies(), coming([b"123"]), length=10) == (400, RefusalReason.UNREADABLE)


@pytest.fixture(scope="module")
def served(postgres: DatabaseServer, template: str) -> Iterator[Server]:
    """A receiver as the Procfile starts it."""
    key = new_key()
    with new_database(postgres, template) as url:
        database = engine.create(url, application="test")
        with database.begin() as connection:
            sealed = Vault([key]).seal(CLOUDMAILIN)
            sources.create(connection, slug="cm", provider="cloudmailin", credentials=sealed, settings={})
        database.dispose()
        settings = {"TIDINGS_SECRET_KEYS": key, "TIDINGS_MAX_BODY_BYTES": str(LIMIT)}
        with serving("receiver", url, settings) as server:
            yield server


def begin(served: Server, stack: ExitStack, *headers: str, body: bytes = b"") -> socket.socket:
    """A request whose body begins like this."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS))
    lines = ["POST /webhooks/cm HTTP/1.1", "Host: here", f"Authorization: {BASIC['Authorization']}", *headers, "", ""]
    client.sendall("\r\n".join(lines).encode() + body)
    return client


def test_a_hundred_who_send_slowly_keep_nobody_waiting(served: Server) -> None:
    with ExitStack() as stack:
        slow = [begin(served, stack, f"Content-Length: {len(BODY)}", body=BODY[:9]) for _ in range(100)]
        response, told = served.call("POST", "/webhooks/cm", BODY, BASIC)
        assert response.status == 200
        for client in slow:
            client.sendall(BODY[9:])
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            assert json.loads(answer.partition(b"\r\n\r\n")[2]) == json.loads(told)


@pytest.mark.parametrize("length", [f"Content-Length: {LIMIT + 1}", "Transfer-Encoding: chunked"])
def test_what_is_too_large_is_refused_before_its_end(served: Server, length: str) -> None:
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


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(served: Server) -> None:
    with ExitStack() as stack:
        client = begin(served, stack, f"Content-Length: {len(BODY)}", "Expect: 100-continue")
        assert client.recv(4096).startswith(b"HTTP/1.1 100")
        client.sendall(BODY)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind(served: Server) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            begin(served, stack, f"Content-Length: {LIMIT}", body=b"x" * (LARGE_BYTES + 1))
    assert served.call("POST", "/webhooks/cm", BODY, BASIC)[0].status == 200


def test_it_ends_in_an_orderly_way_when_it_is_told_to(served: Server) -> None:
    assert served.stop() == 0
