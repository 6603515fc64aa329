"""The receiver answers alike under a plain WSGI server and on the event loop that the Procfile starts."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.embedded.server import eventually
from cli.supervisor import environment, ports
from cli.supervisor.environment import ROOT, read_procfile
from cli.supervisor.ports import Address
from shared.encryption import Vault, new_key
from shared.postgres import engine
from shared.sources import store as sources
from tests.receiver.test_app import BASIC, BODY, CLOUDMAILIN
from tests.support.databases import DatabasePool
from tests.support.servers import PATIENCE_SECONDS, Server

COMMANDS = {
    "event loop": read_procfile()["receiver"],
    "gunicorn": "gunicorn --bind $TIDINGS_HOST:$TIDINGS_RECEIVER_PORT --worker-class gthread --workers 2 --threads 8"
    " --no-control-socket --log-level warning receiver.wsgi:app",
}
LIMIT = 10_000


@contextmanager
def running(command: str, database_url: str, secret_key: str) -> Iterator[Server]:
    address = Address(host="127.0.0.1", port=ports.free_port())
    settings = {
        "TIDINGS_HOST": address.host,
        "TIDINGS_RECEIVER_PORT": str(address.port),
        "TIDINGS_DATABASE_URL": database_url,
        "TIDINGS_BROKER_URL": "redis://127.0.0.1:1/0",
        "TIDINGS_SECRET_KEYS": secret_key,
        "TIDINGS_MAX_BODY_BYTES": str(LIMIT),
    }
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {command}"],
        cwd=ROOT,
        env={**os.environ, **environment.merge_environment(settings)},
        start_new_session=True,
    )
    server = Server(address.port, process)
    try:
        assert eventually(lambda: address.answers("/healthz"), timeout_seconds=PATIENCE_SECONDS)
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest, databases: DatabasePool) -> Iterator[Server]:
    secret_key = new_key()
    with databases.database() as url:
        database = engine.create_engine(url, application="test")
        with database.begin() as connection:
            credentials = Vault([secret_key]).seal(CLOUDMAILIN)
            sources.create(connection, slug="cm", provider="cloudmailin", credentials=credentials, settings={})
        database.dispose()
        with running(COMMANDS[request.param], url, secret_key) as server:
            yield server


def test_a_webhook_is_accepted_and_its_repetition_has_the_same_receipt(server: Server) -> None:
    first, receipt = server.call("POST", "/webhooks/cm", BODY, BASIC)
    second, repeated = server.call("POST", "/webhooks/cm", BODY, BASIC)
    assert (first.status, second.status) == (200, 200)
    assert first.headers["Content-Type"] == "application/json"
    assert receipt == repeated


def test_a_wrong_password_is_401(server: Server) -> None:
    response, body = server.call("POST", "/webhooks/cm", BODY, {"Authorization": "Basic dTpw"})
    assert response.status == 401
    assert b'"bad_credentials"' in body


def test_an_unknown_source_is_404(server: Server) -> None:
    assert server.call("POST", "/webhooks/unknown", BODY, BASIC)[0].status == 404
    assert server.call("POST", "/webhooks/cm/more", BODY, BASIC)[0].status == 404
    assert server.call("GET", "/")[0].status == 404


def test_a_body_is_accepted_up_to_the_limit(server: Server) -> None:
    assert server.call("POST", "/webhooks/cm", b"x" * LIMIT, BASIC)[0].status == 200
    assert server.call("POST", "/webhooks/cm", b"x" * (LIMIT + 1), BASIC)[0].status == 413


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413)])
def test_a_body_without_a_length_has_the_same_limit(server: Server, size: int, status: int) -> None:
    with server.begin("/webhooks/cm", {**BASIC, "Transfer-Encoding": "chunked"}) as client:
        client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"y" * size))
        assert client.recv(4096).startswith(b"HTTP/1.1 %d" % status)


def test_a_compressed_body_is_415(server: Server) -> None:
    assert server.call("POST", "/webhooks/cm", BODY, {**BASIC, "Content-Encoding": "gzip"})[0].status == 415


def test_other_methods_are_405_with_those_that_are_allowed(server: Server) -> None:
    response, _ = server.call("PUT", "/webhooks/cm", BODY, BASIC)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_set_up_probe_is_200_for_a_source_that_exists(server: Server, method: str) -> None:
    assert server.call(method, "/webhooks/cm")[0].status == 200
    assert server.call(method, "/webhooks/unknown")[0].status == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_operators_see_health_readiness_and_metrics(server: Server, path: str) -> None:
    assert server.call("GET", path)[0].status == 200
    assert server.call("HEAD", path)[0].status == 200


def test_requests_are_counted_for_all_processes(server: Server) -> None:
    server.call("POST", "/webhooks/cm", b"counted" + BODY, BASIC)
    wanted = b'tidings_receiver_requests_total{outcome="accepted",source="cm"}'
    assert eventually(lambda: wanted in server.call("GET", "/metrics")[1], timeout_seconds=PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("path", "size", "status"), [("/webhooks/cm", 8 << 20, 413), ("/webhooks/unknown", 8 << 20, 404)]
)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_client_that_sends_its_whole_body_first_sees_the_refusal(
    server: Server, path: str, size: int, status: int, *, is_chunked: bool
) -> None:
    if "gunicorn" in str(server.process.args):
        pytest.skip("only the server of the Procfile reads what the application does not")
    length = {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str(size)}
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"y" * size) if is_chunked else b"y" * size
    with server.begin(path, {**BASIC, **length}) as client:
        for begin in range(0, len(body), 1 << 20):
            client.sendall(body[begin : begin + (1 << 20)])
            time.sleep(0.02)  # so that a server that has closed the connection has time to say so
        assert client.recv(4096).startswith(b"HTTP/1.1 %d" % status)


def test_what_processes_share_starts_no_thread_and_opens_no_metrics() -> None:
    """A thread would be missing after the fork, and metrics need the directory of the server."""
    program = """
import sys, threading
from importlib import import_module
from receiver.__main__ import LIBRARIES

for library in LIBRARIES:
    import_module(library)
print(threading.active_count(), "prometheus_client" in sys.modules, "receiver.app" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "1 False False\n"
