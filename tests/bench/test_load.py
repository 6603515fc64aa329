"""The load generator sends each request once and counts the responses."""

import socket
import threading
from collections.abc import Iterator

import pytest

from bench import load

REQUEST = b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%02d"
LENGTH = len(REQUEST % 0)


class Stub:
    """A server that answers 200, a body in two pieces; every tenth request 503, and every 25th not at all."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listening.getsockname()
        return host, port

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while True:
                received = b""
                while len(received) < LENGTH:
                    chunk = connection.recv(LENGTH - len(received))
                    if not chunk:
                        return
                    received += chunk
                self.seen.append(received)
                number = int(received[-2:])
                if number % 25 == 24:
                    return
                status = b"503 Unavailable" if number % 10 == 9 else b"200 OK"
                connection.sendall(b"HTTP/1.1 " + status + b"\r\ncontent-length: 4\r\n\r\nfi")
                connection.sendall(b"ne")


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    yield server
    server.close()


def requests(count: int) -> list[bytes]:
    return [REQUEST % number for number in range(count)]


def test_every_request_is_sent_once_and_every_answer_is_counted(stub: Stub) -> None:
    outcome = load.run(stub.address, requests(90), connections=4)
    assert sorted(stub.seen) == requests(90)
    assert outcome.statuses == {200: 79, 503: 8, load.NO_ANSWER: 3}  # the 50th is both a tenth and a 25th
    assert outcome.sent == 90
    assert len(outcome.latencies) == 87


def test_a_rate_is_kept(stub: Stub) -> None:
    outcome = load.run(stub.address, requests(20), connections=4, rate=100)
    assert 0.19 <= outcome.seconds < 2
    assert outcome.accepted == 18


def test_nothing_is_sent_while_it_may_not(stub: Stub) -> None:
    asked = iter(range(1000))
    outcome = load.run(stub.address, requests(5), connections=2, may_send=lambda: next(asked) >= 20)
    assert outcome.accepted == 5
    assert next(asked) > 20


def test_it_ends_when_the_time_is_over_or_the_requests_are(stub: Stub) -> None:
    outcome = load.run(stub.address, requests(90), connections=1, seconds=0.2, rate=50)
    assert outcome.sent < 15
    assert not outcome.exhausted
    assert load.run(stub.address, requests(3), connections=1, seconds=5).exhausted


def test_percentiles_are_of_all_answers() -> None:
    assert load.percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 3.0
    assert load.percentile([3.0, 1.0, 2.0, 4.0], 1.0) == 4.0
    assert load.percentile([], 0.5) == 0.0
