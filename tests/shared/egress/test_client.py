"""The client makes many calls at once, and no response can block it or fill its memory."""

import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.egress.client import EgressClient, EgressClientError
from shared.egress.handle import MAX_BODY_BYTES
from shared.egress.types import Call, Outcome
from tests.support import http_sink
from tests.support.egress import collect_outcomes
from tests.support.http_sink import HttpSink, answer

LOOPBACK = [ip_network("127.0.0.0/8")]


@pytest.fixture
def sender() -> Iterator[EgressClient]:
    sender = EgressClient(LOOPBACK)
    yield sender
    sender.close()


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def call(url: str, timeout_seconds: float = 60, body: bytes = b"{}") -> Call:
    return Call(key=uuid4(), url=url, headers=(("X-One", "1"),), body=body, timeout_seconds=timeout_seconds)


def outcome_of(sender: EgressClient, made: Call) -> Outcome:
    sender.submit([made])
    (outcome,) = sender.collect(60)
    assert outcome.key == made.key
    return outcome


def test_a_response_is_an_outcome_whatever_its_status(sender: EgressClient, sink: HttpSink) -> None:
    for status in (200, 204, 302, 404, 503):
        sink.then(answer(status, b"" if status == 204 else b"body", X_Name="value", Location=sink.url))
        outcome = outcome_of(sender, call(sink.url))
        assert (outcome.http_status, outcome.network_error, outcome.truncated) == (status, None, False)
        assert outcome.headers["x-name"] == "value"
    assert len(sink.received) == 5  # no redirect was followed
    assert sink.received[0].headers["x-one"] == "1"


def test_a_large_body_is_sent_without_asking(sender: EgressClient, sink: HttpSink) -> None:
    body = b"a" * 2_000_000
    assert outcome_of(sender, call(sink.url, body=body)).http_status == 200
    assert sink.received[0].body == body
    assert "expect" not in sink.received[0].headers


def test_a_header_with_a_line_break_is_refused_before_anything_is_sent(sender: EgressClient, sink: HttpSink) -> None:
    outcome = outcome_of(sender, replace(call(sink.url), headers=(("X-One", "1\r\nX-Injected: 1"),)))
    assert outcome.http_status == 0
    assert "line break" in (outcome.network_error or "")
    assert sink.received == []


@pytest.mark.parametrize("behaviour", [http_sink.hang, http_sink.drip, http_sink.drip_headers])
def test_what_does_not_answer_in_time_is_no_response(
    sender: EgressClient, sink: HttpSink, behaviour: http_sink.Behaviour
) -> None:
    sink.then(behaviour)
    outcome = outcome_of(sender, call(sink.url, timeout_seconds=0.5))
    assert outcome.http_status == 0
    assert "timed out" in (outcome.network_error or "").lower()
    assert outcome.latency_ms >= 400


def test_a_body_that_drips_is_cut_at_the_deadline_and_its_status_counts(sender: EgressClient, sink: HttpSink) -> None:
    sink.then(http_sink.drip_body)
    outcome = outcome_of(sender, call(sink.url, timeout_seconds=3))
    assert (outcome.http_status, outcome.truncated, outcome.network_error) == (200, True, None)


def test_a_body_without_an_end_is_read_up_to_a_limit(sender: EgressClient, sink: HttpSink) -> None:
    sink.then(http_sink.endless)
    outcome = outcome_of(sender, call(sink.url))
    assert (outcome.http_status, outcome.truncated, len(outcome.body)) == (200, True, MAX_BODY_BYTES)


def test_headers_without_an_end_are_read_up_to_a_limit(sender: EgressClient, sink: HttpSink) -> None:
    def talk(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        handler.send_response(200)
        for number in range(10_000):
            handler.send_header(f"X-{number}", "a" * 100)
        handler.end_headers()

    sink.then(talk)
    outcome = outcome_of(sender, call(sink.url))
    assert (outcome.http_status, outcome.network_error) == (
        0,
        "the headers of the response are larger than 32768 bytes",
    )


def test_a_closed_connection_is_no_response(sender: EgressClient, sink: HttpSink) -> None:
    sink.then(http_sink.hang_up)
    assert outcome_of(sender, call(sink.url)).http_status == 0


@pytest.mark.parametrize("line", [b"HTTP/1.1 100 Continue\r\n\r\n", b"hello\r\n", b"HTTP/1.1 twohundred\r\n\r\n", b""])
def test_what_is_no_final_response_is_none(sender: EgressClient, sink: HttpSink, line: bytes) -> None:
    def say(handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        handler.wfile.write(line)

    sink.then(say)
    outcome = outcome_of(sender, call(sink.url))
    assert outcome.http_status == 0
    assert outcome.network_error


def test_hundreds_are_under_way_at_once_and_those_that_hang_hold_up_none(sender: EgressClient, sink: HttpSink) -> None:
    with http_sink.http_sink() as hanging:
        hanging.always = http_sink.hang
        sender.submit([call(hanging.url, timeout_seconds=60) for _ in range(50)])
        quick = [call(sink.url) for _ in range(300)]
        found = collect_outcomes(sender, quick)
        assert {(outcome.http_status, outcome.network_error) for outcome in found} == {(200, None)}


def test_a_request_that_cannot_be_made_is_reported_as_such(sender: EgressClient) -> None:
    assert outcome_of(sender, call("http://127.0.0.1:99999/")).http_status == 0
    assert "cannot be made" in (outcome_of(sender, call("http://127.0.0.1/\x00")).network_error or "")


def test_waiting_can_be_ended_from_another_thread(sender: EgressClient) -> None:
    timer = threading.Timer(0.05, sender.wake)
    timer.start()
    assert sender.collect(60) == []
    timer.join()


def test_an_abandoned_call_has_no_outcome(sender: EgressClient, sink: HttpSink) -> None:
    sink.then(http_sink.hang)
    sender.submit([call(sink.url)])
    while not sink.received:
        time.sleep(0.01)
    sender.abandon()
    assert outcome_of(sender, call(sink.url)).http_status == 200


def test_a_sender_that_was_closed_says_so(sink: HttpSink) -> None:
    sender = EgressClient(LOOPBACK)
    sender.close()
    with pytest.raises(EgressClientError):
        sender.submit([call(sink.url)])


def test_a_certificate_of_an_unknown_authority_is_refused(sender: EgressClient, tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        """No client gets as far as a request."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    outcome = outcome_of(sender, call(f"https://127.0.0.1:{server.server_port}/"))
    thread.join()
    server.server_close()
    assert outcome.http_status == 0
    assert "certificate" in (outcome.network_error or "").lower()


def _certificate(directory: Path) -> Path:
    """One that it has signed itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path
