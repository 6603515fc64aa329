"""Connections that nobody reads any more, and those whose other end is gone, must not last."""

import os
import resource
import socket
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

_SILENCE_MILLISECONDS = 60_000
_DESCRIPTORS = Path("/proc/self/fd")
_MOST_FILES = 65_536


@cache
def limit_silence(port: int) -> None:
    """Have the kernel end connections to this port whose other end takes nothing for a minute.

    The server that accepts them sets no such limit. What is accepted inherits it from the socket that listens. Only
    Linux can tell a process its sockets; elsewhere the connections of sleepers last longer.
    """
    if not hasattr(socket, "TCP_USER_TIMEOUT") or not _DESCRIPTORS.is_dir():
        return
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names are what is wanted
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                _limit(int(name), port)


def _limit(descriptor: int, port: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as found:
        is_tcp = found.type == socket.SOCK_STREAM and found.family in {socket.AF_INET, socket.AF_INET6}
        if is_tcp and found.getsockname()[1] == port:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MILLISECONDS)


def allow_many() -> None:
    """Let this process have as many connections as the system grants: the usual limit is just about a thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
