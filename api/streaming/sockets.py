"""TCP settings of the API's connections: the kernel ends those whose client has gone."""

import os
import socket
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

_SILENCE_MILLISECONDS = 60_000
_DESCRIPTORS = Path("/proc/self/fd")


@cache
def limit_silence(port: int) -> None:
    """Let the kernel end connections to this port whose client acknowledges nothing for a minute.

    The server sets no such limit. Accepted connections inherit it from the listening socket. Only Linux lets a process
    find its sockets; elsewhere connections to sleeping clients last longer.
    """
    if not hasattr(socket, "TCP_USER_TIMEOUT") or not _DESCRIPTORS.is_dir():
        return
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - only the names are used
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                _limit(int(name), port)


def _limit(descriptor: int, port: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as found:
        is_tcp = found.type == socket.SOCK_STREAM and found.family in {socket.AF_INET, socket.AF_INET6}
        if is_tcp and found.getsockname()[1] == port:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MILLISECONDS)
