"""All who stay: how many there are, who of them has to go."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.streaming.listener import Listener
from api.streaming.tail import Tail

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many may stay, and what is expected of listeners, in seconds.

    Who has not taken a part (at most 64 KiB, or one change) in `send_seconds` is too slow. `look_seconds` is how often
    it is looked who has to go, and `key_seconds` how often whether the keys still hold.
    """

    most: int = 5000
    heartbeat_seconds: float = 15.0
    send_seconds: float = 30.0
    key_seconds: float = 30.0
    look_seconds: float = 1.0


class Audience:
    """Who listens, or waits for an answer. Everything here happens on the event loop."""

    def __init__(self, tail: Tail, threads: Executor, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self.is_stopping = False
        self._tail = tail
        self._threads = threads
        self._listeners: set[Listener] = set()
        self._staying = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether nobody else may stay."""
        return self.is_stopping or self._staying >= self.patience.most

    @contextmanager
    def staying(self, listener: Listener | None = None) -> Iterator[None]:
        """Count somebody in for as long as this lasts, and look after a listener."""
        self._staying += 1
        if listener is not None:
            self._listeners.add(listener)
        try:
            yield
        finally:
            self._staying -= 1
            if listener is not None:
                self._listeners.discard(listener)

    def begin(self) -> None:
        """Look after those who come from now on."""
        self._task = asyncio.create_task(self._tend())

    def stop(self) -> None:
        """Let all go: the process stops."""
        self.is_stopping = True
        for listener in self._listeners:
            listener.cut("this process stops")
        self._tail.wake()

    async def close(self) -> None:
        """Look after nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _tend(self) -> None:
        keys_seen_at = time.monotonic()
        while True:
            await asyncio.sleep(self.patience.look_seconds)
            now = time.monotonic()
            for listener in self._listeners:
                if listener.sending_since is not None and now - listener.sending_since > self.patience.send_seconds:
                    self._cut(listener, "too slow")
            if now - keys_seen_at > self.patience.key_seconds:
                await self._see_keys()
                keys_seen_at = now
            self._tail.wake()  # those who were cut off, and those to whom a heartbeat is due

    async def _see_keys(self) -> None:
        """Cut off those whose key was revoked, or opens something else than before."""
        loop = asyncio.get_running_loop()
        for caller, is_admitted in {each.follow.caller: each.follow.is_admitted for each in self._listeners}.items():
            try:
                if await loop.run_in_executor(self._threads, is_admitted):
                    continue
            except SQLAlchemyError:
                continue
            for listener in self._listeners:
                if listener.follow.caller == caller:
                    self._cut(listener, "the key was revoked")

    @staticmethod
    def _cut(listener: Listener, reason: str) -> None:
        if listener.cut(reason):
            log.info("a listener is cut off", caller=listener.follow.caller.actor, reason=reason)
