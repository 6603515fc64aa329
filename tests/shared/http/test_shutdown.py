"""A signal to stop reaches the event loop, however busy that is."""

import subprocess
import sys

SCRIPT = """
import asyncio, signal
from shared.asgi import endings

async def live():
    loop, ended, told = asyncio.get_running_loop(), asyncio.Event(), []
    loop.add_signal_handler(signal.SIGTERM, ended.set)  # as the server does
    endings.heed(lambda: told.append("told"))
    for _ in range(100_000):  # more than the socket holds by which a loop is woken, and hears of signals
        loop.call_soon_threadsafe(lambda: None)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(ended.wait(), 20)
    print(*told)

asyncio.run(live())
"""


def test_a_signal_that_finds_the_pipe_full_is_handled_all_the_same() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "told\n", ended.stderr
