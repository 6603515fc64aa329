"""Tracks open streams and long polls. Closes streams that are slow or no longer authorized."""

import asyncio
import os
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.core.rate_limit import Shares
from api.streaming.live_log import LiveLog
from api.streaming.stream import Stream
from shared.auth.keys import Caller
from shared.supervision import supervise

_SILENCE_MILLISECONDS = 60_000
_DESCRIPTORS = Path("/proc/self/fd")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections may wait, and when streams are closed; in seconds.

    A stream is too slow if a part of the log (64 KiB at most, or one change) takes it longer than `send_seconds`.
    Streams are checked every `check_seconds`, and their keys every `key_seconds`.
    """

    max_connections: int = 5000
    heartbeat_seconds: float = 15.0
    send_seconds: float = 30.0
    key_seconds: float = 30.0
    check_seconds: float = 1.0


class ConnectionManager:
    """All connections that wait on the event loop."""

    def __init__(self, live_log: LiveLog, threads: Executor, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.is_stopping = False
        self._log = live_log
        self._threads = threads
        self._streams: set[Stream] = set()
        self.shares = Shares(self.limits.max_connections, "streams and long polls")
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more connections may wait."""
        return self.is_stopping or self.shares.free <= 0

    @contextmanager
    def track(self, caller: Caller, stream: Stream | None = None) -> Iterator[None]:
        """Count a connection, and watch it if it is a stream."""
        if stream is not None:
            self._streams.add(stream)
        try:
            with self.shares.hold(caller):
                yield
        finally:
            if stream is not None:
                self._streams.discard(stream)

    def start(self) -> None:
        """Start to watch the streams."""
        self._task = asyncio.create_task(supervise("connections", self._reap))

    def stop(self) -> None:
        """Close all connections: the process stops."""
        self.is_stopping = True
        for stream in self._streams:
            stream.disconnect("this process stops")
        self._log.wake()

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _reap(self) -> None:
        keys_checked_at = time.monotonic()
        while True:
            await asyncio.sleep(self.limits.check_seconds)
            now = time.monotonic()
            for stream in tuple(self._streams):
                if stream.sending_since is not None and now - stream.sending_since > self.limits.send_seconds:
                    self._disconnect(stream, "too slow")
            if now - keys_checked_at > self.limits.key_seconds:
                await self._check_keys()
                keys_checked_at = now
            self._log.wake()  # so that streams notice their disconnection, and that a heartbeat is due

    async def _check_keys(self) -> None:
        """Close the streams whose key was revoked, or no longer grants the same."""
        loop = asyncio.get_running_loop()
        checks = {stream.follow.caller: stream.follow.is_authorized for stream in self._streams}
        for caller, is_authorized in checks.items():
            try:
                if await loop.run_in_executor(self._threads, is_authorized):
                    continue
            except SQLAlchemyError:
                continue
            for stream in self._streams:
                if stream.follow.caller == caller:
                    self._disconnect(stream, "the key was revoked")

    @staticmethod
    def _disconnect(stream: Stream, reason: str) -> None:
        if stream.disconnect(reason):
            log.info("stream disconnected", caller=stream.follow.caller.actor, reason=reason)


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
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                is_tcp = found.type == socket.SOCK_STREAM and found.family in {socket.AF_INET, socket.AF_INET6}
                if is_tcp and found.getsockname()[1] == port:
                    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MILLISECONDS)
