"""Whoever sends a body slowly, or much of it, does nobody else any harm."""

import asyncio
import json
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.embedded.server import eventually
from receiver.bodies import Bodies, Bounds
from receiver.refused import Refused
from shared.encryption import Vault, new_key
from shared.postgres import engine
from shared.providers.webhooks.base import StatusCodes
from shared.sources import store as sources
from shared.vocabulary import RefusalReason
from tests.conftest import DatabaseServer, new_database
from tests.receiver.test_door import BASIC, BODY, CLOUDMAILIN
from tests.support.servers import PATIENCE_SECONDS, Server, serving

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


@pytest.mark.parametrize("piece", [b"", b"half of it", b"x" * 100_000])
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


def test_bodies_that_wait_for_their_commit_are_held_up_to_a_bound() -> None:
    body = b"x" * 100

    async def scene() -> tuple[int, int]:
        bodies = Bodies(Bounds(most_held_bytes=250))
        with ExitStack() as stack:
            for _ in range(2):
                await stack.enter_context(bodies.one(CODES, LIMIT)).read(coming([body]), None)
            with pytest.raises(Refused) as caught:
                await read(bodies, coming([body]))
        assert await read(bodies, coming([body])) == body
        return caught.value.status_code, bodies.held

    assert asyncio.run(scene()) == (503, 0)


def test_who_comes_slowest_makes_room_for_who_comes() -> None:
    body = b"x" * 100

    async def scene() -> tuple[list[BaseException | None], bytes, int]:
        bodies = Bodies(Bounds(most_held_bytes=250))
        slow = [asyncio.create_task(read(bodies, halting(body[:size]))) for size in (100, 90)]
        await asyncio.sleep(0.02)
        taken = await read(bodies, coming([body]))
        await asyncio.sleep(0.02)
        given_up = [task.exception() for task in slow if task.done()]
        bodies.end()
        return given_up, taken, len(await asyncio.gather(*slow, return_exceptions=True))

    given_up, taken, ended = asyncio.run(scene())
    assert [str(one).partition(" in ")[0] for one in given_up] == ["the body took too long to come: 90 bytes"]
    assert (taken, ended) == (body, 2)


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
    named = dict(header.split(": ", 1) for header in headers)
    return stack.enter_context(served.begin("/webhooks/cm", {**BASIC, **named}, body))


def listens(served: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


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
            begin(served, stack, f"Content-Length: {LIMIT}", body=b"x" * 100_000)
    assert served.call("POST", "/webhooks/cm", BODY, BASIC)[0].status == 200


def test_headers_that_are_too_large_are_refused_unread(served: Server) -> None:
    with ExitStack() as stack:
        assert begin(served, stack, f"Signature: {'x' * 100_000}").recv(4096).startswith(b"HTTP/1.1 431")


def test_what_is_committed_is_told_so_although_it_cannot_be_counted(served: Server) -> None:
    counts = Path(tempfile.gettempdir(), f"tidings-receiver-{served.process.pid}")
    away = counts.rename(counts.with_name(f"away-{counts.name}"))
    try:
        assert served.call("POST", "/webhooks/cm", b"never counted" + BODY, BASIC)[0].status == 200
        assert served.call("POST", "/webhooks/unheard-of", b"")[0].status == 404
    finally:
        away.rename(counts)


def test_when_it_is_told_to_end_it_waits_for_who_is_about_to_and_for_nobody_else(served: Server) -> None:
    with ExitStack() as stack:
        about_to, never = (begin(served, stack, f"Content-Length: {len(BODY)}", body=BODY[:9]) for _ in range(2))
        assert served.call("POST", "/webhooks/cm", BODY, BASIC)[0].status == 200  # so those are under way
        served.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not listens(served), timeout_seconds=PATIENCE_SECONDS)
        about_to.sendall(BODY[9:])
        assert about_to.recv(4096).startswith(b"HTTP/1.1 200")
        assert never.recv(4096).startswith(b"HTTP/1.1 503")
    assert served.process.wait(PATIENCE_SECONDS) == 0
