"""Reliable delivery of SIGTERM and SIGINT to a busy event loop."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_RETRY_SECONDS = 0.01
_MAX_SIGNALS_PER_READ = 64


def on_signal(callback: Callable[[], None]) -> None:
    """Call `callback` on the running loop at the first SIGTERM or SIGINT, before the server acts on the signal.

    asyncio receives each signal as a byte on a socket (`signal.set_wakeup_fd`). Other threads wake the loop through the
    same socket. At thousands of requests a second it can be full, and then the signal is lost. So this function gives
    signals a separate socket, and forwards them to asyncio's.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    asyncio_fd = signal.set_wakeup_fd(writer.fileno())
    is_called = False

    def receive(_writer_kept_open: socket.socket) -> None:
        nonlocal is_called
        for number in reader.recv(_MAX_SIGNALS_PER_READ):
            if number in _SIGNALS and not is_called:
                is_called = True
                callback()
            forward(bytes([number]))

    def forward(number: bytes) -> None:
        try:
            os.write(asyncio_fd, number)
        except BlockingIOError:
            loop.call_later(_RETRY_SECONDS, forward, number)

    loop.add_reader(reader, receive, writer)
