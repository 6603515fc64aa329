"""A busy event loop still receives the signals that end its process."""

import subprocess
import sys

SCRIPT = """
import asyncio, signal
from shared.http import shutdown

async def live():
    loop, ended, called = asyncio.get_running_loop(), asyncio.Event(), []
    loop.add_signal_handler(signal.SIGTERM, ended.set)  # as the server does
    shutdown.on_signal(lambda: called.append("called"))
    for _ in range(100_000):  # more than the socket holds by which a loop is woken, and hears of signals
        loop.call_soon_threadsafe(lambda: None)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(ended.wait(), 20)
    print(*called)

asyncio.run(live())
"""


def test_a_signal_is_received_although_the_wakeup_socket_is_full() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "called\n", ended.stderr
