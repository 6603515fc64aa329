"""The signals that end a process, heard on its event loop however busy that is."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable

_ENDING = (signal.SIGTERM, signal.SIGINT)
_AGAIN_SECONDS = 0.01
_MOST_AT_ONCE = 64


def heed(told: Callable[[], None]) -> None:
    """Have `told` called on the running loop at the first sign of the end, before the server ends anything.

    The server has asyncio listen for signals, which it does by a byte in a socket (`signal.set_wakeup_fd`). Other
    threads wake the loop by the same socket, and while thousands of requests come and go it can be full: then the
    signal is lost, and the process is killed later. So they get a socket of their own, from which they are passed on.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    heard, said = socket.socketpair()
    heard.setblocking(False)
    said.setblocking(False)
    of_loop = signal.set_wakeup_fd(said.fileno())
    is_told = False

    def hear(_kept_open: socket.socket) -> None:
        nonlocal is_told
        for number in heard.recv(_MOST_AT_ONCE):
            if number in _ENDING and not is_told:
                is_told = True
                told()
            pass_on(bytes([number]))

    def pass_on(number: bytes) -> None:
        try:
            os.write(of_loop, number)
        except BlockingIOError:
            loop.call_later(_AGAIN_SECONDS, pass_on, number)

    loop.add_reader(heard, hear, said)
