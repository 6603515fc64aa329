"""Requests are sent as their provider would send them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from simulator import post
from simulator.providers.base import RetryRule
from simulator.providers.mailwebhook.webhooks import MailWebhook
from simulator.staging import Answer, Posting
from tests.support.simulator_http import make_postings


@dataclass
class Receiver:
    """Answers with the given codes in turn, and with 200 when they are used up."""

    codes: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def take(self, body: bytes, connection: object) -> int:
        with self.lock:
            self.bodies.append(body)
            self.connections.add(connection)
            return self.codes.pop(0) if self.codes else 200


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = receiver.take(body, self.client_address)
            if code == 0:
                self.close_connection = True
                return
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/webhooks/x"
    yield receiver
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dialect() -> MailWebhook:
    return MailWebhook()


def test_one_connection_keeps_the_order_and_itself(receiver: Receiver, dialect: MailWebhook) -> None:
    postings = make_postings(dialect, 20)
    outcomes = post.send(postings, dialect, receiver.url, connections=1)
    assert receiver.bodies == [posting.body for posting in postings]
    assert len(receiver.connections) == 1
    assert outcomes.statuses == {200: 20}
    assert len(outcomes.latencies) == 20


def test_many_connections_send_everything_once(receiver: Receiver, dialect: MailWebhook) -> None:
    postings = make_postings(dialect, 60)
    post.send(postings, dialect, receiver.url, connections=6)
    assert sorted(receiver.bodies) == sorted(posting.body for posting in postings)


def test_a_failure_is_not_retried_by_default(receiver: Receiver, dialect: MailWebhook) -> None:
    receiver.codes = [503]
    outcomes = post.send(make_postings(dialect, 1), dialect, receiver.url)
    assert outcomes.statuses == {503: 1}
    assert [status for _, status in outcomes.surprises] == [503]


def test_a_retryable_failure_is_sent_again_on_the_providers_schedule(receiver: Receiver, dialect: MailWebhook) -> None:
    receiver.codes = [503, 429]
    rule = RetryRule(delays_seconds=(0, 0.05), statuses=frozenset({429, 503}))
    outcomes = post.send(make_postings(dialect, 1), dialect, receiver.url, retry=rule)
    assert outcomes.statuses == {503: 1, 429: 1, 200: 1}
    assert outcomes.retries == 2
    assert not outcomes.surprises
    assert len(set(receiver.bodies)) == 1


def test_a_terminal_failure_is_not_sent_again(receiver: Receiver, dialect: MailWebhook) -> None:
    receiver.codes = [404]
    outcomes = post.send(make_postings(dialect, 1), dialect, receiver.url, retry=dialect.TRAITS.retry)
    assert outcomes.statuses == {404: 1}
    assert outcomes.surprises


def test_the_last_attempt_is_the_last(receiver: Receiver, dialect: MailWebhook) -> None:
    receiver.codes = [500] * 9
    outcomes = post.send(make_postings(dialect, 1), dialect, receiver.url, retry=RetryRule(delays_seconds=(0, 0)))
    assert outcomes.statuses == {500: 3}
    assert len(outcomes.surprises) == 1


def test_a_connection_that_was_closed_while_idle_is_no_failure(receiver: Receiver, dialect: MailWebhook) -> None:
    receiver.codes = [200, 0, 200]
    outcomes = post.send(make_postings(dialect, 2), dialect, receiver.url, connections=1)
    assert outcomes.statuses == {200: 2}


def test_no_answer_at_all_is_status_zero(dialect: MailWebhook) -> None:
    outcomes = post.send(make_postings(dialect, 1), dialect, "http://127.0.0.1:9/webhooks/x")
    assert outcomes.statuses == {post.NO_ANSWER: 1}


def test_a_refused_forgery_is_no_surprise_and_an_accepted_one_is(receiver: Receiver, dialect: MailWebhook) -> None:
    [genuine] = make_postings(dialect, 1)
    forged = Posting(body=genuine.body, events=1, answer=Answer.REFUSED)
    receiver.codes = [401, 200]
    outcomes = post.send([forged, forged], dialect, receiver.url, connections=1)
    assert [status for _, status in outcomes.surprises] == [200]


def test_the_rate_is_kept(receiver: Receiver, dialect: MailWebhook) -> None:
    outcomes = post.send(make_postings(dialect, 21), dialect, receiver.url, rate=100)
    assert outcomes.seconds >= 0.2


def test_every_response_is_reported(receiver: Receiver, dialect: MailWebhook) -> None:
    statuses: list[int] = []
    post.send(
        make_postings(dialect, 5), dialect, receiver.url, on_answer=lambda _posting, status: statuses.append(status)
    )
    assert statuses == [200] * 5


def test_the_documented_schedules() -> None:
    rule = MailWebhook.TRAITS.retry
    assert [rule.next_delay(failures, 503) for failures in range(1, 7)] == [0, 30, 120, 600, 1800, None]
    assert rule.next_delay(1, 0) == 0
    assert rule.next_delay(1, 401) is None
