"""The loop that closes streams survives an error that it does not expect."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from api.streaming.connections import ConnectionLimits, ConnectionManager
from api.streaming.live_log import LiveLog
from shared.supervision import failed_loops


class FaultyLog(LiveLog):
    """Fails at the first `wake`."""

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self.woken = asyncio.Event()

    def wake(self) -> None:
        if not self.failed.is_set():
            self.failed.set()
            raise RuntimeError("a bug")
        self.woken.set()


def test_connections_are_watched_again() -> None:
    async def run(log: FaultyLog) -> list[str]:
        with ThreadPoolExecutor(1) as threads:
            manager = ConnectionManager(log, threads, ConnectionLimits(check_seconds=0.01))
            manager.start()
            async with asyncio.timeout(30):
                await log.failed.wait()
                failed = failed_loops()
                await log.woken.wait()
            await manager.close()
        return failed

    assert asyncio.run(run(FaultyLog())) == ["connections"]
    assert failed_loops() == []
