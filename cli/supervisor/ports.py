"""TCP ports on this machine."""

import random
import socket
from pathlib import Path

_LINUX_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _HIGHEST = 15_000, 32_000


def free(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, from below the range that the system hands out to outgoing connections.

    A server that is started again wants its old port. In the range for outgoing connections a client's own
    attempt to reach the server, repeated while the server is down, could take that very port.
    """
    if not _LINUX_RANGE.exists() or int(_LINUX_RANGE.read_text().split()[0]) >= _HIGHEST:
        for _ in range(100):
            port = random.randint(_LOWEST, _HIGHEST - 1)  # noqa: S311 - no secret
            if is_free(port, host):
                return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
