"""Processes of the Procfile that serve HTTP, and clients of them."""

import http.client
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cli.embedded.server import eventually
from cli.supervisor import environment as supervisor_environment
from cli.supervisor import ports
from cli.supervisor.environment import ROOT, read_procfile
from cli.supervisor.ports import Address
from shared.encryption import new_key

PATIENCE_SECONDS = 60
_HOST = "127.0.0.1"
_START_SECONDS = 120
_STOP_SECONDS = 60


@dataclass
class Server:
    """A running process and its port. `headers` are sent with every call."""

    port: int
    process: subprocess.Popen[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request; the response and its body."""
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def begin(self, path: str, headers: Mapping[str, str], body: bytes = b"") -> socket.socket:
        """Begin a POST with the first bytes of its body; the socket to send the rest."""
        client = socket.create_connection((_HOST, self.port), timeout=PATIENCE_SECONDS)
        lines = [f"{name}: {value}\r\n" for name, value in {"Host": "here", **self.headers, **headers}.items()]
        client.sendall(f"POST {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body)
        return client

    def stop(self) -> int:
        """Stop it as its supervisor does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)


@contextmanager
def serving(name: str, database_url: str, settings: Mapping[str, str], *, port: int | None = None) -> Iterator[Server]:
    """Run a process of the Procfile, on this database and without a broker; on a free port unless one is given."""
    port = port or ports.free_port()
    environment = {
        "TIDINGS_HOST": _HOST,
        f"TIDINGS_{name.upper()}_PORT": str(port),
        "TIDINGS_DATABASE_URL": database_url,
        "TIDINGS_BROKER_URL": "redis://127.0.0.1:1/0",
        "TIDINGS_SECRET_KEYS": new_key(),
        **settings,
    }
    command = ["/bin/sh", "-c", f"exec {read_procfile()[name]}"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=supervisor_environment.merge_environment(environment), start_new_session=True
    )
    try:
        address = Address(host=_HOST, port=port)
        assert eventually(lambda: address.answers("/healthz"), timeout_seconds=_START_SECONDS)
        yield Server(port, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(_STOP_SECONDS)
