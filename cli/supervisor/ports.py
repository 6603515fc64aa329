"""TCP ports on this machine, and the addresses of the receiver and the API."""

import http.client
import random
import socket
from dataclasses import dataclass
from pathlib import Path

_LINUX_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _HIGHEST = 15_000, 32_000


def free_port(host: str = "127.0.0.1") -> int:
    """Return a free port below the range that the system uses for outgoing connections.

    A restarted server needs its old port. In the range for outgoing connections, a client that tries to reconnect
    while the server is down could take that port.
    """
    if not _LINUX_RANGE.exists() or int(_LINUX_RANGE.read_text().split()[0]) >= _HIGHEST:
        for _ in range(100):
            port = random.randint(_LOWEST, _HIGHEST - 1)  # noqa: S311 - no secret
            if is_port_free(port, host):
                return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_port_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server can listen on this port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address that the receiver or the API listens on."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """Return the host to connect to: the loopback address if the server listens on all addresses."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        """Return the base URL, without a slash at the end."""
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def answers(self, path: str) -> bool:
        """Return whether a GET of this path returns 200 now."""
        connection = http.client.HTTPConnection(self.reachable_host, self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
